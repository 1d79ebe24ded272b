"""Oracles: closed forms, scipy's dense Procrustes, rotations that are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg, stats

from mechdrift.statistics.geometry import (
    cka,
    linear_cka,
    principal_angles,
    principal_components,
    procrustes,
    rotations,
    unbiased_cka,
)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def rotation(width: int, seed: int = 0) -> np.ndarray:
    return stats.special_ortho_group.rvs(width, random_state=seed)


def centred(rows: np.ndarray) -> np.ndarray:
    return rows - rows.mean(axis=0)


def test_principal_angles_of_planes_turned_by_known_angles():
    angles = np.array([5.0, 30.0, 70.0])
    first, second = np.eye(8)[:3], np.zeros((3, 8))
    for row, angle in enumerate(np.radians(angles)):
        second[row, row], second[row, row + 3] = np.cos(angle), np.sin(angle)
    mixed = normal(3, 3) @ second  # another basis of the same span
    assert principal_angles(first, mixed) == pytest.approx(angles)
    assert principal_angles(first @ rotation(8), mixed @ rotation(8)) == pytest.approx(angles)


def test_principal_angles_of_equal_and_of_orthogonal_spans():
    rows = normal(3, 10)
    assert principal_angles(rows, rows[::-1] * 4) == pytest.approx(0, abs=1e-6)
    assert principal_angles(np.eye(10)[:2], np.eye(10)[2:5]) == pytest.approx(90)


def test_principal_components_are_those_of_the_singular_value_decomposition():
    rows = normal(4, 12, 30)
    components, squares = principal_components(rows, 3)
    for cell, found, square in zip(rows, components, squares, strict=True):
        _, values, vectors = np.linalg.svd(cell)
        assert square == pytest.approx(values[:3] ** 2)
        assert np.abs((found * vectors[:3]).sum(axis=1)) == pytest.approx(1)


def test_principal_components_beyond_the_rank_are_zero():
    components, squares = principal_components(np.outer([1.0, 2, 3, 4], normal(9)), 3)
    assert squares[0] > 0
    assert (squares[1:] == 0).all()
    assert (components[1:] == 0).all()


def test_cka_in_closed_form():
    """Two columns with covariances diag(1, 1) and diag(a, b): (a + b) / sqrt(2 (a^2 + b^2))."""
    x = np.array([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    assert linear_cka(x, x * np.sqrt([3, 1])) == pytest.approx(4 / np.sqrt(2 * 10))
    assert linear_cka(x[:, :1], x[:, 1:]) == pytest.approx(0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 10), st.floats(-100, 100))
def test_cka_does_not_see_rotation_scale_and_shift(seed: int, scale: float, shift: float):
    x, y = normal(20, 6, seed=seed), normal(20, 9, seed=seed + 1)
    moved = scale * x @ rotation(6, seed) + shift
    for similarity in (linear_cka, unbiased_cka):
        assert similarity(x, moved) == pytest.approx(1)
        assert similarity(moved, y) == pytest.approx(similarity(x, y))


def test_cka_by_its_definition():
    x, y = normal(20, 6), normal(20, 9, seed=1)
    a, b = centred(x), centred(y)
    expected = np.linalg.norm(a.T @ b) ** 2 / np.linalg.norm(a.T @ a) / np.linalg.norm(b.T @ b)
    assert linear_cka(x, y) == pytest.approx(expected)


def song(k: np.ndarray, m: np.ndarray) -> float:
    """The unbiased HSIC as Song et al. (2012) write it."""
    n = len(k)
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    return (np.trace(k @ m) + k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 * (k @ m).sum() / (n - 2)) / (n * (n - 3))


def test_unbiased_cka_by_its_definition():
    k, m = (rows @ rows.T for rows in (normal(12, 30), normal(12, 40, seed=1)))
    assert unbiased_cka(normal(12, 30), normal(12, 40, seed=1)) == pytest.approx(
        song(k, m) / np.sqrt(song(k, k) * song(m, m))
    )


def test_unrelated_activations_look_alike_only_to_the_biased_form():
    biased, unbiased = np.array([(linear_cka(x, y), unbiased_cka(x, y)) for x, y in normal(100, 2, 24, 200)]).T
    assert biased.mean() > 0.85
    assert abs(unbiased.mean()) < 3 * unbiased.std() / np.sqrt(len(unbiased))


def test_cka_of_nothing_is_unknown():
    constant = np.full((6, 3), 2.0)
    assert np.isnan(linear_cka(constant, normal(6, 3)))
    assert np.isnan(unbiased_cka(normal(3, 5), normal(3, 5)))
    assert np.isnan(cka(np.zeros((2, 6, 6)), np.zeros((2, 6, 6)))[0]).all()


def test_procrustes_recovers_a_random_rotation():
    rows, turn = normal(60, 20), rotation(20, seed=3)
    assert procrustes(rows, rows @ turn) == pytest.approx(turn, abs=1e-6)
    noisy = procrustes(rows, rows @ turn + 0.01 * normal(60, 20, seed=1))
    assert noisy == pytest.approx(turn, abs=0.02)


def test_procrustes_is_scipys_where_the_rows_fix_it():
    source, target = normal(60, 20), normal(60, 20, seed=1)
    assert procrustes(source, target) == pytest.approx(linalg.orthogonal_procrustes(source, target)[0], abs=1e-6)


def test_with_few_rows_procrustes_fits_as_well_and_turns_less():
    source, target = centred(normal(12, 60)), centred(normal(12, 60, seed=1))
    found, dense = procrustes(source, target), linalg.orthogonal_procrustes(source, target)[0]
    assert found @ found.T == pytest.approx(np.eye(60), abs=1e-10)
    assert np.linalg.norm(source @ found - target) == pytest.approx(np.linalg.norm(source @ dense - target), rel=1e-6)
    assert np.linalg.norm(found - np.eye(60)) < 0.7 * np.linalg.norm(dense - np.eye(60))
    nearest = min(np.linalg.norm(_with_another_rest(source, target, found, seed) - np.eye(60)) for seed in range(20))
    assert np.linalg.norm(found - np.eye(60)) < nearest
    outside = linalg.null_space(np.vstack([source, target]))
    assert found @ outside == pytest.approx(outside, abs=1e-8)


def _with_another_rest(source: np.ndarray, target: np.ndarray, found: np.ndarray, seed: int) -> np.ndarray:
    """As good a fit: the same on the source rows' span, turned further where they say nothing."""
    free = linalg.null_space(source)
    small = linalg.expm(0.05 * (lambda a: a - a.T)(normal(free.shape[1], free.shape[1], seed=seed)))
    other = (np.eye(len(found)) + free @ (small - np.eye(len(small))) @ free.T) @ found
    assert np.linalg.norm(source @ other - target) == pytest.approx(np.linalg.norm(source @ found - target), rel=1e-6)
    return other


def test_equal_rows_are_not_turned():
    rows = centred(normal(12, 60))
    assert procrustes(rows, rows) == pytest.approx(np.eye(60), abs=1e-9)
    assert procrustes(rows, 3 * rows) == pytest.approx(np.eye(60), abs=1e-9)
    assert procrustes(0 * rows, 0 * rows) == pytest.approx(np.eye(60))


def test_many_cells_at_once_are_each_cell_alone():
    source, target = normal(5, 8, 30), normal(5, 8, 30, seed=1)
    target[3] = source[3] = 0
    basis, change = rotations(
        source @ source.swapaxes(1, 2), source @ target.swapaxes(1, 2), target @ target.swapaxes(1, 2)
    )
    for cell in range(5):
        span = np.vstack([source[cell], target[cell]]).T @ basis[cell]
        assert np.eye(30) + span @ change[cell] @ span.T == pytest.approx(
            procrustes(source[cell], target[cell]), abs=1e-9
        )
