"""When a measure has come half of its way: closed forms, planted courses, and the words that follow from them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mechdrift.directions.best_layer import best_layers
from mechdrift.records import Activations, ProbeItem, ProbeSet
from mechdrift.statistics.intervals import SHARE, UNBOUNDED, Bounds
from mechdrift.statistics.resampling import cluster_bootstrap, family_draws, paired_bootstrap
from mechdrift.trajectories.half_change import compare_order, detour, half_change_steps, sound_steps
from mechdrift.trajectories.history import History
from mechdrift.trajectories.series import DRAWS, Series, _cosine_series, _cosines, _mean_series
from mechdrift.trajectories.stages import family_products
from mechdrift.trajectories.tables import half_change_table
from mechdrift.trajectories.words import failures, told

STEPS = (0, 10, 20, 30, 40)
FAMILIES = 16


def course(
    rise: int, quantity: str = "aligned", dimension: str = "safety", down: bool = True, noise: float = 0.0
) -> Series:
    """All of the change between the checkpoints before and after `rise`: 1 to 0 (`down`) in every item of every
    family."""
    after = np.array(STEPS) > rise
    values = np.repeat((1.0 - after if down else after * 1.0)[:, None], 2 * FAMILIES, axis=1)
    if noise:
        values = (
            values + noise * np.random.default_rng(rise).normal(size=(1, 2 * FAMILIES)) * (np.array(STEPS) > 0)[:, None]
        )
    return _mean_series(quantity, dimension, values, np.repeat(np.arange(FAMILIES), 2).astype(str), 0)


def history() -> History:
    return History(
        folder=Path("x"),
        name="x",
        route="SFT",
        parent="p",
        parent_sha256="",
        seed=0,
        steps=STEPS[1:],
        unit="optimizer steps",
        tokens=(100, 200, 300, 400),
    )


def words_of(series: list[Series], scores: pd.DataFrame, validation: pd.DataFrame) -> str:
    return "\n".join(told(history(), series, half_change_table(history(), series, scores), validation))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ([0, 1, 2, 3, 4], 20.0),  # straight: half of the way at half of the steps
        ([0, 0, 0, 0, 1], 35.0),  # all between the last two
        ([0, 4, 4, 4, 4], 5.0),
        ([0, -1, -4, -4, -4], 10 + 10 / 3),  # falling, half between 1 and 4
        ([0, 3, 1, 3, 4], 25.0),  # the time from which on it stays
        ([0, 3, 2, 3, 4], 10 * 2 / 3),  # back, but not beyond half
        ([0, -1, 0, 1, 2], 30.0),  # away at first
        ([0, 1, 2, 3, 0], np.nan),
    ],
)
def test_half_steps_in_closed_form(change: list[float], expected: float):
    found = half_change_steps(STEPS, np.array([change], dtype=float), change[-1])
    np.testing.assert_allclose(found.at, [expected])
    if not np.isnan(expected):
        assert found.start[0] < expected <= found.end[0] == found.start[0] + 10


def test_draws_that_change_the_other_way_have_no_half_way_step():
    found = half_change_steps(STEPS, np.array([[0.0, 1, 2, 3, 4]]), -1.0)
    assert np.isnan([found.at, found.start, found.end]).all()
    assert found.known == 0


@pytest.mark.parametrize("bounds", [SHARE, UNBOUNDED], ids=["share", "unbounded"])
def test_values_and_changes_have_the_intervals_of_scores(bounds: Bounds):
    rng = np.random.default_rng(0)
    values, families = rng.random(size=(5, 40)), np.repeat(np.arange(10), 4).astype(str)
    series = _mean_series("aligned", "safety", values, families, 0, bounds)
    found, changes = np.transpose(series.intervals), np.transpose(series.change_intervals)
    for step in range(5):
        level = cluster_bootstrap(values[step], families, bounds=bounds, draws=DRAWS)
        assert found[step] == pytest.approx((level.low, level.high))
        if step:
            change = paired_bootstrap(values[0], values[step], families, bounds=bounds, draws=DRAWS)
            assert changes[step] == pytest.approx((change.low, change.high))
    assert list(changes[0]) == [0, 0]
    assert series.final == pytest.approx(tuple(changes[-1]))
    np.testing.assert_allclose(series.values, values.mean(axis=1))


def test_where_all_checkpoints_are_perfect_the_change_is_not_known_to_be_none():
    series = _mean_series("aligned", "safety", np.ones((5, 16)), np.arange(16).astype(str), 0)
    low, high = series.final
    assert low == pytest.approx(-high)
    assert 0.05 < high < 0.2


def test_cosines_from_products_are_those_of_resampled_directions():
    rng = np.random.default_rng(1)
    items = tuple(
        ProbeItem(
            id=f"{f}{c}{k}",
            dimension="safety",
            family=f"f{f}",
            contrast=c,
            twin="",
            prompt="",
            aligned=("",),
            misaligned=("",),
        )
        for f in range(6)
        for k in range(2)
        for c in ("trigger", "neutral")
    )
    before, after = (torch.from_numpy(rng.normal(size=(24, 3, 1, 8))).float() for _ in range(2))
    recorded = Activations(
        probes=ProbeSet(name="safety", dimension="safety", items=items),
        site="resid_pre",
        layers=(0, 1, 2),
        roles=("user",),
        think="off",
        instruct=before,
        reasoning=after,
    )
    products, weights = family_products(recorded), family_draws(6, 5, 0).astype(float)
    found = _cosines(products, weights)  # here the layers stand where steps would
    for draw, counts in enumerate(weights):
        times = counts[[int(item.family[1:]) for item in items]] * np.array(
            [1 if item.is_trigger else -1 for item in items]
        )
        u, v = (np.einsum("p,pld->ld", times, side[:, :, 0].double().numpy()) for side in (before, after))
        expected = (u * v).sum(-1) / np.linalg.norm(u, axis=-1) / np.linalg.norm(v, axis=-1)
        np.testing.assert_allclose(found[draw], expected, rtol=1e-6)


def test_drawn_cosines_have_the_estimate_as_their_median():
    rng = np.random.default_rng(2)
    parent, noise = rng.normal(size=(8, 30)) + 1, rng.normal(size=(2, 8, 30))
    grams = np.stack([[parent @ parent.T, parent @ (parent + e).T, (parent + e) @ (parent + e).T] for e in noise])
    series = _cosine_series("safety", 4, grams, 8, 0)
    assert (series.values[0], series.layer, series.n) == (1.0, 4, 16)
    np.testing.assert_allclose(np.median(series.draws, axis=0), series.values, atol=1e-6)
    assert (series.draws[:, 0] == 1).all()


def test_scores_and_cosines_have_the_same_draws_of_families():
    """Only family 0 lost its answer, and only its vector turned, by a right angle. So in a draw in which it has the
    weight w of 8, its answer lowers the score by w / 8, and the cosine is (8 - w) / sqrt((8 - w)^2 + w^2): the more it
    weighs, the lower are both."""
    before, after = np.tile([1.0, 0.0], (8, 1)), np.array([[0.0, 1.0], *[[1.0, 0.0]] * 7])
    grams = np.array([[before @ before.T, before @ after.T, after @ after.T]])
    cosines = _cosine_series("safety", 4, grams, 8, 0).draws[:, 1]
    answers = np.array([np.ones(8), np.arange(8) > 0], dtype=float)
    scores = _mean_series("aligned", "safety", answers, np.arange(8), 0).draws[:, 1]
    np.testing.assert_array_equal(np.argsort(cosines), np.argsort(scores))


@pytest.mark.parametrize(
    ("first", "second", "expected"), [(5, 25, "before"), (25, 5, "after"), (15, 15, "together"), (5, 15, "before")]
)
def test_planted_orders_come_back(first: int, second: int, expected: str):
    found = compare_order(STEPS, course(first), course(second, down=False))
    assert (found.when, found.difference) == (expected, pytest.approx(first - second))


def test_two_changes_between_the_same_checkpoints_are_not_ordered():
    """Whatever the straight lines say: one is done at the first checkpoint, the other at nine tenths of it."""
    families = np.repeat(np.arange(FAMILIES), 2).astype(str)
    whole, most = (
        _mean_series("aligned", "safety", np.outer(np.array(shares), np.ones(2 * FAMILIES)), families, 0)
        for shares in ([0, 1, 1, 1, 1], [0, 0.9, 0.9, 1, 1])
    )
    found = compare_order(STEPS, whole, most)
    assert found.when == "together"
    assert found.difference < 0
    assert (found.low, found.high) == (-10, 10)


def test_what_no_family_shows_surely_cannot_be_ordered():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5, 2 * FAMILIES))
    noise = _mean_series("aligned", "safety", values, np.repeat(np.arange(FAMILIES), 2).astype(str), 0)
    found = compare_order(STEPS, noise, course(15))
    assert found.when == "cannot tell"
    assert np.isnan(found.low)


def test_an_interval_of_a_half_way_step_holds_a_planted_one_about_as_often_as_it_says():
    """Families rise at steps of their own around 20; the interval of the mean's half-way step should hold 20."""
    rng, held = np.random.default_rng(0), 0
    for trial in range(100):
        centres = 20 + 6 * rng.normal(size=FAMILIES)
        values = 1 / (1 + np.exp(-(np.array(STEPS)[:, None] - centres) / 4))
        values = values - values[:1]
        series = _mean_series("aligned", "safety", values / values[-1:], np.arange(FAMILIES).astype(str), trial)
        low, high = np.percentile(half_change_steps(STEPS, series.drawn_change, 1.0).at, [2.5, 97.5])
        held += low <= 20 <= high
    assert held >= 85  # percentiles of draws of 16 families hold 92 %


