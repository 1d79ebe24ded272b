"""Does mechdrift hold on a GPU at real size? An 8B model with random weights, in under six minutes.

    experiments/gpu/check.sh                       # on a machine with a GPU: writes experiments/gpu/check.md
    python experiments/gpu/check.py --tiny         # the same steps with a small model on any device

Four questions, one row each in the table that is written:

    reading      How many tokens of thinking a second are read at four quarters and all layers, against one bare forward
                 pass over the same ids?
    memory       How much memory does that take beyond the weights, at 2,048 and at 8,192 tokens? One layer's states and
                 one part of an MLP are the bound (`mechdrift.activations.recording`).
    parts        Is what is read in parts what is read whole, to 1e-3 of the largest value?
    writing      Do 64 rows of 4,096 tokens stay within the memory that they may use for keys and values, and how many
                 tokens a second are written?

The weights are random: the numbers say what the machine does, and nothing about a language model.
"""

import argparse
import datetime
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

import mechdrift as md
from mechdrift.activations import recording
from mechdrift.activations.one_model import collect_one
from mechdrift.behaviour.backends.hugging_face import HuggingFace
from mechdrift.behaviour.backends.protocol import Request
from mechdrift.pairs.loading import LanguageModel
from mechdrift.probes.rendering import Renderer
from mechdrift.records import Rendered

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from conftest import make_tokenizer

REAL = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128_256,
}
TINY = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
}
ROLES = ("think[quarters]",)
SAME = 1e-3  # of the largest value


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What is read and written."""

    short: int  # tokens of thinking
    long: int
    rows: int
    tokens: int  # written per row


SIZES = {False: Sizes(short=2048, long=8192, rows=64, tokens=4096), True: Sizes(short=128, long=512, rows=8, tokens=64)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    begun, sizes = time.perf_counter(), SIZES[options.tiny]
    loaded = make_model(TINY if options.tiny else REAL)
    found = [*check_reading(loaded, sizes), check_parts(loaded, sizes), check_writing(loaded, sizes)]
    text = report(loaded, found, time.perf_counter() - begun)
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    return 0 if all(holds for *_, holds in found) else 1


def make_model(shape: dict[str, int]) -> LanguageModel:
    """A Llama of random weights in bfloat16, made on the device."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = make_tokenizer()
    config = LlamaConfig(max_position_embeddings=32_768, eos_token_id=0, pad_token_id=0, **shape)
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    return md.Pair.from_models(model, model, tokenizer).open("reasoning")


def check_reading(loaded: LanguageModel, sizes: Sizes) -> list[tuple[str, str, bool]]:
    """Reading against a bare pass, and what it holds beyond the weights."""
    prompt = thought(loaded, sizes.short)
    ids = torch.tensor([prompt.ids], device=loaded.device)

    def bare() -> None:
        with torch.inference_mode():
            loaded.model.base_model(ids, use_cache=False)

    def reading() -> None:
        collect_one(loaded, [prompt], roles=ROLES)

    ratios, seconds = [], []
    for number in range(4):
        took = {act: timed(loaded, act) for act in ((bare, reading) if number % 2 else (reading, bare))}
        ratios.append(took[reading] / took[bare])
        seconds.append(took[reading])
    speed, ratio = sizes.short / statistics.median(seconds[1:]), statistics.median(ratios[1:])
    peaks = [peak_of(loaded, thought(loaded, length)) for length in (sizes.short, sizes.long)]
    shown = " and ".join(f"{peak:.2f} GB" for peak in peaks)
    bound = bound_of(loaded, sizes.long)
    return [
        ("reading", f"{speed:,.0f} tokens/s, {ratio:.2f} times one bare pass", ratio <= 1.1 or ids.shape[1] < 1000),
        (
            "memory",
            f"{shown} beyond the weights at {sizes.short:,} and {sizes.long:,} tokens; bound {bound:.2f} GB",
            max(peaks) <= bound,
        ),
    ]


def bound_of(loaded: LanguageModel, tokens: int) -> float:
    """GB: eight copies of one layer's states (residual stream, norm, queries, keys, values, outputs), the wide states
    of one part of an MLP, and a tenth of a GB for the allocator."""
    config = loaded.model.config
    states = 8 * tokens * config.hidden_size
    part = 4 * recording.POSITIONS_AT_ONCE * config.intermediate_size
    return 2 * (states + part) / 1e9 + 0.1


