"""What a steering curve is compared with: vectors of the same length that should do nothing, or less.

    random        a Gaussian vector: the effect of any push of that size
    permuted      a vector found by the same finder on the same items, with the classes exchanged in a random half of
                  the families: the direction that the finder gets when families differ for other reasons
    wrong layer   the right vector half the network away (when adding), or the vector found there (when ablating)

Controls have the length of the direction at the same layer, so that only directions differ. The table gives their
cosine with the direction. Where families differ mainly in how strongly they show the direction, the permuted vector is
nearly parallel to it and is a weak control.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mechdrift.records import Activations, MechdriftError
from mechdrift.steering.selection import Selection, candidates

CONTROLS = ("random", "permuted", "wrong layer")
OPPOSITE = {"trigger": "neutral", "neutral": "trigger"}
Vectors = Mapping[tuple[str, int], Float[Tensor, "layer d_model"]]
"""By name and draw, a vector for each of the selection's layers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One vector to try. `tensor` is the vector times its strength, `place` the layer where it acts, `layer` that of
    the direction with which it is compared."""

    vector: str
    draw: int
    layer: int
    place: int
    strength: float
    cosine: float  # with that direction
    tensor: Float[Tensor, " d_model"]


def permute_labels(activations: Activations, seed: int) -> Activations:
    """The same activations with the classes exchanged in a random half of the families that hold both.

    Families that hold only one class exchange their classes among themselves, so that each class keeps its number of
    families.
    """
    rng = np.random.default_rng(seed)
    holds = {family: set() for family in activations.probes.families}
    for item in activations.probes:
        holds[item.family].add(item.contrast)
    both = [str(family) for family in rng.permutation(sorted(holds)) if len(holds[str(family)]) == 2]
    single = [family for family in sorted(holds) if len(holds[family]) == 1]
    given = dict(zip(single, rng.permutation([min(holds[family]) for family in single]).tolist(), strict=True))
    exchanged = set(both[: len(both) // 2])
    items = tuple(
        replace(
            item,
            contrast=OPPOSITE[item.contrast] if item.family in exchanged else given.get(item.family, item.contrast),
        )
        for item in activations.probes
    )
    return replace(activations, probes=replace(activations.probes, items=items))


def part_of(activations: Activations, families: Sequence[str]) -> Activations:
    """The items of some families."""
    rows = np.isin(activations.families, families)
    items = tuple(item for item, kept in zip(activations.probes, rows, strict=True) if kept)
    return replace(
        activations,
        probes=replace(activations.probes, items=items),
        instruct=activations.instruct[torch.from_numpy(rows)],
        reasoning=activations.reasoning[torch.from_numpy(rows)],
        readout={},
    )


def with_controls(activations: Activations, selection: Selection, role: str, draws: int, seed: int) -> Vectors:
    """The selection's direction at a role, and `draws` random and `draws` permuted vectors."""
    column, find = selection.roles.index(role), selection.families["find"]
    direction = selection.vectors[:, column]
    length, generator = direction.norm(dim=-1, keepdim=True), torch.Generator().manual_seed(seed)
    part, found = part_of(activations, find), {("direction", 0): direction}
    for draw in range(draws):
        noise = torch.randn(direction.shape, generator=generator)
        permuted = candidates(permute_labels(part, seed + draw), selection.side, find, selection.method)[:, column]
        found["random", draw] = torch.nn.functional.normalize(noise, dim=-1) * length
        if not permuted.any(dim=-1)[direction.any(dim=-1)].all():
            continue  # with very few families, an exchange may cancel the whole vector
        found["permuted", draw] = torch.nn.functional.normalize(permuted, dim=-1) * length
    return found


def settings(
    vectors: Vectors,
    known: Sequence[int],
    layers: Sequence[int],
    n_layers: int,
    strengths: Sequence[float],
    *,
    adding: bool,
) -> Iterator[Setting]:
    """The direction and its controls at every layer and strength; `known` are the layers of the vectors."""
    direction = vectors["direction", 0]
    live = [layer for layer, vector in zip(known, direction, strict=True) if vector.any()]
    for layer in layers:
        if layer not in live:
            raise MechdriftError(
                f"there is no direction at layer {layer}: collect it, or choose one of {', '.join(map(str, live))}."
            )
        here, away = known.index(layer), wrong_layer(layer, n_layers, live)
        tried = {key: by_layer[here] for key, by_layer in vectors.items()}
        if away != layer:
            tried["wrong layer", 0] = direction[here if adding else known.index(away)]
        for strength in strengths:
            for (name, draw), vector in tried.items():
                yield Setting(
                    vector=name,
                    draw=draw,
                    layer=layer,
                    place=away if name == "wrong layer" else layer,
                    strength=strength,
                    cosine=torch.cosine_similarity(vector, direction[here], dim=0).item(),
                    tensor=strength * vector,
                )


def wrong_layer(layer: int, n_layers: int, known: Sequence[int]) -> int:
    """Among the layers that have a direction, the one whose distance is nearest to half the network."""
    target = (layer + n_layers // 2) % n_layers
    return min(known, key=lambda other: abs(other - target))
