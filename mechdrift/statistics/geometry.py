"""How similar are two models' representations of the same prompts? Angles, similarity, and the best rotation.

Rows are prompts, the same in both models. Functions with leading axes (`*cell`) treat each cell by itself.

    principal_angles   between two subspaces: the smallest angle that a vector of one makes with the other, then the
                       next at right angles to it, ... (Björck & Golub 1973, doi 10.1090/S0025-5718-1973-0348991-3).
                       Equal subspaces have only zeros, orthogonal ones only 90 degrees.
    linear_cka         |X'Y|^2 / (|X'X| |Y'Y|) of centred X, Y: 1 if one is the other turned and scaled as a whole, 0 if
                       all columns are uncorrelated (Kornblith et al., arXiv 1905.00414). With more dimensions than
                       prompts, unrelated X and Y score far above 0; the *unbiased* form leaves out each prompt's
                       similarity to itself and is 0 on average there (Song et al. 2012; Nguyen et al., arXiv
                       2010.15327).
    procrustes         the rotation or reflection R with the least |A R - B| (Schönemann 1966, doi 10.1007/BF02289451):
                       R = U V' from the singular vectors of A'B. With fewer prompts than dimensions, R is arbitrary in
                       the rest of the space. Of all best R, this is the nearest to the identity, because the two models
                       of a pair share their coordinates. It is the limit of |A R - B|^2 + e |R - I|^2 for e -> 0.
"""

import numpy as np
import scipy
from jaxtyping import Float

LEAST = 1e-9  # weight of the identity, as a share of the largest singular value
ROUNDING = 1e-11  # eigenvalues below this share of the largest are zero


def principal_components(
    rows: Float[np.ndarray, "*cell row d_model"], count: int
) -> tuple[Float[np.ndarray, "*cell {count} d_model"], Float[np.ndarray, "*cell {count}"]]:
    """The first principal directions of the rows, which are not centred, and the sums of squares along them; zeros
    beyond the rank."""
    products = rows @ np.swapaxes(rows, -1, -2)
    squares, vectors = np.linalg.eigh(products)
    squares, vectors = squares[..., ::-1][..., :count], vectors[..., ::-1][..., :count]
    squares = np.where(squares > ROUNDING * squares[..., :1], squares, 0)
    lengths = np.sqrt(np.where(squares > 0, squares, np.inf))
    return np.swapaxes(vectors / lengths[..., None, :], -1, -2) @ rows, squares


def principal_angles(
    first: Float[np.ndarray, "k d_model"], second: Float[np.ndarray, "m d_model"]
) -> Float[np.ndarray, " angle"]:
    """The angles between the spans of two sets of rows, in degrees, the smallest first."""
    return np.degrees(scipy.linalg.subspace_angles(first.T, second.T))[::-1]


def linear_cka(x: Float[np.ndarray, "row d_first"], y: Float[np.ndarray, "row d_second"]) -> float:
    """Similarity of two representations of the same rows, from 0 to 1; NaN where one of them is constant."""
    return float(cka(x @ x.T, y @ y.T)[0])


def unbiased_cka(x: Float[np.ndarray, "row d_first"], y: Float[np.ndarray, "row d_second"]) -> float:
    """The same from unbiased estimates: 0 on average where the two are unrelated, so it may be negative. Needs four
    rows."""
    return float(cka(x @ x.T, y @ y.T)[1])


def cka(
    first: Float[np.ndarray, "*cell row row"], second: Float[np.ndarray, "*cell row row"]
) -> tuple[Float[np.ndarray, "*cell"], Float[np.ndarray, "*cell"]]:
    """`linear_cka` and `unbiased_cka` from the rows' inner products, for many cells at once."""
    # centring first changes neither form, but keeps a large common vector from swallowing the digits
    products = [centre_products(rows) for rows in (first, second)]
    return _similarity(*products), _similarity(*(_without_self(product) for product in products))


def centre_products(products: Float[np.ndarray, "*cell row column"]) -> Float[np.ndarray, "*cell row column"]:
    """Inner products after the mean of the rows, and that of the columns, was subtracted."""
    rows, columns = products.mean(axis=-1, keepdims=True), products.mean(axis=-2, keepdims=True)
    return products - rows - columns + rows.mean(axis=-2, keepdims=True)


def _without_self(products: np.ndarray) -> np.ndarray:
    """Zero diagonal, then row sums zero: the U-centring of Székely & Rizzo 2014, whose inner product is the unbiased
    HSIC."""
    count = products.shape[-1]
    if count < 4:
        return np.zeros_like(products)
    off = products * (1 - np.eye(count))
    rows = off.sum(axis=-1, keepdims=True) / (count - 2)
    centred = (
        off - rows - np.swapaxes(rows, -1, -2) + off.sum(axis=(-2, -1), keepdims=True) / ((count - 1) * (count - 2))
    )
    return centred * (1 - np.eye(count))


def _similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    shared, one, two = ((a * b).sum(axis=(-2, -1)) for a, b in ((first, second), (first, first), (second, second)))
    length = np.sqrt(one * two)
    return np.divide(shared, length, out=np.full_like(shared, np.nan), where=length > 0)


def procrustes(
    source: Float[np.ndarray, "row d_model"], target: Float[np.ndarray, "row d_model"]
) -> Float[np.ndarray, "d_model d_model"]:
    """The orthogonal R, nearest to the identity, with `source @ R` as near to `target` as can be. Centre the rows
    before."""
    basis, change = rotations(source @ source.T, source @ target.T, target @ target.T)
    span = basis.T @ np.vstack([source, target])
    return np.eye(source.shape[-1]) + span.T @ change @ span


def rotations(
    source: Float[np.ndarray, "*cell row row"],
    across: Float[np.ndarray, "*cell row row"],
    target: Float[np.ndarray, "*cell row row"],
) -> tuple[Float[np.ndarray, "*cell both both"], Float[np.ndarray, "*cell both both"]]:
    """`procrustes` from inner products alone (A A', A B', B B'), for many cells at once: R = I + Q change Q'.

    The columns of Q = [A; B]' basis are orthonormal and span all rows; dimensions beyond their rank are zero.
    """
    products = np.block([[source, across], [np.swapaxes(across, -1, -2), target]])
    squares, vectors = np.linalg.eigh(products)
    kept = squares > ROUNDING * squares[..., -1:]
    lengths = np.sqrt(np.where(kept, squares, 1.0))[..., None, :]
    rows = vectors * lengths * kept[..., None, :]  # of A, then of B, in the coordinates of Q
    half = source.shape[-1]
    shared = np.swapaxes(rows[..., :half, :], -1, -2) @ rows[..., half:, :]
    scale = np.linalg.norm(shared, axis=(-2, -1))[..., None, None]
    identity = np.eye(2 * half)
    # nothing in common, or nothing at all: the identity alone is left
    left, _, right = np.linalg.svd(shared / np.where(scale > 0, scale, 1) + LEAST * identity)
    return vectors / lengths * kept[..., None, :], left @ right - identity


def cosine_of(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The cosine along the last axis; NaN where a vector is zero, exactly 1 where both are the same."""
    length = np.sqrt((u * u).sum(axis=-1) * (v * v).sum(axis=-1))
    return np.clip(ratio((u * v).sum(axis=-1), length), -1, 1)


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """The quotient; NaN where the denominator is not positive."""
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
