"""Where in the residual stream does a model write "this one is harmful"? One direction per layer and role.

The trigger items of a probe set ask for special behaviour, their neutral twins do not. A *finder* turns the two groups
of activations into a vector `w` that points from neutral to trigger. With r = mean(x | trigger) - mean(x | neutral):

    mean_difference   w = r, the finder of Arditi et al. (arXiv 2406.11717): on the block input, per layer and
                      template-tail position, in float64. The default: it needs no fit, and intervals are cheap.
    pca               w = argmax |w|=1 of sum_i (w . (t_i - n_i))^2 over twin pairs: the first principal component of
                      the paired differences, not centred (centring would take r itself away; RepE, arXiv 2310.01405,
                      turns the differences of random pairs round instead, which comes to the same).
    logistic          w = argmin |w|^2 / 2 + C sum_i log(1 + exp(-y_i (w . x_i + b))), C = 0.01, on activations divided
                      by one number, their root mean square. Not standardised per dimension: with noise of unequal size
                      that finds a planted direction at a cosine of .47, the common scale at .85 (r: .76; C = 1: .85,
                      but .93 for .95 where the noise is even).
    lda               w = S^-1 r, S the covariance within the classes, shrunk as Ledoit & Wolf (2004) say: Fisher's
                      discriminant, the mass-mean classifier for independent items of Marks & Tegmark (arXiv
                      2310.06824).

The last three are given the length r . w / |w|, the class difference along them: so `norm` means the same for all, and
their sign is that of the class means. Directions are found for both models on the same items, in three steps:

    1. check that the activations are finite and that both classes are there;
    2. w on all items: its length is kept as `norm`, and w / |w| is the direction. Where all items have the same
       activation (a template position at layer 0) w is zero and stays zero: there is no direction;
    3. w on random halves of the *families*, the same halves for both models. How well the two halves agree is what one
       can expect of any two directions: the noise ceiling of `drift`.

`direction_cones` says how sure a direction is: families are drawn with replacement, the direction found again. The
*cone* is the angle between the drawn directions and the estimate, its median and 90 % quantile in degrees; the
*stability* is the mean cosine of any two drawn directions. The estimate lies about as far from the truth as the draws
lie from the estimate: in simulation (16 families, noise in 4 to 64 dimensions) the 90 % cone held the planted direction
88 to 97 % of the time where it was narrower than 20 degrees; at 28 degrees of noise in 64 dimensions it was too narrow,
74 %.

A new method is a function `(trigger [n, *cell, d_model], neutral [n, *cell, d_model]) -> [*cell, d_model]` that treats
each cell by itself and does not normalise; add it to `FINDERS`, and to `PAIRED` if row i of both groups must be twins.
It gets one layer at a time, `[n, role, d_model]`, in float64.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from threadpoolctl import threadpool_limits
from torch import Tensor

from mechdrift.records import SIDES, Activations, Directions, MechdriftError, Side, check_not_empty
from mechdrift.statistics.resampling import family_draws

Finder = Callable[[Tensor, Tensor], Tensor]
Rows = Int[np.ndarray, " _"]

LOGISTIC_C = 0.01
REFIT_DRAWS = 40  # of a finder that must be run anew for each
ROUNDING = 1e-12  # eigenvalues below this share of the largest count as zero


def mean_difference(
    trigger: Float[Tensor, "trigger *cell d_model"], neutral: Float[Tensor, "neutral *cell d_model"]
) -> Float[Tensor, "*cell d_model"]:
    """Mean of the trigger items minus mean of the neutral items."""
    return trigger.mean(dim=0, dtype=torch.float64) - neutral.mean(dim=0, dtype=torch.float64)


def pca(
    trigger: Float[Tensor, "pair *cell d_model"], neutral: Float[Tensor, "pair *cell d_model"]
) -> Float[Tensor, "*cell d_model"]:
    """First principal component of the twins' differences: from the pairs' inner products, which are fewer than
    dimensions."""
    differences = (trigger - neutral).double().movedim(0, -2)
    weights = torch.linalg.eigh(differences @ differences.mT).eigenvectors[..., -1:]
    return _rescale_to_class_difference((weights.mT @ differences).squeeze(-2), differences.mean(dim=-2))


def logistic(
    trigger: Float[Tensor, "trigger *cell d_model"], neutral: Float[Tensor, "neutral *cell d_model"]
) -> Float[Tensor, "*cell d_model"]:
    """Weights of a logistic regression, a cell at a time."""
    both = torch.cat([trigger, neutral]).double()
    is_trigger = np.arange(len(both)) < len(trigger)
    cells = both.flatten(1, -2).unbind(dim=1) if both.dim() > 2 else [both]
    weights = torch.stack([_regress(cell.numpy(), is_trigger) for cell in cells]).reshape(both.shape[1:])
    return _rescale_to_class_difference(weights, mean_difference(trigger, neutral))


def _regress(
    items: Float[np.ndarray, "item d_model"], is_trigger: Bool[np.ndarray, " item"]
) -> Float[Tensor, " d_model"]:
    """Fits in the items' own space: the penalty does not see rotations, and the best weights are sums of items."""
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
    """Mean difference, whitened by the shrunk covariance a I + c X'X within classes, which n x n matrices are enough to
    invert."""
    difference = mean_difference(trigger, neutral)
    within = torch.cat(
        [group.double() - group.mean(dim=0, dtype=torch.float64) for group in (trigger, neutral)]
    ).movedim(0, -2)
    gram = within @ within.mT
    shrinkage, variance = _ledoit_wolf(within, gram)
    a, c = shrinkage * variance, (1 - shrinkage) / len(gram[0])
    a = torch.where(a > 0, a, torch.ones_like(a))  # no variance within the classes: nothing to whiten
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
    """The class difference projected on the weights, so that their sign and scale no longer matter."""
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
    split = {side: _unit(torch.stack([first[side], second[side]], dim=1)) for side in SIDES}
    return Directions(
        dimension=activations.probes.dimension,
        method=method,
        site=activations.site,
        layers=activations.layers,
        roles=activations.roles,
        instruct=_unit(whole["instruct"]),
        reasoning=_unit(whole["reasoning"]),
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
    rows = [_class_rows(activations, np.flatnonzero(mask), method in PAIRED) for mask in subsets]
    with threadpool_limits(1):  # thousands of small matrices: threads would only wait for each other
        return torch.stack(list(_find_by_layer(activations, side, rows, method)), dim=1)


def _find_by_layer(
    activations: Activations, side: Side, rows: Sequence[tuple[Rows, Rows]], method: str
) -> Iterator[Float[Tensor, "subset role d_model"]]:
    finder = FINDERS[method]
    for recorded in activations.of(side).unbind(dim=1):
        layer = recorded.double()  # one layer at a time: this copy fits the cache, that of all layers would be large
        yield torch.stack([finder(layer[trigger], layer[neutral]) for trigger, neutral in rows])


def _class_rows(activations: Activations, rows: Rows, paired: bool) -> tuple[Rows, Rows]:
    """The trigger and the neutral items among `rows`, which may hold an item twice; if `paired`, twins only, side by
    side."""
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


def twin_rows(activations: Activations) -> Int[np.ndarray, " prompt"]:
    """Where each item's twin is; -1 where it has none, or none in the other class."""
    items = activations.probes.items
    place = {item.id: index for index, item in enumerate(items)}
    found = [place.get(item.twin, -1) for item in items]
    return np.array(
        [twin if items[twin].is_trigger != item.is_trigger else -1 for item, twin in zip(items, found, strict=True)]
    )


def at_roles(directions: Directions, *roles: str) -> Directions:
    """The same at these roles only, in tensors of their own, so that the rest can be forgotten."""
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


def family_halves(activations: Activations, splits: int, seed: int) -> Bool[np.ndarray, "split prompt"]:
    """Whether each item is in the first half: random halves of the families, each with both classes."""
    families, family = np.unique(activations.families, return_inverse=True)
    is_trigger = activations.is_trigger
    triggers = np.bincount(family[is_trigger], minlength=len(families))
    kind = np.sign(triggers) - np.sign(np.bincount(family[~is_trigger], minlength=len(families)))
    rng, first = np.random.default_rng(seed), np.zeros((splits, len(families)), dtype=bool)
    for half in first:
        shuffled = rng.permutation(len(families))
        # Families of one kind (both classes, or one alone) lie side by side and go to the halves in turn.
        half[shuffled[np.argsort(kind[shuffled], kind="stable")]] = np.arange(len(families)) % 2 == 0
    halves = first[:, family]
    for group in (halves & is_trigger, halves & ~is_trigger, ~halves & is_trigger, ~halves & ~is_trigger):
        if not group.any(axis=1).all():
            raise MechdriftError(
                f"Probe set {activations.probes.name!r} has {is_trigger.sum()} trigger and {(~is_trigger).sum()} "
                f"neutral items in {len(families)} families: directions need each class in two families at least, so "
                "take more items."
            )
    return halves


def direction_cones(directions: Directions, draws: int = 200, seed: int = 0) -> pd.DataFrame:
    """How sure is a direction? How far resampling the families turns it, in degrees.

    Args:
        directions: from `find_directions`.
        draws: how many times the families are drawn with replacement. Finders other than the mean difference are
            run again for every draw, so they get fewer draws.
        seed: of the draws.

    Returns:
        A row per side, layer and role: `dimension, method, side, layer, role, cone_median, cone_90, stability,
        draws`. `cone_median` and `cone_90` are the median and the 90 % quantile of the angle between a drawn
        direction and the estimate, in degrees; `stability` is the mean cosine of two drawn directions.

    Raises:
        MechdriftError: when a class or the families are missing.

    Source:
        Cluster bootstrap over families; coverage measured in the docstring of `mechdrift.directions.finders`.

    Example:
        >>> cones = md.direction_cones(dirs, draws=50)
        >>> widest = cones.nlargest(3, "cone_90")[["side", "layer", "role", "cone_median", "cone_90"]]
    """
    by_side = []
    cells = pd.MultiIndex.from_product([directions.layers, directions.roles], names=["layer", "role"])
    for side in SIDES:
        cosines = _cones_from_sums if directions.method == "mean_difference" else _cones_from_refits
        with threadpool_limits(1):
            table = pd.concat(
                [_summarise(*layer) for layer in cosines(directions, side, draws, seed)], ignore_index=True
            )
        by_side.append(table.set_index(cells).reset_index().assign(side=side))
    frame = pd.concat(by_side, ignore_index=True).assign(dimension=directions.dimension, method=directions.method)
    return frame[["dimension", "method", "side", "layer", "role", "cone_median", "cone_90", "stability", "draws"]]


Cosines = tuple[Float[np.ndarray, "draw role"], Float[np.ndarray, " role"]]
"""Of the drawn directions with the estimate, and the mean of any two of them with each other."""


def family_contrasts(
    activations: Activations, draws: int, seed: int
) -> tuple[Float[np.ndarray, "class_family prompt"], Float[np.ndarray, "draw class_family"]]:
    """Sums over each family's triggers, then neutrals, and what to add up of those for the mean difference in each
    draw.

    The contrasts of a draw that lacks a class are NaN.
    """
    is_trigger = activations.is_trigger
    names, family = np.unique(activations.families, return_inverse=True)
    member = np.eye(len(names))[:, family]
    sums = np.vstack([member * is_trigger, member * ~is_trigger])
    weights = family_draws(len(names), draws, seed)
    with np.errstate(invalid="ignore"):
        classes = [weights / (weights @ count)[:, None] for count in sums.sum(axis=1).reshape(2, -1)]
    return sums, np.hstack([classes[0], -classes[1]])


def _cones_from_sums(directions: Directions, side: Side, draws: int, seed: int) -> Iterator[Cosines]:
    """Drawn mean differences are sums of few vectors, so the inner products of those are enough."""
    activations = directions.activations
    sums, contrasts = family_contrasts(activations, draws, seed)
    contrasts = contrasts[~np.isnan(contrasts).any(axis=1)]
    sizes = sums.sum(axis=1).reshape(2, -1).sum(axis=1, keepdims=True)
    whole = (np.ones((2, len(sums) // 2)) / sizes * [[1], [-1]]).reshape(-1)
    for recorded in activations.of(side).unbind(dim=1):
        layer = recorded.double().numpy()
        layer = (layer - layer.mean(axis=0)).transpose(1, 0, 2)
        members = sums @ layer
        products = members @ members.transpose(0, 2, 1)  # [role, class_family, class_family]
        drawn = contrasts @ products
        lengths = np.sqrt(np.maximum((drawn * contrasts).sum(axis=-1), 0))  # [role, draw]
        unit = contrasts / np.where(lengths > 0, lengths, np.inf)[..., None]
        length = np.sqrt(np.maximum(np.einsum("f,rfg,g->r", whole, products, whole), 0))
        sum_of_all = unit.sum(axis=1)
        square = np.einsum("rf,rfg,rg->r", sum_of_all, products, sum_of_all)
        with np.errstate(invalid="ignore"):  # where there is no direction there is no cone
            cosine = np.einsum("rdf,rfg,g->dr", unit, products, whole, optimize=True) / np.where(
                length > 0, length, np.nan
            )
        yield cosine, _mean_of_pairs(square, len(contrasts)) + 0 * cosine[0]


def _cones_from_refits(directions: Directions, side: Side, draws: int, seed: int) -> Iterator[Cosines]:
    activations, paired = directions.activations, directions.method in PAIRED
    names, family = np.unique(activations.families, return_inverse=True)
    samples = [
        np.repeat(np.arange(len(family)), weights[family])
        for weights in family_draws(len(names), min(draws, REFIT_DRAWS), seed)
    ]
    complete = [sample for sample in samples if 0 < activations.is_trigger[sample].sum() < len(sample)]
    rows = [_class_rows(activations, sample, paired) for sample in complete]
    for index, drawn in enumerate(_find_by_layer(activations, side, rows, directions.method)):
        unit, estimate = _unit(drawn).double().numpy(), directions.of(side)[index].double().numpy()
        known = np.where((estimate != 0).any(axis=-1), 1.0, np.nan)
        cosine = (unit * estimate).sum(axis=-1) * known
        yield cosine, _mean_of_pairs((unit.sum(axis=0) ** 2).sum(axis=-1), len(unit)) * known


def _mean_of_pairs(square_of_sum: Float[np.ndarray, " role"], count: int) -> Float[np.ndarray, " role"]:
    """Mean cosine of any two different unit vectors, from the squared length of their sum."""
    return (square_of_sum - count) / (count * (count - 1))


def _summarise(cosine: Float[np.ndarray, "draw role"], stability: Float[np.ndarray, " role"]) -> pd.DataFrame:
    angles = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    median, wide = np.quantile(angles, [0.5, 0.9], axis=0)
    return pd.DataFrame({"cone_median": median, "cone_90": wide, "stability": stability, "draws": len(cosine)})


def _unit(vectors: Float[Tensor, "*cell d_model"]) -> Float[Tensor, "*cell d_model"]:
    """Divide by the length; a zero vector has no direction and stays zero."""
    length = vectors.norm(dim=-1, keepdim=True)
    return (vectors / length.where(length > 0, 1)).float()


def _check_finite(activations: Activations) -> None:
    for side in SIDES:
        recorded = activations.of(side)
        if recorded.sum(dtype=torch.float64).isfinite():  # a sum is enough, and cheap: NaN and infinity survive it
            continue
        item, layer, role = (~recorded.isfinite()).any(dim=-1).nonzero()[0].tolist()
        raise MechdriftError(
            f"The {side} model's activation of item {activations.probes.items[item].id!r} at layer "
            f"{activations.layers[layer]}, role {activations.roles[role]!r}, is NaN or infinite: load the model in "
            "float32, or leave this item out."
        )
