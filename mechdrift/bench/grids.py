"""What does a patch grid cost, against TransformerLens and against the operations that it needs at least?

Against TransformerLens: the time per cell of its `run_with_hooks`, which `generic_activation_patch` calls once per
cell, divided by the time per cell of `patch`, on one batch of prompts of equal length, in turns. A pass of
TransformerLens takes the same time wherever its cell is, so only some cells are run with it. The time of `patch`
includes everything: both models' passes and the checks. Beside it stands the largest difference between the readouts of
those cells, in log-odds.

Against the floor: a patch at layer l and position p must recompute the blocks from l on at the positions from p on. In
block-tokens (one token through one block), with N prompts of T tokens, L blocks, and the patched layers and positions,

    floor = 2 N T L + N Σ_layers (L - l) Σ_positions (T - p)

where the first term is the donor's and the recipient's pass. The floor's time is that many block-tokens at the pace of
a plain forward pass of the whole batch; the grid's time is printed in units of it. Where donor and recipient share
their embeddings, layer 0 is not run, so values below 1 are possible.
"""

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mechdrift.activations.batching import pad
from mechdrift.activations.readouts import make_readout
from mechdrift.bench.machine import (
    PAIR,
    Measurement,
    bridge_of,
    difference_line,
    format_table,
    recorded,
    summarise,
    take_turns,
)
from mechdrift.pairs.named import load_pair
from mechdrift.pairs.pair import Pair
from mechdrift.patching.grid import patch
from mechdrift.patching.plan import EVERY_POSITION
from mechdrift.probes.rendering import Renderer, render_items
from mechdrift.probes.roles import role_span
from mechdrift.probes.sets import load_probes
from mechdrift.records import DIMENSIONS, ProbeSet, Rendered

PROMPTS = 8
PROMPTS_OF_THE_FULL_GRID = 1  # it has some 1,500 cells per prompt
ROUNDS = 3
SAMPLED_LAYERS = 3  # layers that TransformerLens patches, at two positions each


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One grid to be timed against TransformerLens."""

    what: str
    site: str
    target: str
    positions: int | None = 5  # the last ones, or all of them
    heads: bool = False


CASES = (
    Case(what="resid_pre, last 5 positions", site="resid_pre", target=">= 20"),
    Case(what="resid_pre, every position", site="resid_pre", target=">= 4.5", positions=None),
    Case(what="attn_out, last 5 positions", site="attn_out", target=">= 15"),
    Case(what="mlp_out, last 5 positions", site="mlp_out", target=">= 15"),
    Case(what="z of every head, last position", site="z", target=">= 30", positions=1, heads=True),
)


def print_grids() -> None:
    """Measure the embedded pair and print both tables."""
    pair = load_pair(PAIR)
    probes = equally_long(pair)
    print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch "
        f"{torch.__version__}; float32"
    )
    print(format_table(bench_lens(pair, probes, ROUNDS)))
    print()
    print(format_table(bench_growth(pair, probes, ROUNDS)))


def equally_long(pair: Pair) -> ProbeSet:
    """The largest class of triggers, of any dimension, whose prompts have equal numbers of tokens; at most
    `PROMPTS`."""
    renderer, classes = Renderer(pair.tokenizer("reasoning")), {}
    for dimension in DIMENSIONS:
        probes = load_probes(dimension).where("trigger")
        for item, prompt in zip(probes, render_items(renderer, probes.items, "off"), strict=True):
            classes.setdefault((dimension, len(prompt.ids)), []).append(item)
    (dimension, _), items = max(classes.items(), key=lambda entry: len(entry[1]))
    return ProbeSet(name="bench", dimension=dimension, items=tuple(items[:PROMPTS]))


def bench_lens(pair: Pair, probes: ProbeSet, rounds: int, cases: Sequence[Case] = CASES) -> list[Measurement]:
    """The speed-up over TransformerLens per cell, and the largest difference between the two readouts."""
    bridge, measured = bridge_of(pair.open("reasoning")), []
    for case in cases:
        some = ProbeSet(
            name="bench",
            dimension=probes.dimension,
            items=probes.items[: None if case.positions else PROMPTS_OF_THE_FULL_GRID],
        )
        measured += _bench_case(pair, bridge, some, case, rounds)
    return measured


def _bench_case(pair: Pair, bridge: Any, probes: ProbeSet, case: Case, rounds: int) -> list[Measurement]:
    """The speed-up and the largest difference of one grid."""
    renderer = Renderer(pair.tokenizer("reasoning"))
    rendered, readout = render_items(renderer, probes.items, "off"), make_readout(renderer, probes)
    roles = EVERY_POSITION if case.positions is None else last_positions(rendered[0], case.positions)
    tokens, donor, n_layers = (
        torch.tensor([prompt.ids for prompt in rendered]),
        pair.open("instruct"),
        pair.open("reasoning").n_layers,
    )
    layers = sorted({round(i) for i in np.linspace(1, n_layers - 1, SAMPLED_LAYERS)})
    columns = [last_positions(rendered[0], case.positions or tokens.shape[1])[i] for i in {0, -1}]
    given = recorded(donor, tokens, case.site, layers)
    found, grids = {}, {}

    def lens() -> None:
        for layer in layers:
            for column in columns:
                put = _put(
                    given[layer], role_span(rendered[0], column)[0], donor.structure.n_heads if case.heads else 0
                )
                hook = f"blocks.{layer}.{'attn.' if case.heads else ''}hook_{case.site}"
                logits = bridge.run_with_hooks(tokens, fwd_hooks=[(hook, put)])[:, -1].float()
                found[layer, column] = [readout.of(row, item.id) for row, item in zip(logits, probes, strict=True)]

    def ours() -> None:
        grids["ours"] = patch(
            pair,
            probes,
            site=case.site,
            roles=roles,
            heads="all" if case.heads else None,
            readout=readout,
            engine="replay",
        )

    seconds = take_turns({"ours": ours, "lens": lens}, rounds)
    grid = grids["ours"]
    cells, passes = grid.effect[0].size, len(layers) * len(columns)
    names = {column: f"{column}.h0" if case.heads else column for column in columns}
    difference = max(
        float(np.abs(grid.effect[:, layer, grid.roles.index(names[column])] + grid.recipient_readout - readouts).max())
        for (layer, column), readouts in found.items()
    )
    ratios = seconds["lens"] / passes / (seconds["ours"] / cells)
    size = f"{len(probes)} prompts of {tokens.shape[1]} tokens, {cells} cells"
    return [
        summarise(f"{case.what}: speed-up over TransformerLens", ratios, case.target, size),
        difference_line(f"{case.what}: largest difference", difference, passes),
    ]


def _put(given: Float[Tensor, "prompt pos width"], position: int, n_heads: int) -> Callable[..., Tensor]:
    """A TransformerLens hook that patches one position; only head 0 of it where heads have an axis of their own."""

    def put(own: Tensor, **_: object) -> Tensor:
        own = own.clone()
        if n_heads:
            own[:, position, 0] = given.unflatten(-1, (n_heads, -1))[:, position, 0]
        else:
            own[:, position] = given[:, position]
        return own

    return put


def last_positions(prompt: Rendered, count: int) -> list[str]:
    """The columns of a prompt's last tokens, in their order."""
    every = [
        f"{role}[{i}]"
        for role, (start, stop) in sorted(prompt.roles.items(), key=lambda r: r[1])
        for i in range(stop - start)
    ]
    return every[-count:]


