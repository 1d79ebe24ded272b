"""Where in the residual stream does a model write "this one is harmful"? One direction per layer and role.

The trigger items of a probe set ask for special behaviour, their neutral twins do not. A *finder* turns the two groups
of activations into a vector `w` that points from neutral to trigger. With r = mean(x | trigger) - mean(x | neutral),

    mean_difference   w = r, the finder of Arditi et al. (arXiv 2406.11717): on the block input, per layer and
                      template-tail position, in float64. The default: it needs no fit, and intervals are cheap.
    pca               w = argmax |w|=1 of sum_i (w . (t_i - n_i))^2 over twin pairs: the first principal component of
                      the paired differences, not centred (centring would remove r itself; RepE, arXiv 2310.01405, flips
                      the differences of random pairs instead, which has the same effect).
    logistic          w = argmin |w|^2 / 2 + C sum_i log(1 + exp(-y_i (w . x_i + b))), C = 0.01, on activations divided
                      by one number, their root mean square. Dimensions are not standardised one by one: with noise of
                      unequal size, that finds a planted direction at a cosine of .47, the common scale at .85 (r: .76;
                      C = 1: .85, but .93 instead of .95 where the noise is even).
    lda               w = S^-1 r, with the covariance S within the classes, shrunk after Ledoit & Wolf (2004): Fisher's
                      discriminant, the mass-mean classifier for independent items of Marks & Tegmark (arXiv
                      2310.06824).

The last three are scaled to the length r . w / |w|, the class difference along w, so that `norm` means the same for all
finders, and their sign is that of the class means. Directions are found for both models on the same items, in three
steps:

    1. Check that the activations are finite and that both classes are there.
    2. Find w on all items. Its length is kept as `norm`, and w / |w| is the direction. Where all items have the same
       activation (a template position at layer 0), w is zero and stays zero: there is no direction.
    3. Find w on random halves of the *families*, the same halves for both models. No two directions can be expected to
       agree better than the two halves: this is the noise ceiling of `drift`.

`cones` says how sure a direction is.

A new method is a function `(trigger [n, *cell, d_model], neutral [n, *cell, d_model]) -> [*cell, d_model]` that treats
each cell by itself and does not normalise; add it to `FINDERS`, and to `PAIRED` if row i of both groups must be twins.
It gets one layer at a time, `[n, role, d_model]`, in float64.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from threadpoolctl import threadpool_limits
from torch import Tensor

from mechdrift.directions.families import family_halves, twin_rows
from mechdrift.records import SIDES, Activations, Directions, MechdriftError, Side, check_not_empty

Finder = Callable[[Tensor, Tensor], Tensor]
Rows = Int[np.ndarray, " _"]
LOGISTIC_C = 0.01
ROUNDING = 1e-12  # eigenvalues below this share of the largest count as zero


def mean_difference(
    trigger: Float[Tensor, "trigger *cell d_model"], neutral: Float[Tensor, "neutral *cell d_model"]
) -> Float[Tensor, "*cell d_model"]:
    """Mean of the trigger items minus mean of the neutral items."""
    return trigger.mean(dim=0, dtype=torch.float64) - neutral.mean(dim=0, dtype=torch.float64)


def pca(
    trigger: Float[Tensor, "pair *cell d_model"], neutral: Float[Tensor, "pair *cell d_model"]
) -> Float[Tensor, "*cell d_model"]:
    """First principal component of the twins' differences, computed from the inner products of the pairs, which are
    fewer than the dimensions."""
    differences = (trigger - neutral).double().movedim(0, -2)
    weights = torch.linalg.eigh(differences @ differences.mT).eigenvectors[..., -1:]
    return _rescale_to_class_difference((weights.mT @ differences).squeeze(-2), differences.mean(dim=-2))


def logistic(
    trigger: Float[Tensor, "trigger *cell d_model"], neutral: Float[Tensor, "neutral *cell d_model"]
) -> Float[Tensor, "*cell d_model"]:
    """Weights of a logistic regression, one cell at a time."""
    both = torch.cat([trigger, neutral]).double()
    is_trigger = np.arange(len(both)) < len(trigger)
    cells = both.flatten(1, -2).unbind(dim=1) if both.dim() > 2 else [both]
    weights = torch.stack([_regress(cell.numpy(), is_trigger) for cell in cells]).reshape(both.shape[1:])
    return _rescale_to_class_difference(weights, mean_difference(trigger, neutral))


def _regress(
    items: Float[np.ndarray, "item d_model"], is_trigger: Bool[np.ndarray, " item"]
) -> Float[Tensor, " d_model"]:
    """Weights, fitted in the span of the items: the penalty is invariant to rotations, and the best weights are sums of
    items."""
    from sklearn.linear_model import LogisticRegression

    centred = items - items.mean(axis=0)
    scale = np.sqrt((centred**2).mean())
    if scale == 0:
        return torch.zeros(items.shape[1], dtype=torch.float64)
    squares, vectors = np.linalg.eigh(centred @ centred.T / scale**2)
    kept = squares > ROUNDING * squares[-1]
    basis = centred.T @ (vectors[:, kept] / np.sqrt(squares[kept])) / scale  # orthonormal, [d_model, dimension]
    fit = LogisticRegression(C=LOGISTIC_C, max_iter=1000).fit(vectors[:, kept] * np.sqrt(squares[kept]), is_trigger)
    return torch.from_numpy(basis @ fit.coef_[0])


def lda(
    trigger: Float[Tensor, "trigger *cell d_model"], neutral: Float[Tensor, "neutral *cell d_model"]
) -> Float[Tensor, "*cell d_model"]:
    """Mean difference, whitened by the shrunk covariance a I + c X'X within the classes. Its inverse follows from an
    n x n matrix, n being the number of items."""
    difference = mean_difference(trigger, neutral)
    within = torch.cat(
        [group.double() - group.mean(dim=0, dtype=torch.float64) for group in (trigger, neutral)]
    ).movedim(0, -2)
    gram = within @ within.mT
    shrinkage, variance = _ledoit_wolf(within, gram)
    a, c = shrinkage * variance, (1 - shrinkage) / len(gram[0])
    a = torch.where(a > 0, a, torch.ones_like(a))  # without variance within the classes there is nothing to whiten
    inner = a * torch.eye(gram.shape[-1], dtype=torch.float64) + c * gram
    explained = torch.linalg.solve(inner, within @ difference[..., None])
    return _rescale_to_class_difference(difference - (c * within.mT @ explained).squeeze(-1), difference)


def _ledoit_wolf(
    within: Float[Tensor, "*cell item d_model"], gram: Float[Tensor, "*cell item item"]
) -> tuple[Tensor, Tensor]:
    """Shrinkage towards the mean variance, and that variance, `[*cell, 1, 1]` (Ledoit & Wolf 2004, doi
    10.1016/S0047-259X(03)00096-4)."""
    count, width = within.shape[-2:]
    squared = gram.diagonal(dim1=-2, dim2=-1)[..., None]
    variance = squared.sum(dim=(-2, -1), keepdim=True) / (count * width)
    size = (gram**2).sum(dim=(-2, -1), keepdim=True) / count**2  # |X'X / n|^2
    error = ((squared**2).sum(dim=(-2, -1), keepdim=True) / count - size) / count
    spread = size - width * variance**2
    shrinkage = torch.where(spread > 0, torch.minimum(error, spread) / spread, torch.ones_like(spread))
    return shrinkage, variance


def _rescale_to_class_difference(
    weights: Float[Tensor, "*cell d_model"], difference: Float[Tensor, "*cell d_model"]
) -> Float[Tensor, "*cell d_model"]:
    """The class difference, projected on the weights: the same direction with a defined sign and length."""
    squares = (weights * weights).sum(dim=-1, keepdim=True)
    return weights * (weights * difference).sum(dim=-1, keepdim=True) / squares.where(squares > 0, 1)


FINDERS: dict[str, Finder] = {"mean_difference": mean_difference, "pca": pca, "logistic": logistic, "lda": lda}
PAIRED = frozenset({"pca"})


def find_directions(
    activations: Activations, method: str = "mean_difference", splits: int = 16, seed: int = 0
) -> Directions:
    """Where in the residual stream does each model write "this one is a trigger"? One direction per layer and role.

    Args:
        activations: of trigger items and their neutral twins, from `collect`.
        method: `"mean_difference"` (default), `"pca"`, `"logistic"` or `"lda"`; see `mechdrift.directions.finders`.
        splits: how many times the families are split into halves, for the noise ceiling.
        seed: of the splits.

    Returns:
        `Directions`: `.instruct` and `.reasoning` `[layer, role, d_model]`, of unit length, pointing from neutral
        to trigger; `.norm_*` `[layer, role]`, the class difference; `.split_*` `[split, half, layer, role,
        d_model]`. A cell in which all activations are equal has the zero vector.

    Raises:
        MechdriftError: for an unknown method, and for activations that are not finite.

    Source:
        Arditi et al. 2024, https://arxiv.org/abs/2406.11717 (mean difference); Marks & Tegmark 2023,
        https://arxiv.org/abs/2310.06824 (lda).

    Example:
        >>> dirs = md.find_directions(acts)
        >>> dirs.instruct.shape == (len(dirs.layers), len(dirs.roles), 32)  # layer, role, d_model
        True
        >>> lengths = dirs.frame[["layer", "role", "norm_instruct", "norm_reasoning"]]
    """
    if method not in FINDERS:
        raise MechdriftError(f"There is no direction finder {method!r}: choose one of {', '.join(FINDERS)}.")
    check_not_empty(activations.probes)
    _check_finite(activations)
    everything = np.ones((1, len(activations.probes)), dtype=bool)
    halves = family_halves(activations, splits, seed)
    whole = {side: find_in(activations, side, everything, method)[0] for side in SIDES}
    first, second = ({side: find_in(activations, side, half, method) for side in SIDES} for half in (halves, ~halves))
    split = {side: unit_vectors(torch.stack([first[side], second[side]], dim=1)) for side in SIDES}
    return Directions(
        dimension=activations.probes.dimension,
        method=method,
        site=activations.site,
        layers=activations.layers,
        roles=activations.roles,
        instruct=unit_vectors(whole["instruct"]),
        reasoning=unit_vectors(whole["reasoning"]),
        norm_instruct=whole["instruct"].norm(dim=-1).float(),
        norm_reasoning=whole["reasoning"].norm(dim=-1).float(),
        split_instruct=split["instruct"],
        split_reasoning=split["reasoning"],
        activations=activations,
    )


def find_in(
    activations: Activations, side: Side, subsets: Bool[np.ndarray, "subset prompt"], method: str
) -> Float[Tensor, "subset layer role d_model"]:
    """One model's directions in several subsets of the prompts, float64 and not normalised."""
    rows = [class_rows(activations, np.flatnonzero(mask), method in PAIRED) for mask in subsets]
    with threadpool_limits(1):  # thousands of small matrices: threads would only wait for each other
        return torch.stack(list(find_by_layer(activations, side, rows, method)), dim=1)


