"""Oracles: closed forms of `statistics`, planted cells, grids of pure noise."""

import time

import numpy as np
import pytest

from mechdrift.records import MechdriftError, PatchGrid, ProbeItem
from mechdrift.statistics.grids import infer
from mechdrift.statistics.resampling import max_t

LAYERS, ROLES = (0, 4, 8, 12), ("user", "think_close")
FAMILIES = np.repeat(np.arange(12), 2)


def noise(seed: int, prompts: int = 24) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(prompts, len(LAYERS), len(ROLES)))


def only(is_trigger: bool) -> np.ndarray:
    return np.full(24, is_trigger)


def test_cells_are_those_of_max_t_with_its_band():
    effect = noise(0) + 1
    found, tested = infer(effect, FAMILIES, only(True), LAYERS, ROLES), max_t(effect, FAMILIES)
    table = found.frame.set_index(["layer", "role"])
    assert table.p_adjusted[8, "user"] == tested.p[2, 0]
    assert table.high[12, "think_close"] - table.effect[12, "think_close"] == pytest.approx(tested.half_width[3, 1])
    assert (table.significant == (table.p_adjusted <= 0.05)).all()
    assert (found.families, found.n, found.tested) == (12, 24, "effects")


def test_a_planted_cell_is_found_and_is_the_peak():
    effect = 0.3 * noise(1)
    effect[:, 2, 1] += 2
    found = infer(effect, FAMILIES, only(True), LAYERS, ROLES)
    assert found.frame[found.frame.significant][["layer", "role"]].to_numpy().tolist() == [[8, "think_close"]]
    share = found.peak.set_index(["layer", "role"]).share
    assert share[8, "think_close"] == 1
    assert share.groupby("role").sum().to_numpy() == pytest.approx(1)
    centre = found.centre.set_index("role").loc["think_close"]
    assert centre.peak_layer == 8
    assert centre.low < centre.centre < centre.high


def test_a_peak_in_noise_wanders():
    found = infer(noise(2), FAMILIES, only(True), LAYERS, ROLES)
    assert found.peak.share.max() < 0.9
    assert not found.frame.significant.any()


def test_what_moves_triggers_and_twins_alike_is_no_finding():
    is_trigger = np.arange(24) % 2 == 0
    effect = 0.3 * noise(3) + 5
    assert infer(effect, FAMILIES, only(True), LAYERS, ROLES).frame.significant.all()
    found = infer(effect, FAMILIES, is_trigger, LAYERS, ROLES)
    assert found.tested == "triggers less neutral twins"
    assert not found.frame.significant.any()
    effect[is_trigger, 1] += 2
    found = infer(effect, FAMILIES, is_trigger, LAYERS, ROLES).frame
    assert found[found.significant].layer.unique().tolist() == [4]
    assert found[found.layer == 4].effect.to_numpy() == pytest.approx(2, abs=0.4)


def test_null_grids_are_wrong_as_often_as_they_say():
    false = sum(
        infer(noise(seed), FAMILIES, only(True), LAYERS, ROLES, draws=500).frame.significant.any()
        for seed in range(200)
    )
    assert 2 <= false <= 20  # 5 % of 200; outside with a chance of 1 in 300


def test_ten_thousand_flips_of_a_large_grid_take_no_time():
    effect, families = np.random.default_rng(0).normal(size=(200, 30, 8)), np.arange(200) % 50
    start = time.process_time()
    infer(effect, families, np.ones(200, dtype=bool), tuple(range(30)), tuple("abcdefgh"))
    assert time.process_time() - start < 8  # about 1 s alone; tests share the machine


@pytest.mark.parametrize(
    ("families", "is_trigger", "says"),
    [
        (np.zeros(24), only(True), "only one"),
        (np.arange(24), np.arange(24) % 2 == 0, "no family has"),
    ],
)
def test_too_few_families_are_refused(families, is_trigger, says):
    with pytest.raises(MechdriftError, match=says):
        infer(noise(0), families, is_trigger, LAYERS, ROLES)


def test_a_grid_tests_itself():
    items = tuple(
        ProbeItem(
            id=str(i),
            dimension="safety",
            family=str(family),
            contrast="trigger",
            twin="",
            prompt="",
            aligned=(),
            misaligned=(),
        )
        for i, family in enumerate(FAMILIES)
    )
    grid = PatchGrid(
        dimension="safety",
        donor="instruct",
        recipient="reasoning",
        site="resid_pre",
        think="off",
        layers=LAYERS,
        roles=ROLES,
        items=items,
        effect=noise(4),
        recipient_readout=np.zeros(24),
        donor_readout=np.ones(24),
        identity_error=0.0,
    )
    frame = grid.inference(draws=100).frame
    assert len(frame) == len(LAYERS) * len(ROLES)
    assert frame.effect.to_numpy() == pytest.approx(grid.effect.mean(axis=0).reshape(-1))