def scores(**p_holm: float) -> pd.DataFrame:
    rows = [
        {"dimension": d, "headline": True, "p": p, "p_holm": p, "low": -0.9, "high": -0.1, "reason": ""}
        for d, p in p_holm.items()
    ]
    return pd.DataFrame(rows)


def planted(score: int, cosine: int, readout: int, reasoning: int) -> list[Series]:
    return [
        course(reasoning, "accuracy", "reasoning", down=False),
        course(score),
        course(readout, "readout"),
        course(cosine, "cosine"),
    ]


VALIDATION = pd.DataFrame({"dimension": ["safety"], "reliable": [True]})


def test_only_established_changes_have_a_half_way_step():
    table = half_change_table(history(), planted(15, 5, 15, 5), scores(safety=0.2)).set_index("quantity")
    assert not table.established["aligned"]
    assert np.isnan(table.half["aligned"])
    assert table.half["accuracy"] == 5
    clear = half_change_table(history(), planted(15, 5, 15, 5), scores(safety=0.01)).set_index("quantity")
    assert clear.half["aligned"] == 15
    assert list(clear.loc["aligned", ["half_low", "half_high"]]) == [10, 20]  # between those two checkpoints


def test_the_words_say_what_was_planted():
    said = words_of(planted(35, 5, 35, 5), scores(safety=0.01), VALIDATION)
    assert "Reasoning accuracy: from 0% to 100% (+100 points" in said
    assert "half of it was there after about 5 optimizer steps (0 to 10), 50 tokens" in said
    assert "Aligned answers, safety: from 100% to 0%" in said
    assert "this change comes after the gain in reasoning (difference of the half-way steps +30, 95% interval" in said
    assert "interval +20 to +40 optimizer steps)" in said
    assert "Safety: the direction's cosine changes before the answers do" in said
    assert "Safety: the readout and the answers change together" in said
    assert "up to 10 optimizer steps apart" in said


