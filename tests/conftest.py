"""Tiny random models and a tiny tokenizer, made in seconds, offline: the oracles of the test suite."""

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

# Tiny models are fastest on one thread: several wait for each other longer than they compute. It is set before torch is
# loaded, and in the environment, for the commands that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

if "pytest" in sys.modules:  # before the package is loaded; scripts that borrow the tiny models run unchecked
    import typechecks  # noqa: F401

    gc.disable()  # while modules are imported, which leaves no garbage

import pytest

if TYPE_CHECKING:  # torch and the package are loaded where they are used: pytest-xdist's first process never needs them
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from mechdrift.pairs.pair import Pair

SPECIAL = ("<|im_end|>", "<|im_start|>")
CHATML = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' "
    "%}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
COMMON = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
FAMILIES = {
    "llama": {},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    "mistral": {"sliding_window": 16},
    "phi3": {"pad_token_id": 0},
    "gemma3_text": {"head_dim": 8, "sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"] * 2},
    "gpt_neox": {},
}


LONG = (
    *("planting", "trajectory", "audit", "report", "cli", "comparison"),
    *("censoring", "docstrings", "faults", "scores", "old_runs", "waves"),
)


def pytest_collection_finish() -> None:
    """What was imported is never garbage: a collection need not look at its million objects again."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest begin first, so that no process waits for one of them at the end."""
    order = {f"test_{name}.py": place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


def make_tokenizer(template: str | None = CHATML) -> "PreTrainedTokenizerFast":
    """A byte-level tokenizer without merges: one token a byte, plus the special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=SPECIAL[0], bos_token=SPECIAL[1], pad_token=SPECIAL[0]
    )
    fast.chat_template = template
    return fast


def make_model(family: str = "llama", seed: int = 0, **changes) -> "PreTrainedModel":
    """A randomly initialised model of a family, a few thousand parameters, in float32."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    torch.manual_seed(seed)
    config = CONFIG_MAPPING[family](**(COMMON | FAMILIES[family] | {"vocab_size": 258, "eos_token_id": 0} | changes))
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)  # livelier than the default initialisation, so that errors are visible
    return model


def save_model(folder: Path, family: str = "llama", seed: int = 0, **changes) -> Path:
    make_model(family, seed, **changes).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def make_pair(
    folder: Path, family: str = "llama", seeds: tuple[int, int] = (0, 1), changes: dict[str, int] | None = None
) -> "Pair":
    from mechdrift.pairs.loading import ModelSource
    from mechdrift.pairs.pair import Pair

    sources = [
        ModelSource(name=name, path=str(save_model(folder / name, family, seed, **(changes or {}))))
        for name, seed in zip(("parent", "child"), seeds, strict=True)
    ]
    return Pair(name="tiny", instruct=sources[0], reasoning=sources[1])


@pytest.fixture(scope="session")
def tiny_pair(tmp_path_factory) -> "Pair":
    """Two unrelated random Llama models with the same tokenizer."""
    return make_pair(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def twin_pair(tmp_path_factory) -> "Pair":
    """A model and its identical copy."""
    return make_pair(tmp_path_factory.mktemp("twins"), seeds=(0, 0))


@pytest.fixture
def own_dimensions():
    """Dimensions that a test adds are gone after it."""
    from mechdrift.behaviour.dimensions.registry import REGISTRY
    from mechdrift.probes.sets import ADDED
    from mechdrift.records import DIMENSIONS

    built_in = list(DIMENSIONS)
    yield
    for name in DIMENSIONS[len(built_in) :]:
        del REGISTRY[name], ADDED[name]
    DIMENSIONS[:] = built_in


@pytest.fixture
def mechdrift(monkeypatch, capsys, tmp_path) -> Callable:
    """Run a command line in this process, in an empty folder: exit code, standard output, standard error."""
    from mechdrift import cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MECHDRIFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mechdrift", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        return code, *capsys.readouterr()

    return run