def bench_growth(pair: Pair, probes: ProbeSet, rounds: int) -> list[Measurement]:
    """The time of grids of several sizes, in units of the time of their floor."""
    renderer = Renderer(pair.tokenizer("reasoning"))
    rendered, readout = render_items(renderer, probes.items, "off"), make_readout(renderer, probes)
    recipient = pair.open("reasoning")
    total, width = recipient.n_layers, len(rendered[0].ids)
    batch = pad([prompt.ids for prompt in rendered], 0)

    def forward() -> None:
        recipient.decoder(**batch.forward_arguments(recipient.device), use_cache=False)

    sizes = [
        *((prompts, total, 5) for prompts in (1, 2, 4, len(probes))),
        *((2, layers, 5) for layers in (1, total // 4, total // 2)),
        *((2, total, positions) for positions in (1, 10, 20)),
    ]

    def grid(prompts: int, layers: int, positions: int) -> Callable[[], object]:
        some = ProbeSet(name="bench", dimension=probes.dimension, items=probes.items[:prompts])
        chosen, roles = range(total - layers, total), last_positions(rendered[0], positions)
        return lambda: patch(pair, some, layers=chosen, roles=roles, readout=readout, engine="replay")

    seconds = take_turns({"forward": forward} | {str(size): grid(*size) for size in sizes}, rounds)
    pace, measured = seconds["forward"] / (len(probes) * width * total), []
    for prompts, layers, positions in sizes:
        count = floor(prompts, width, total, range(total - layers, total), positions)
        measured.append(
            summarise(
                f"{prompts} prompts, last {layers} layers, last {positions} positions: time / that of the floor",
                seconds[str((prompts, layers, positions))] / (pace * count),
                "",
                f"{count:,} block-tokens, {prompts * layers * positions} cells",
            )
        )
    return measured


def floor(prompts: int, width: int, n_layers: int, layers: Sequence[int], positions: int) -> int:
    """Block-tokens that a grid of the last `positions` cannot do without; see the module's text."""
    staircase = sum(n_layers - layer for layer in layers) * positions * (positions + 1) // 2
    return prompts * (2 * width * n_layers + staircase)