def _shares(shares: list[float], quantity: str = "aligned", dimension: str = "safety", flips: int = 0) -> Series:
    """The same course in every family, but for `flips` of them that stay at the first share."""
    values = np.outer(np.array(shares), np.ones(2 * FAMILIES))
    values[:, : 2 * flips] = shares[0]
    return _mean_series(quantity, dimension, values, np.repeat(np.arange(FAMILIES), 2).astype(str), 0)


@pytest.mark.parametrize(
    ("shares", "flips", "expected"),
    [
        ([1, 0.6, 0.5, 0.5, 0.5], 0, None),  # straight there
        ([1, 0.0, 0.3, 0.5, 0.5], 0, 1),  # below both ends, and back
        ([0, 0.5, 1.0, 0.8, 0.5], 0, 2),
        ([0.5, 0.2, 0.3, 0.9, 1.0], 0, 1),  # away at first
        ([0.5, 0.8, 0.5, 0.5, 0.5], FAMILIES - 1, None),  # one family of sixteen
    ],
)
def test_a_detour_is_found_where_it_was_planted(shares: list[float], flips: int, expected: int | None):
    assert detour(_shares(shares, flips=flips)) == expected


def test_noise_about_a_level_course_is_seldom_a_detour():
    rng = np.random.default_rng(0)
    families = np.repeat(np.arange(FAMILIES), 2).astype(str)
    found = [
        detour(_mean_series("aligned", "safety", rng.normal(size=(9, 2 * FAMILIES)), families, seed))
        for seed in range(60)
    ]
    assert sum(place is not None for place in found) <= 6