def check_parts(loaded: LanguageModel, sizes: Sizes) -> tuple[str, str, bool]:
    """The same reading, in parts and whole."""
    prompt = thought(loaded, sizes.long)
    usual = recording.POSITIONS_AT_ONCE
    found = []
    for positions in (min(usual, sizes.long // 4), 10**9):
        recording.POSITIONS_AT_ONCE = positions
        found.append(collect_one(loaded, [prompt], roles=ROLES).of("resid_pre"))
    recording.POSITIONS_AT_ONCE = usual
    parts, whole = found
    difference = float((parts - whole).abs().max() / whole.abs().max())
    return "parts", f"differ by {difference:.1e} of the largest value", difference <= SAME


def check_writing(loaded: LanguageModel, sizes: Sizes) -> tuple[str, str, bool]:
    """All rows at once, none of which ends by itself."""
    prompt = Renderer(loaded.tokenizer).render("item", "What is a tide?", "none").ids
    limits = {"max_tokens": sizes.tokens, "ends": frozenset()}
    queue = deque(Request(key=number, prompt=prompt, **limits) for number in range(sizes.rows))
    backend = HuggingFace(loaded, rows=sizes.rows)
    cap = backend.batch().memory
    reset(loaded)
    held, begun = allocated(loaded), time.perf_counter()
    lengths = [len(written.ids) for _, written in backend.write(queue)]
    seconds, used = time.perf_counter() - begun, peak(loaded) - held
    speed, allowed = sum(lengths) / seconds, cap / 1e9
    said = f"{speed:,.0f} tokens/s in {sizes.rows} rows; {used:.1f} GB of the {allowed:.1f} GB allowed"
    return "writing", said, lengths == [sizes.tokens] * sizes.rows and used * 1e9 <= cap


def thought(loaded: LanguageModel, tokens: int) -> Rendered:
    """A prompt with a thought of random tokens."""
    generator = torch.Generator().manual_seed(tokens)
    thinking = tuple(torch.randint(5, 250, (tokens,), generator=generator).tolist())
    return Renderer(loaded.tokenizer).render("item", "What is a tide?", "own", thinking=thinking, answer=(100, 101))


def timed(loaded: LanguageModel, act: Callable[[], None]) -> float:
    wait(loaded)
    begun = time.perf_counter()
    act()
    wait(loaded)
    return time.perf_counter() - begun


def peak_of(loaded: LanguageModel, prompt: Rendered) -> float:
    """GB beyond what is held before."""
    reset(loaded)
    held = allocated(loaded)
    collect_one(loaded, [prompt], roles=ROLES)
    return peak(loaded) - held


def wait(loaded: LanguageModel) -> None:
    if loaded.device.type == "cuda":
        torch.cuda.synchronize()


def reset(loaded: LanguageModel) -> None:
    if loaded.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def allocated(loaded: LanguageModel) -> float:
    """GB on the device; 0 on a CPU, where nobody counts."""
    return torch.cuda.memory_allocated() / 1e9 if loaded.device.type == "cuda" else 0.0


def peak(loaded: LanguageModel) -> float:
    return torch.cuda.max_memory_allocated() / 1e9 if loaded.device.type == "cuda" else 0.0


def report(loaded: LanguageModel, found: list[tuple[str, str, bool]], seconds: float) -> str:
    name = torch.cuda.get_device_name() if loaded.device.type == "cuda" else "CPU (memory is not counted)"
    size = sum(weight.numel() for weight in loaded.model.parameters()) / 1e9
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    return "\n".join(
        (
            f"{datetime.date.today()}, {name}, torch {torch.__version__}, mechdrift {commit.strip()}: "
            f"a Llama of {size:.2f}B random weights in bfloat16; {seconds / 60:.1f} minutes.",
            "",
            "| check | found | holds |",
            "|---|---|---|",
            *(f"| {name} | {said} | {'yes' if holds else 'no'} |" for name, said, holds in found),
            "",
        )
    )


if __name__ == "__main__":
    sys.exit(main())
