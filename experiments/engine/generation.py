"""How fast is generation of answers of different lengths, and how much memory does it take, against mechdrift's earlier
loop?

    python experiments/engine/generation.py --prompts 96 --shortest 50 --longest 1000 --rounds 3
    python experiments/engine/generation.py --busy ...        the same while other work keeps every core busy

Each side runs in a process of its own, in turns (A, B, B, A …), as the command line would start it: before, with
OpenMP's own waiting; now, with OMP_WAIT_POLICY=passive. Both write the same number of tokens for every prompt,
greedily, with end tokens ignored. Printed per round: tokens per second, the process's peak memory, that peak without
what the process holds once the model is loaded, and their ratios; then how many texts are the same, and the gap between
the two likeliest tokens where others part (a gap below 1e-3 nats is a near-tie)."""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

SIDES = ("before", "now")
NEAR_TIE = 1e-3  # nats


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=96)
    parser.add_argument("--shortest", type=int, default=50)
    parser.add_argument("--longest", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rows", type=int, default=None)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--side", choices=SIDES)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(run(arguments)))
        return
    load = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    load = load if arguments.busy else _stop(load)
    try:
        for number in range(arguments.rounds):
            found = {side: start(side) for side in (SIDES if number % 2 == 0 else SIDES[::-1])}
            tell(arguments, found)
    finally:
        _stop(load)


def _stop(processes: list[subprocess.Popen]) -> list[subprocess.Popen]:
    for process in processes:
        process.kill()
    return []


def start(side: str) -> dict:
    """One side in a process of its own."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OMP_")}
    environment |= {"OMP_WAIT_POLICY": "passive"} if side == "now" else {}
    command = [sys.executable, __file__, *sys.argv[1:], "--side", side]
    out = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(out.splitlines()[-1])


def run(arguments: argparse.Namespace) -> dict:
    import torch

    from mechdrift.pairs.named import load_pair

    sys.path.insert(0, str(Path(__file__).parent))
    torch.set_num_threads(arguments.threads)
    loaded = load_pair("smollm2-sft").open("reasoning", arguments.dtype)
    prompts, lengths = work(loaded, arguments)
    if arguments.side == "before":
        from loop_before import write
    else:
        write = write_now(arguments.rows)
    write(loaded, prompts[:2], [4, 4])
    held = _clear_peak()
    begun = time.perf_counter()
    written = write(loaded, prompts, lengths)
    seconds = time.perf_counter() - begun
    assert [len(row) for row in written] == lengths
    return {
        "tokens a second": sum(lengths) / seconds,
        "peak, GB": _peak(),
        "above the model, GB": _peak() - held,
        "written": written,
    }


def work(loaded, arguments: argparse.Namespace) -> tuple[list[tuple[int, ...]], list[int]]:
    """Prompts of all six dimensions, and how many tokens each is continued by: evenly spread, in a mixed order."""
    import numpy as np

    from mechdrift.probes.rendering import Renderer
    from mechdrift.probes.sets import load_probes
    from mechdrift.records import DIMENSIONS

    renderer = Renderer(loaded.tokenizer)
    items = [item for name in DIMENSIONS for item in load_probes(name).sample(16)]
    rendered = [renderer.render(item.id, item.prompt, "own") for item in items]
    prompts = [prompt.ids[: prompt.roles["think_open"][1]] for prompt in rendered]
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(prompts))[: arguments.prompts]
    lengths = rng.permutation(np.linspace(arguments.shortest, arguments.longest, len(chosen)).astype(int))
    return [prompts[index] for index in chosen], lengths.tolist()


def write_now(rows: int | None):
    from collections import deque

    from mechdrift.behaviour.backends.hugging_face import HuggingFace
    from mechdrift.behaviour.backends.protocol import Request

    def write(loaded, prompts, lengths):
        asked = [
            Request(key=index, prompt=prompt, max_tokens=length, ends=frozenset())
            for index, (prompt, length) in enumerate(zip(prompts, lengths, strict=True))
        ]
        queue = deque(sorted(asked, key=lambda request: len(request.prompt)))
        found = {request.key: written.ids for request, written in HuggingFace(loaded, rows=rows).write(queue)}
        return [list(found[index]) for index in range(len(prompts))]

    return write


def _clear_peak() -> float:
    """Begin to count the peak anew, where the system can; what is held now, in GB."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")
    return _peak()


def _peak() -> float:
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def tell(arguments: argparse.Namespace, found: dict[str, dict]) -> None:
    for name in ("tokens a second", "peak, GB", "above the model, GB"):
        before, now = (found[side][name] for side in SIDES)
        print(f"{name:20} before {before:8.2f}  now {now:8.2f}  now / before {now / before:5.2f}", flush=True)
    part_ways(arguments, found["before"]["written"], found["now"]["written"])


def part_ways(arguments: argparse.Namespace, before: list[list[int]], now: list[list[int]]) -> None:
    """How many texts are the same, and how close the choice was where they part."""
    import torch

    from mechdrift.pairs.named import load_pair

    loaded = load_pair("smollm2-sft").open("reasoning", arguments.dtype)
    prompts, _ = work(loaded, arguments)
    gaps = []
    for prompt, one, other in zip(prompts, before, now, strict=True):
        at = next((i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b), None)
        if at is not None:
            with torch.inference_mode():
                hidden = loaded.model(torch.tensor([[*prompt, *one[:at]]]), logits_to_keep=1).logits[0, -1]
            first, second = hidden.float().log_softmax(-1).topk(2).values.tolist()
            gaps.append(first - second)
    ties = sum(gap < NEAR_TIE for gap in gaps)
    wide = sorted(gap for gap in gaps if gap >= NEAR_TIE)
    same = len(prompts) - len(gaps)
    print(f"texts: {same} of {len(prompts)} the same, {ties} part at near-ties, gaps of the others: {wide}")


if __name__ == "__main__":
    main()