def test_the_words_name_a_detour():
    series = [planted(35, 25, 35, 25)[0], _shares([1, 0.0, 0.3, 0.5, 0.5]), *planted(35, 5, 35, 5)[2:]]
    said = words_of(series, scores(safety=0.01), VALIDATION)
    assert (
        "Aligned answers, safety: on the way, at optimizer step 10, it was at 0%, beyond both its first "
        "and its last value."
    ) in said
    assert "this change comes before the gain in reasoning" in said


def test_what_went_and_came_back_is_not_timed():
    """Down and up again before the fall that lasts: only that counts."""
    series = _shares([1, 0.0, 1.0, 1.0, 0.0])
    assert compare_order(STEPS, series, course(15, down=False)).when == "after"


def test_checkpoints_that_write_nonsense_are_left_out_and_named():
    nonsense = _shares([0, 0.9, 0.1, 0.0, 0.0], "incoherent", "all")
    unclosed = _shares([0, 1, 0, 0, 0], "unclosed", "all")
    sound = sound_steps(nonsense)
    assert sound == [0, 2, 3, 4]
    assert history().at(sound).steps == (20, 30, 40)
    assert history().at(sound).tokens == (200, 300, 400)
    fall = _shares([1, 0.0, 0.9, 0.1, 0.0])
    assert half_change_table(history().at(sound), [fall.at(sound)], scores(safety=0.01)).half[0] == pytest.approx(25)
    said = "\n".join(failures(history(), [nonsense, unclosed], sound))
    assert "Answers that make no sense: at most 90% (at optimizer step 10), 0% at the last checkpoint." in said
    assert "Left out of all half-way steps, because most answers make no sense there: optimizer step 10." in said
    assert sound_steps(_shares([0, 0, 0, 0, 0.9])) == [0, 1, 2, 3, 4]  # the last is what all is measured against


