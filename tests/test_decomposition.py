"""Increments, both ways, and the four-way decomposition, against models whose difference is known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import make_model
from test_capture import make_probes, pair_of
from test_patch_prompts import completions
from test_patching import models_that_differ_in

from mechdrift.audits.summaries import summarise_both_ways
from mechdrift.patching.decomposition import decompose
from mechdrift.patching.grafts import graft
from mechdrift.patching.grid import both_ways, patch
from mechdrift.records import MechdriftError

READOUT = pd.Series({"reliable": True, "auroc": 0.9, "low": 0.8, "high": 1.0})


def test_increments_light_up_where_the_change_originates_and_add_up_to_the_gap():
    pair, probes = pair_of(*models_that_differ_in((1, 3))), make_probes(3)
    profile = patch(pair, probes, roles=("all",))
    added = profile.increments()
    assert added.layers == profile.layers == (0, 1, 2, 3)
    np.testing.assert_allclose(added.effect[:, [0, 2]], 0, atol=1e-5)
    assert np.abs(added.effect[:, [1, 3]]).max(axis=(0, 2)).min() > 0.01
    np.testing.assert_allclose(added.effect.sum(axis=1)[:, 0], profile.gap, atol=1e-4)
    # The first block to differ meets the recipient's own input in either way of asking.
    np.testing.assert_allclose(added.effect[:, 1], graft(pair, probes).effect[:, 1], atol=1e-4)


def test_increments_of_single_roles_end_below_the_last_layer():
    pair, probes = pair_of(make_model(seed=0), make_model(seed=1)), make_probes(2)
    profile = patch(pair, probes, roles=("user", "all"))
    added = profile.increments()
    assert added.layers == (0, 1, 2)
    np.testing.assert_allclose(added.effect, np.diff(profile.effect, axis=1))
    with pytest.raises(MechdriftError, match="increments are of a profile over layers"):
        patch(pair, probes, roles=("user",), site="mlp_out").increments()


def test_a_cell_goes_both_ways_where_each_grid_moves_towards_its_donor():
    """Made up: of four cells one carries the change, one only restores, one only breaks, one moves away from the
    donor."""
    probes, noise = make_probes(12).where("trigger"), np.random.default_rng(0)
    grid = patch(pair_of(make_model(seed=0), make_model(seed=1)), probes, layers=(0, 1), roles=("user", "think_close"))
    there, back = ([2, 2, 0, -2], [-2, 0, -2, 2])
    made = [
        replace(
            grid,
            donor=donor,
            recipient=recipient,
            donor_readout=np.full(12, end),
            recipient_readout=np.zeros(12),
            effect=np.array(cells, dtype=float).reshape(1, 2, 2) + 0.1 * noise.normal(size=(12, 2, 2)),
        )
        for donor, recipient, end, cells in (
            ("instruct", "reasoning", 2.5, there),
            ("reasoning", "instruct", -2.5, back),
        )
    ]
    np.testing.assert_array_equal(both_ways(*made), [[True, False], [False, False]])
    with pytest.raises(MechdriftError, match="same site, layers and roles"):
        both_ways(
            made[0], patch(pair_of(make_model(seed=0), make_model(seed=1)), probes, layers=(0, 1), roles=("user",))
        )


def test_a_grid_of_both_contrasts_goes_both_ways_where_what_is_tested_moves_towards_the_donor():
    """Made up: triggers move by 1 of a gap of 2, their twins by 3 the other way, where there is no gap. Tested is the
    difference, 4, which has the sign of the gap's, 2; the mean over all prompts, -1, does not."""
    probes, noise = make_probes(12), np.random.default_rng(0)
    grid = patch(pair_of(make_model(seed=0), make_model(seed=1)), probes, layers=(0,), roles=("user",))
    is_trigger = np.array([item.is_trigger for item in grid.items])
    made = [
        replace(
            grid,
            donor_readout=sign * np.where(is_trigger, 2.0, 0.0),
            recipient_readout=np.zeros(len(is_trigger)),
            effect=(sign * np.where(is_trigger, 1.0, -3.0) + 0.1 * noise.normal(size=len(is_trigger)))[:, None, None],
        )
        for sign in (1, -1)
    ]
    assert [one.tested_gap for one in made] == [2.0, -2.0]
    assert both_ways(*made).all()
    assert summarise_both_ways(made, READOUT, seed=0).both_ways.all()


def test_the_four_cells_are_two_grids_and_add_up():
    pair, probes = pair_of(make_model(seed=0), make_model(seed=1)), make_probes(3)
    answers = {side: completions(probes, side, text) for side, text in (("instruct", ""), ("reasoning", "well, "))}
    found = decompose(pair, probes, answers=answers, layers=(1, 3))
    own, given = (
        patch(pair, probes, think=think, answers=answers, layers=(1, 3), roles=found.own.roles)
        for think in ("own", "donor")
    )
    np.testing.assert_allclose(found.activations, own.effect)
    np.testing.assert_allclose(found.thinking, given.recipient_readout - own.recipient_readout)
    patched = given.recipient_readout[:, None, None] + given.effect
    np.testing.assert_allclose(found.both, patched - own.recipient_readout[:, None, None])
    np.testing.assert_allclose(
        found.activations + found.thinking[:, None, None] + found.interaction, found.both, atol=1e-12
    )
    assert np.abs(found.thinking[1:]).min() > 1e-3
    assert found.thinking[0] == pytest.approx(
        0, abs=1e-4
    )  # the first item was not thought about: all four cells are two
    np.testing.assert_allclose(found.interaction[0], 0, atol=1e-4)
    table = found.frame
    assert len(table) == 4 * found.own.effect[0].size
    cell = table[(table.layer == 3) & (table.role == found.own.roles[0])].set_index("part")
    assert cell.effect["both"] == pytest.approx(found.both.mean(axis=0)[1, 0])
    assert (cell.low <= cell.effect + 1e-12).all()
    assert (cell.effect - 1e-12 <= cell.high).all()
