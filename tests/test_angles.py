"""Oracles: vectors without noise, loops over families, and pairs simulated with a known angle between them."""

import numpy as np
import pytest
from scipy import stats

from mechdrift.statistics.angles import noiseless_angle


def products(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Inner products `[cell, side, side, family, family]` of `[cell, family, d_model]`."""
    both = np.stack([first, second], axis=1)
    return np.einsum("cafd,cbgd->cabfg", both, both)


def simulate(
    degrees: float,
    families: int,
    pairs: int,
    d_model: int,
    size: float,
    shared: float,
    decay: float = 0.0,
    own: float = 0.0,
    seed: int = 0,
) -> np.ndarray:
    """200 pairs of models. Noise of unit size per item and axis, or decaying over the axes; families may differ in ten
    dimensions."""
    rng, cells = np.random.default_rng(seed), 200
    scale = rng.permutation(np.arange(1, d_model + 1) ** (-decay / 2))
    scale *= np.sqrt(d_model / (scale**2).sum())

    def noise() -> np.ndarray:
        effects = np.zeros((cells, families, d_model))
        effects[..., :10] = own * rng.standard_normal((cells, families, 10))
        items = rng.standard_normal((2, cells, families, d_model)) * scale / np.sqrt(pairs)
        return items[0] - items[1] + effects

    common, *single = noise(), noise(), noise()
    u, v = np.linalg.qr(rng.standard_normal((d_model, 2)))[0].T
    angle = np.radians(degrees)
    directions = size * u, 1.3 * size * (np.cos(angle) * u + np.sin(angle) * v)
    return products(
        *(w + np.sqrt(shared) * common + np.sqrt(1 - shared) * e for w, e in zip(directions, single, strict=True))
    )


@pytest.mark.parametrize("degrees", [0.0, 0.5, 30.0, 90.0, 150.0, 180.0])
def test_without_noise_the_angle_is_known(degrees: float):
    angle = np.radians(degrees)
    weights = np.random.default_rng(0).uniform(0.5, 1.5, (1, 8, 1))  # families of different size
    found = noiseless_angle(products(weights * [1.0, 0.0], weights * [3 * np.cos(angle), 3 * np.sin(angle)]))
    for name in ("angle", "angle_low", "angle_high"):
        assert found[name] == pytest.approx(degrees, abs=1e-3)
    assert found["cosine"] == pytest.approx(np.cos(angle))


def test_the_estimate_sums_over_pairs_of_different_families():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(6, 9)) + 1, rng.normal(size=(6, 9)) + 1
    apart = [(f, g) for f in range(6) for g in range(6) if f != g]
    sums = [sum(x[f] @ y[g] for f, g in apart) for x, y in ((a, b), (a, a), (b, b))]
    found = noiseless_angle(products(a[None], b[None]))
    assert found["cosine"] == pytest.approx(sums[0] / np.sqrt(sums[1] * sums[2]))
    assert found["low"] < 1


def test_the_kept_cosines_are_those_whose_excess_is_within_its_quantile():
    """The linear and the quadratic part, written out for one cosine: the interval's end is where |T| meets t
    sqrt(V)."""
    families = 7
    blocks = simulate(40, families, 3, 20, 3.0, 0.5)[:1]
    found = noiseless_angle(blocks, level=0.9)
    for end in ("low", "high"):
        c = found[end][0]
        (aa, ab), (ba, bb) = blocks[0] * (1 - np.eye(families))
        k = np.sqrt(bb.sum() / aa.sum())
        h = (ab + ba - c * (k * aa + bb / k)) / 2
        rows, total = h.sum(axis=1), h.sum()
        assert total == pytest.approx(ab.sum() - c * np.sqrt(aa.sum() * bb.sum()))
        quadratic = [
            (h[f, g] - (rows[f] + rows[g]) / (families - 2) + total / ((families - 1) * (families - 2))) ** 2
            for f in range(families)
            for g in range(families)
            if f != g
        ]
        s2 = sum(quadratic) / (families * (families - 3))
        unbiased = max(rows.var(ddof=1) / (families - 2) ** 2 - s2 / (families - 2), 0)
        # the mean vectors of one length, turned in their plane: in coordinates, from the Gram matrix of all families
        values, vectors = np.linalg.eigh(blocks[0].swapaxes(1, 2).reshape(2 * families, 2 * families))
        a, b = np.split(vectors * np.sqrt(np.maximum(values, 0)), 2)
        a, b = a * np.sqrt(k), b / np.sqrt(k)
        u, v = (x.sum(axis=0) / np.linalg.norm(x.sum(axis=0)) for x in (a, b))
        middle, side = (w / np.linalg.norm(w) for w in (u + v, u - v))
        half = np.arccos(c) / 2
        u, v = np.cos(half) * middle + np.sin(half) * side, np.cos(half) * middle - np.sin(half) * side
        assert u @ v == pytest.approx(c)
        added = (a @ (v - c * u) + b @ (u - c * v)) / 2
        upper = added.var(ddof=1) * np.sqrt(aa.sum() * bb.sum()) / (families * (families - 1))
        linear = 4 * families * (families - 1) ** 2 * (upper + min(upper, unbiased)) / 2
        noise = 2 * families * (families - 1) * s2
        freedom = (linear + noise) ** 2 / (linear**2 / (families - 1) + noise**2 / (families * (families - 3) / 2))
        assert abs(total) == pytest.approx(stats.t.ppf(0.95, freedom) * np.sqrt(linear + noise), rel=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {"degrees": 5, "families": 8, "pairs": 2, "d_model": 64, "size": 3.0, "shared": 1.0},
        {"degrees": 5, "families": 16, "pairs": 4, "d_model": 576, "size": 3.0, "shared": 0.0},
        {"degrees": 20, "families": 8, "pairs": 4, "d_model": 576, "size": 5.0, "shared": 0.0},
        {
            "degrees": 20,
            "families": 16,
            "pairs": 4,
            "d_model": 64,
            "size": 3.0,
            "shared": 0.8,
            "decay": 1.0,
            "own": 0.8,
        },
        {"degrees": 20, "families": 32, "pairs": 6, "d_model": 64, "size": 1.5, "shared": 1.0},
        {"degrees": 60, "families": 8, "pairs": 6, "d_model": 64, "size": 3.0, "shared": 0.5},
        {"degrees": 60, "families": 16, "pairs": 4, "d_model": 576, "size": 5.0, "shared": 1.0},
        {
            "degrees": 60,
            "families": 32,
            "pairs": 2,
            "d_model": 64,
            "size": 3.0,
            "shared": 0.0,
            "decay": 1.0,
            "own": 0.8,
        },
    ],
    ids=lambda settings: "-".join(f"{value:g}" for value in settings.values()),
)
def test_ninety_percent_intervals_hold_the_true_angle_85_to_95_times_in_100(settings: dict):
    found = noiseless_angle(simulate(**settings), level=0.9)
    held = (found["angle_low"] <= settings["degrees"]) & (settings["degrees"] <= found["angle_high"])
    assert np.isfinite(found["angle"]).mean() > 0.95
    assert 0.85 <= held[np.isfinite(found["angle"])].mean() <= 0.95
    assert np.median(found["angle_high"] - found["angle_low"]) < 60  # and say something


def test_with_large_family_effects_in_few_dimensions_intervals_err_on_the_wide_side():
    found = noiseless_angle(simulate(20, 16, 4, 576, 3.0, shared=0.8, decay=1.0, own=0.8, seed=3), level=0.9)
    held = (found["angle_low"] <= 20) & (found["angle_high"] >= 20)
    assert 0.9 <= held[np.isfinite(found["angle"])].mean() <= 0.98


def test_a_higher_level_gives_a_wider_interval():
    blocks = simulate(30, 12, 4, 64, 3.0, 0.5)
    narrow, wide = (noiseless_angle(blocks, level) for level in (0.5, 0.99))
    assert (wide["angle_high"] >= narrow["angle_high"]).all()
    assert (wide["angle_low"] <= narrow["angle_low"]).all()
    assert (wide["angle_high"] - wide["angle_low"] > narrow["angle_high"] - narrow["angle_low"]).all()


def test_of_equal_vectors_the_interval_begins_at_zero():
    found = noiseless_angle(simulate(0, 16, 4, 64, 3.0, 0.5), level=0.9)
    assert (found["angle_low"] == 0).mean() >= 0.9


def test_where_there_is_no_vector_nothing_is_said():
    found = noiseless_angle(simulate(0, 8, 2, 64, 0.0, 0.0))
    unknown = np.isnan(found["cosine"])
    assert 0.5 < unknown.mean() < 1
    for values in found.values():
        assert (np.isnan(values) == unknown).all()
    width = (found["angle_high"] - found["angle_low"])[~unknown]
    assert np.median(width) > 120


def test_three_families_give_an_estimate_without_an_interval():
    found = noiseless_angle(simulate(30, 3, 4, 64, 8.0, 1.0))
    assert np.isfinite(found["angle"]).all()
    assert np.isnan(found["angle_low"]).all()