def _with_missing(missing: list[int], n: int = 2 * FAMILIES) -> Series:
    """A fall from 1 to 0 before the second checkpoint, of which so many items are missing at each step."""
    values = np.repeat(np.array([[1.0], [1], [0], [0], [0]]), n, axis=1)
    for step, count in enumerate(missing):
        values[step, :count] = np.nan
    return _mean_series("aligned", "safety", values, np.repeat(np.arange(FAMILIES), n // FAMILIES).astype(str), 0)


def test_values_are_of_the_items_that_were_finished():
    series = _with_missing([0, 1, 4, 32, 0])
    np.testing.assert_equal(series.values, [1, 1, 0, np.nan, 0])
    np.testing.assert_equal(series.draws[7], [1, 1, 0, np.nan, 0])
    assert series.finished == [32, 31, 28, 0, 32]
    rng = np.random.default_rng(0)
    values, families = rng.random(size=(2, 40)), np.repeat(np.arange(10), 4).astype(str)
    values[1, 8:12] = np.nan  # a whole family
    found = _mean_series("aligned", "safety", values, families, 0)
    assert found.values == pytest.approx(np.nanmean(values, axis=1))
    assert found.at([1]).finished == [36]


def test_steps_at_which_too_many_answers_are_missing_are_left_out_and_named():
    sound, cut = _shares([0, 0, 0, 0, 0], "incoherent", "all"), _with_missing([0, 1, 4, 32, 0])
    unclosed = _shares([0, 0, 0.1, 1, 0], "unclosed", "all")
    places = sound_steps(sound, [cut])
    assert places == [0, 1, 4]  # 1 of 32 is 3 %
    halfway = half_change_table(history().at(places), [cut.at(places)], scores(safety=0.01)).set_index("quantity")
    assert list(halfway.loc["aligned", ["half_low", "half_high"]]) == [10, 40]
    said = "\n".join(failures(history(), [sound, unclosed, cut], places))
    assert "because more than 5% of the answers are missing there: optimizer step 20 and optimizer step 30." in said
    assert "cannot be told" not in said


@pytest.mark.parametrize("missing", [[0, 0, 0, 0, 4], [4, 0, 0, 0, 0], [0, 0, 0, 0, 32]])
def test_no_change_is_established_where_too_many_answers_are_missing_at_an_end(missing: list[int]):
    cut = _with_missing(missing)
    table = half_change_table(history(), [cut], scores(safety=0.01))
    assert not table.established[0]
    assert np.isnan(table.half[0])
    assert table.n[0] == 32 - missing[-1]
    said = failures(history(), [_shares([0] * 5, "incoherent", "all"), _shares([0] * 5, "unclosed", "all"), cut], [])
    assert any("missing at the last checkpoint" in line for line in said) == (missing[-1] > 0)


def test_the_words_say_what_cannot_be_said():
    said = words_of(planted(35, 5, 35, 5), scores(safety=0.01), VALIDATION.assign(reliable=False))
    assert "the readout does not follow the parent's judged behaviour well enough" in said
    nothing = [_still("accuracy", "reasoning"), *planted(35, 5, 35, 5)[1:]]
    said = words_of(nothing, scores(safety=0.5), VALIDATION)
    assert "the change is not established" in said
    assert "No change of aligned answers is established at the last checkpoint in safety." in said
    assert "cannot be asked: no change in reasoning is established" in said
    assert "before the answers do" not in said


def _still(quantity: str, dimension: str) -> Series:
    values = np.ones((5, 2 * FAMILIES))
    return _mean_series(quantity, dimension, values, np.repeat(np.arange(FAMILIES), 2).astype(str), 0)


def test_layers_are_chosen_by_the_parent_alone_and_not_too_deep():
    drift = pd.DataFrame(
        {
            "dimension": "safety",
            "layer": range(10),
            "auroc_instruct": [0.9, 0.5, 0.6, 0.8, 0.7, 0.5, 0.5, 0.5, 1.0, 1.0],
            "below_null_instruct": [True] + [False] * 9,
            "split_half_instruct": 0.5,
            "cosine": 0.9,
            "role": "think_close[-1]",
        }
    )
    assert best_layers(drift, "think_close[-1]") == {"safety": 3}
    assert best_layers(drift.assign(below_null_instruct=True), "think_close[-1]") == {"safety": 0}
