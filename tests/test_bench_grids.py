"""The bench's own arithmetic: what it counts as the floor is what the engine does, and what it compares is the same
cell."""

import numpy as np
import torch
from conftest import make_model
from test_capture import make_probes, pair_of, render_all

from mechdrift.activations.batching import pad
from mechdrift.bench.grids import Case, bench_growth, bench_lens, equally_long, floor, last_positions
from mechdrift.patching.cells import Cells, Group
from mechdrift.patching.replay import run_model, sweep_layers

EQUALLY_LONG = make_probes(1)


@torch.inference_mode()
def test_the_floor_is_what_the_engine_computes_with_one_pass_more_for_the_donor():
    loaded, ids = pair_of(make_model(), make_model()).open("reasoning"), [list(range(30, 50)), list(range(60, 80))]
    tokens = []
    for block in loaded.structure.blocks:
        block.register_forward_pre_hook(lambda _, args: tokens.append(args[0].shape[0] * args[0].shape[1]))
    run = run_model(loaded, pad(ids, 0))
    groups = [
        Group(prompt=row, start=20 - suffix, stop=21 - suffix, end=20) for row in range(2) for suffix in (1, 2, 3)
    ]
    sweep_layers(run, groups, Cells(site="resid_pre", layers=(1, 3)), lambda layer, group: torch.zeros(1, 32))
    assert sum(tokens) + 2 * 20 * 4 == floor(prompts=2, width=20, n_layers=4, layers=(1, 3), positions=3)


def test_growth_is_measured_for_each_size(tiny_pair):
    measured = bench_growth(tiny_pair, EQUALLY_LONG, rounds=1)
    assert len(measured) == 10
    assert all(m.value > 0 for m in measured)


def test_both_sides_of_the_comparison_patch_the_same_cells(tiny_pair):
    cases = (
        Case(what="stream", site="resid_pre", target="", positions=2),
        Case(what="mlp", site="mlp_out", target="", positions=None),
        Case(what="heads", site="z", target="", positions=1, heads=True),
    )
    measured = bench_lens(tiny_pair, EQUALLY_LONG, 1, cases)
    assert len(measured) == 2 * len(cases)
    assert max(m.value for m in measured[1::2]) < 1e-4  # log-odds
    assert min(m.value for m in measured[::2]) > 0


def test_the_measured_prompts_are_equally_long(tiny_pair):
    probes = equally_long(tiny_pair)
    assert len({len(prompt.ids) for prompt in render_all(probes)}) == 1
    assert 2 <= len(probes) <= 8
    (prompt, _) = render_all(EQUALLY_LONG)
    assert last_positions(prompt, 2) == [
        f"think_close[{i}]" for i in np.arange(*prompt.roles["think_close"])[-2:] - prompt.roles["think_close"][0]
    ]
