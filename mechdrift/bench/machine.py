"""What does mechdrift cost on this machine, against the same work written without it?

Seconds depend on the machine and its load. Therefore both sides of a comparison do the same work in one process: once
to warm up, then in turns. The order of the turns is reversed in every other round, so a machine that slows down slows
both. A round gives one ratio; the median over the rounds is printed, with the smallest and the largest. Ratios of
different machines can be compared.

    capture      time of `record_roles` (default roles, all layers) at one site (resid_pre) / time of Hugging Face's
                 decoder on the same batches (SDPA, no cache); the same of all standard sites recorded in one pass; and
                 of one site / time of the whole language model, which also unembeds every position. All of them take
                 turns in the same rounds
    generation   tokens per second of `ask` without thinking / those of one plain `model.generate`, with rendering and
                 decoding: same prompts, same budget, greedy, same tokens
    patching     seconds per cell with one full forward pass per cell / those of the replay engine; and the same with
                 TransformerLens' `run_with_hooks`, which its `generic_activation_patch` calls once per cell. One
                 prompt, the same cells. The replay's time includes the donor's pass and the self-test, the others' do
                 not. A full pass takes the same time wherever its cell is, so only every `LAYER_STEP`-th layer is swept
                 with it. Beside the ratios, the largest difference between the readouts of a cell, in log-odds
"""

import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from mechdrift.activations.batching import forward_batches
from mechdrift.activations.readouts import Readout, make_readout
from mechdrift.activations.recording import record_roles, standard_sites
from mechdrift.behaviour.generation import ask
from mechdrift.behaviour.sampling import Budget
from mechdrift.behaviour.two_stages import Question
from mechdrift.hooks import edit, record
from mechdrift.pairs.loading import LanguageModel
from mechdrift.pairs.named import load_pair
from mechdrift.pairs.pair import Pair
from mechdrift.pairs.precision import default_dtype_for_generation
from mechdrift.patching.grid import patch
from mechdrift.patching.plan import patch_columns
from mechdrift.probes.rendering import Renderer, render_items
from mechdrift.probes.roles import DEFAULT_ROLES, role_columns, role_span
from mechdrift.probes.sets import load_probes
from mechdrift.records import ROUNDING, ProbeSet, Rendered