def find_by_layer(
    activations: Activations, side: Side, rows: Sequence[tuple[Rows, Rows]], method: str
) -> Iterator[Float[Tensor, "subset role d_model"]]:
    finder = FINDERS[method]
    for recorded in activations.of(side).unbind(dim=1):
        layer = recorded.double()  # one layer at a time, because a float64 copy of all layers would be large
        yield torch.stack([finder(layer[trigger], layer[neutral]) for trigger, neutral in rows])


def class_rows(activations: Activations, rows: Rows, paired: bool) -> tuple[Rows, Rows]:
    """The trigger and the neutral items among `rows`, which may hold an item twice; if `paired`, only those whose twin
    is there, with twins at the same place."""
    is_trigger = activations.is_trigger[rows]
    if not paired:
        return rows[is_trigger], rows[~is_trigger]
    triggers, twins = rows[is_trigger], twin_rows(activations)[rows[is_trigger]]
    together = np.isin(twins, rows)
    if not together.any():
        raise MechdriftError(
            f"Probe set {activations.probes.name!r} has too few twin pairs for this method: use one of "
            f"{', '.join(name for name in FINDERS if name not in PAIRED)}."
        )
    return triggers[together], twins[together]


def at_roles(directions: Directions, *roles: str) -> Directions:
    """The directions at these roles only, in new tensors, so that the memory of the others can be released."""
    chosen = [directions.roles.index(role) for role in roles]

    def taken(values: Tensor, axis: int) -> Tensor:
        return values.index_select(axis, torch.tensor(chosen))

    activations = directions.activations
    fewer = {side: taken(activations.of(side), 2) for side in SIDES}
    split = {f"split_{side}": taken(getattr(directions, f"split_{side}"), 3) for side in SIDES}
    norm = {f"norm_{side}": taken(getattr(directions, f"norm_{side}"), 1) for side in SIDES}
    return replace(
        directions,
        roles=roles,
        activations=replace(activations, roles=roles, readout={}, **fewer),
        **{side: taken(directions.of(side), 1) for side in SIDES},
        **split,
        **norm,
    )


def unit_vectors(vectors: Float[Tensor, "*cell d_model"]) -> Float[Tensor, "*cell d_model"]:
    """Divide by the length; a zero vector has no direction and stays zero."""
    length = vectors.norm(dim=-1, keepdim=True)
    return (vectors / length.where(length > 0, 1)).float()


def _check_finite(activations: Activations) -> None:
    for side in SIDES:
        recorded = activations.of(side)
        if recorded.sum(dtype=torch.float64).isfinite():  # a sum is cheap, and NaN or infinity in any place shows in it
            continue
        item, layer, role = (~recorded.isfinite()).any(dim=-1).nonzero()[0].tolist()
        raise MechdriftError(
            f"The {side} model's activation of item {activations.probes.items[item].id!r} at layer "
            f"{activations.layers[layer]}, role {activations.roles[role]!r}, is NaN or infinite: load the model in "
            "float32, or leave this item out."
        )
