"""What does it cost to read long thinking inside, against one bare forward pass over the same ids?

    python experiments/engine/reading.py --out experiments/engine/reading.md

The reasoning model of an embedded pair in float32 reads one prompt with a thought of random tokens, at the four
quarters of the thinking and at all layers (`collect_one`). Printed: the time of that over the time of one forward pass
of the decoder without a cache over the same ids, in turns within one process (median of the rounds); and the peak of
memory of a process of its own for each length of thinking.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

LENGTHS = (512, 8192)
TIMED = 2048
ROLES = ("think[quarters]",)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--length", type=int, help="inside: read one thought of so many tokens")
    parser.add_argument("--time", action="store_true", help="inside: take turns with a bare forward pass")
    arguments = parser.parse_args()
    if arguments.length:
        print(json.dumps(take_turns(arguments) if arguments.time else read_once(arguments)))
        return
    peaks = {length: start("--length", str(length))["peak"] for length in LENGTHS}
    ratios = start("--length", str(TIMED), "--time", "--rounds", str(arguments.rounds))["ratios"]
    text = table(peaks, ratios)
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


def start(*words: str) -> dict:
    """One measurement in a process of its own."""
    out = subprocess.run([sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(out.splitlines()[-1])


def prepare(length: int):
    """The model, and one prompt with a thought of `length` tokens."""
    import torch

    from mechdrift.pairs.named import load_pair
    from mechdrift.probes.rendering import Renderer

    loaded = load_pair("smollm2-sft").open("reasoning")
    torch.manual_seed(0)
    thinking = tuple(torch.randint(1000, 40_000, (length,)).tolist())
    prompt = Renderer(loaded.tokenizer).render("item", "What is a tide?", "own", thinking=thinking, answer=(100, 101))
    return loaded, prompt


def read(loaded, prompt) -> None:
    from mechdrift.activations.one_model import collect_one

    collect_one(loaded, [prompt], roles=ROLES)


def read_once(arguments: argparse.Namespace) -> dict:
    loaded, prompt = prepare(arguments.length)
    read(loaded, prompt)
    status = Path("/proc/self/status").read_text().splitlines()
    return {"peak": int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1e6}


def take_turns(arguments: argparse.Namespace) -> dict:
    import torch

    loaded, prompt = prepare(arguments.length)
    ids = torch.tensor([prompt.ids])

    def bare() -> None:
        with torch.inference_mode():
            loaded.model.base_model(ids, use_cache=False)

    ratios = []
    for number in range(arguments.rounds + 1):
        seconds = {}
        for act in (bare, lambda: read(loaded, prompt)) if number % 2 else (lambda: read(loaded, prompt), bare):
            begun = time.process_time()
            act()
            seconds[act is bare] = time.process_time() - begun
        ratios.append(seconds[False] / seconds[True])
    return {"ratios": ratios[1:]}  # the first round prepares


def table(peaks: dict[int, float], ratios: list[float]) -> str:
    first, middle = peaks[LENGTHS[0]], statistics.median(ratios)
    rows = [f"| {length:,} | {peak:.2f} GB | {100 * (peak / first - 1):+.0f} % |" for length, peak in peaks.items()]
    return "\n".join(
        (
            "`python experiments/engine/reading.py`, SmolLM2-135M, float32, CPU.",
            "",
            f"Reading {TIMED:,} tokens of thinking at four quarters and all 30 layers took {middle:.2f} times the CPU "
            f"time of one bare forward pass ({min(ratios):.2f} to {max(ratios):.2f} over {len(ratios)} rounds).",
            "",
            f"| tokens of thinking | peak memory of the process | against {LENGTHS[0]} |",
            "|---|---|---|",
            *rows,
            "",
        )
    )


if __name__ == "__main__":
    main()