PAIR = "smollm2-sft"
TWINS = 6  # twin pairs that are recorded and answered
ANSWER_TOKENS = 32
ROUNDS = 5
LAYER_STEP = 10  # every which layer is swept with full passes, and with TransformerLens


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One line: the median of a ratio over rounds, with the smallest and the largest, and its target."""

    what: str
    value: float
    low: float
    high: float
    target: str
    n: str

    def cells(self) -> tuple[str, ...]:
        spread = f"{self.low:.2f} to {self.high:.2f}" if self.low != self.high else ""
        value = f"{self.value:.2f}" if self.value >= 0.01 else f"{self.value:.0e}"
        return self.what, value, spread, self.target, self.n


def print_bench() -> None:
    """Measure the embedded pair and print a table."""
    pair = load_pair(PAIR)
    machine, dtype = platform.processor() or platform.machine(), default_dtype_for_generation()
    print(f"{machine}, {torch.get_num_threads()} threads, torch {torch.__version__}; generation in {dtype}")
    print(format_table(bench(pair, ROUNDS)))


def format_table(measurements: list[Measurement]) -> str:
    """A table for a terminal: text is aligned to the left, numbers to the right."""
    rows = [("what", "ratio", "spread", "target", "n"), *(measurement.cells() for measurement in measurements)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        f"{what:{widths[0]}}  {value:>{widths[1]}}  {spread:>{widths[2]}}  {target:>{widths[3]}}  {n}"
        for what, value, spread, target, n in rows
    ]
    return "\n".join(lines)


def bench(pair: Pair, rounds: int) -> list[Measurement]:
    """All measurements; capture and generation on the instruct model, patching from it into the reasoning model."""
    probes = load_probes("safety").sample(TWINS)
    return [
        *bench_capture(pair, probes, rounds),
        bench_generation(pair, probes, rounds),
        *bench_patching(pair, probes, rounds),
    ]


def bench_capture(pair: Pair, probes: ProbeSet, rounds: int) -> list[Measurement]:
    """The time of recording one site and all sites, in units of plain forward passes over the same batches."""
    loaded = pair.open("instruct")
    rendered = render_items(Renderer(pair.tokenizer("reasoning")), probes.items, "off")
    columns, layers = role_columns(rendered, DEFAULT_ROLES), tuple(range(loaded.n_layers))

    def run(model: torch.nn.Module) -> None:
        for each in forward_batches(loaded, rendered):
            model(**each.batch.forward_arguments(loaded.device), use_cache=False)

    sites = standard_sites(loaded)
    seconds = take_turns(
        {
            "one site": lambda: record_roles(loaded, rendered, "resid_pre", layers, columns),
            "all sites": lambda: record_roles(loaded, rendered, sites, layers, columns),
            "decoder": lambda: run(loaded.decoder),
            "language model": lambda: run(loaded.model),
        },
        rounds,
    )
    compared = (
        ("one site: time / that of the decoder", "one site", "decoder", "<= 1.05"),
        (f"{len(sites)} sites at once: time / that of the decoder", "all sites", "decoder", "<= 1.10"),
        ("one site: time / that of the language model", "one site", "language model", "<= 1.05"),
    )
    return [
        summarise(f"capture: {what}", seconds[ours] / seconds[plain], target, f"{len(rendered)} prompts")
        for what, ours, plain, target in compared
    ]


def bench_generation(pair: Pair, probes: ProbeSet, rounds: int) -> Measurement:
    """The throughput of `ask` in units of that of `model.generate`."""
    loaded = pair.open("instruct", default_dtype_for_generation())
    questions = [Question(id=item.id, prompt=item.prompt) for item in probes]
    budget = Budget(answer=ANSWER_TOKENS)
    written: dict[str, list[str]] = {}

    def ours() -> None:
        written["ours"] = [row.answer for row in ask(loaded, questions, "instruct", "none", budget=budget)]

    def plain() -> None:
        written["plain"] = _plain_answers(loaded, [question.prompt for question in questions])

    seconds = take_turns({"ours": ours, "plain": plain}, rounds)
    same = sum(a == b for a, b in zip(written["ours"], written["plain"], strict=True))
    n = f"{len(questions)} prompts, {ANSWER_TOKENS} tokens; {same} of {len(questions)} answers are the same"
    return summarise(
        "generation: throughput / that of model.generate", seconds["plain"] / seconds["ours"], ">= 0.90", n
    )


def _plain_answers(loaded: LanguageModel, prompts: list[str]) -> list[str]:
    """The answers as one gets them without mechdrift: template, left padding, one batch."""
    chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
    inputs = loaded.tokenizer.apply_chat_template(
        chats,
        add_generation_prompt=True,
        padding=True,
        return_tensors="pt",
        return_dict=True,
        tokenizer_kwargs={"padding_side": "left"},
    ).to(loaded.device)
    out = loaded.model.generate(
        **inputs,
        max_new_tokens=ANSWER_TOKENS,
        do_sample=False,
        pad_token_id=loaded.tokenizer.pad_token_id,
        eos_token_id=loaded.tokenizer.eos_token_id,
        temperature=None,
        top_p=None,
        top_k=None,
    )
    return [
        text.strip()
        for text in loaded.tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sweep:
    """One prompt whose cells are patched one by one: what both ways of doing so need."""

    recipient: LanguageModel
    bridge: Any  # the recipient as a TransformerBridge
    given: Mapping[int, torch.Tensor]  # the donor's residual stream by layer
    prompt: Rendered
    readout: Readout
    columns: Sequence[str]

    @property
    def tokens(self) -> torch.Tensor:
        return torch.tensor([self.prompt.ids], device=self.recipient.device)

    def put(self, layer: int, column: str, own: torch.Tensor, **_: object) -> torch.Tensor:
        """The recipient's residual stream with the donor's at one column."""
        positions = torch.arange(*role_span(self.prompt, column), device=self.recipient.device)
        return own.index_copy(1, positions, self.given[layer][:, positions])

    def full_pass(self, layer: int, column: str) -> float:
        """The readout after one patch, by a forward pass of the Hugging Face model."""
        structure = self.recipient.structure
        with edit({structure.hook_point("resid_pre", layer): partial(self.put, layer, column)}):
            final = self.recipient.decoder(self.tokens, use_cache=False).last_hidden_state[:, -1]
        return self.readout.of(structure.logits(final)[0], self.prompt.item_id)

    def lens_pass(self, layer: int, column: str) -> float:
        """The same, by TransformerLens."""
        hook = (f"blocks.{layer}.hook_resid_pre", partial(self.put, layer, column))
        return self.readout.of(self.bridge.run_with_hooks(self.tokens, fwd_hooks=[hook])[0, -1], self.prompt.item_id)

    def run(self, one_pass: Callable[[int, str], float]) -> np.ndarray:
        """The readouts of all cells, `[layer, column]`, by one pass per cell."""
        return np.array([[one_pass(layer, column) for column in self.columns] for layer in self.given])


def bench_patching(pair: Pair, probes: ProbeSet, rounds: int) -> list[Measurement]:
    """The speed-up of the replay engine over one forward pass per cell and over TransformerLens, and the largest
    difference between their readouts."""
    renderer = Renderer(pair.tokenizer("reasoning"))
    one, readout = probes.sample(1).where("trigger"), make_readout(renderer, probes)
    (prompt,) = render_items(renderer, one.items, "off")
    donor, recipient = pair.open("instruct"), pair.open("reasoning")
    layers = range(0, recipient.n_layers, LAYER_STEP)
    sweep = _Sweep(
        recipient=recipient,
        bridge=bridge_of(recipient),
        given=recorded(donor, torch.tensor([prompt.ids]), "resid_pre", layers),
        prompt=prompt,
        readout=readout,
        columns=patch_columns([prompt], None),
    )
    grids, found = {}, {}
    seconds = take_turns(
        {
            "replay": lambda: grids.update(replay=patch(pair, one, readout=readout, engine="replay")),
            "one full pass per cell": lambda: found.update(full=sweep.run(sweep.full_pass)),
            "TransformerLens": lambda: found.update(lens=sweep.run(sweep.lens_pass)),
        },
        rounds,
    )
    grid = grids["replay"]
    replayed = grid.effect[0][list(layers)] + grid.recipient_readout[0]
    cells, swept = grid.effect[0].size, len(layers) * len(sweep.columns)
    difference = max(float(np.abs(readouts - replayed).max()) for readouts in found.values())
    speed_ups = {
        name: seconds[name] / swept / (seconds["replay"] / cells)
        for name in ("one full pass per cell", "TransformerLens")
    }
    return [
        *(
            summarise(f"patching: speed-up over {name}", ratios, ">= 10", f"{cells} cells")
            for name, ratios in speed_ups.items()
        ),
        difference_line("patching: largest difference of their readouts", difference, swept),
    ]


def bridge_of(loaded: LanguageModel) -> Any:
    """A copy of a model as a TransformerBridge."""
    from transformer_lens.model_bridge import TransformerBridge

    return TransformerBridge.boot_transformers(
        loaded.source.path, hf_model=deepcopy(loaded.model), tokenizer=loaded.tokenizer, device=str(loaded.device)
    )


def recorded(loaded: LanguageModel, tokens: torch.Tensor, site: str, layers: Iterable[int]) -> dict[int, torch.Tensor]:
    """A site's activations by layer, `[prompt, pos, width]`, of prompts of equal length."""
    points = {layer: loaded.structure.hook_point(site, layer) for layer in layers}
    with torch.inference_mode(), record(points) as given:
        loaded.decoder(tokens.to(loaded.device), use_cache=False)
    return given


def difference_line(what: str, difference: float, cells: int) -> Measurement:
    """The line of a largest difference between readouts, which should be rounding."""
    return Measurement(
        what=what,
        value=difference,
        low=difference,
        high=difference,
        target=f"<= {ROUNDING:.0e}",
        n=f"{cells} cells",
    )


def take_turns(sides: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each side in each round, after one turn of each that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    with torch.inference_mode():
        for number in range(rounds + 1):
            for name in list(sides)[:: 1 if number % 2 else -1]:
                start = time.perf_counter()
                sides[name]()
                if number:
                    seconds[name].append(time.perf_counter() - start)
    return {name: np.array(values) for name, values in seconds.items()}


def summarise(what: str, ratios: np.ndarray, target: str, n: str) -> Measurement:
    middle, n = float(np.median(ratios)), f"{len(ratios)} rounds of {n}"
    return Measurement(what=what, value=middle, low=ratios.min(), high=ratios.max(), target=target, n=n)
