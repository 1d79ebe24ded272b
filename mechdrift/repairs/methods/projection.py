"""Safe LoRA and SafeMERGE: take the child's change back where it leaves the alignment subspace.

With V = W_parent - W_base of one matrix, U an orthonormal basis of what V writes, and D = W_child - W_parent:

    cos = |U Uᵀ D| / |D|       how much of the child's change stays inside the alignment subspace

    safe-lora    where cos is lowest, D becomes U Uᵀ D            (Hsu et al. 2024, https://arxiv.org/abs/2405.16833)
    safe-merge   where cos is lowest, D becomes (1 - w) D, w = ½   (Djuhera et al. 2025, https://arxiv.org/abs/2503.17239)

The papers give a threshold for cos. Here the strength is the share of the matrices that are treated, lowest cos first,
because a threshold that treats a third of one model's matrices treats none of another's. Where V has full rank (after
full fine-tuning), U holds the fewest directions with 90 % of its energy: a basis of the whole space would leave nothing
to project.
"""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from mechdrift.repairs.changes import Change, LowRank, dense, on_outputs, scaled, size
from mechdrift.repairs.evidence import Evidence
from mechdrift.repairs.record import Repair

ENERGY = 0.9  # of a difference of full rank
MERGED = 0.5  # of the child's change that is taken back


def project_change(evidence: Evidence, strength: float) -> Mapping[str, Change]:
    return _where_it_leaves(evidence, strength, _outside)


def merge_change(evidence: Evidence, strength: float) -> Mapping[str, Change]:
    return _where_it_leaves(evidence, strength, _half)


def _where_it_leaves(
    evidence: Evidence, strength: float, repaired: Callable[[Evidence, str, Change], Change]
) -> Mapping[str, Change]:
    """The change of those matrices that leave the alignment subspace most."""
    cosines = cosines_of(evidence)
    order = sorted(cosines, key=lambda place: cosines[place])
    chosen = order[: round(strength * len(order))]
    return evidence.change.mapped(partial(repaired, evidence), chosen)


def cosines_of(evidence: Evidence) -> dict[str, float]:
    """How much of the child's change of each matrix stays in the alignment subspace, from 0 to 1."""
    found = {}
    for place in evidence.change:
        change = evidence.change[place]
        if dense(change).dim() == 2 and place in evidence.alignment:
            basis = _basis(evidence.alignment[place])
            found[place] = size(on_outputs(change, partial(_inside, basis))) / size(change)
    return found


def _basis(change: Change) -> Float[Tensor, "out rank"]:
    """An orthonormal basis of what a change writes."""
    if isinstance(change, LowRank):
        return torch.linalg.qr(change.up).Q
    left, values, _ = torch.linalg.svd(dense(change), full_matrices=False)
    held = values.square().cumsum(0) / values.square().sum()
    return left[:, : int((held < ENERGY).sum()) + 1]


def _inside(basis: Tensor, written: Tensor) -> Tensor:
    return basis @ (basis.T @ written)


def _outside(evidence: Evidence, place: str, change: Change) -> Change:
    basis = _basis(evidence.alignment[place])
    return on_outputs(change, lambda written: _inside(basis, written) - written)


def _half(evidence: Evidence, place: str, change: Change) -> Change:
    return scaled(change, -MERGED)


SAFE_LORA = Repair(
    name="safe-lora",
    title="Projection (Safe LoRA)",
    paper="Hsu et al. 2024, https://arxiv.org/abs/2405.16833",
    about="Projects the child's change onto the alignment subspace, in the matrices that leave it most.",
    needs=("parent", "base"),
    strengths=(0.25, 0.5, 0.75),
    limits=(0.0, 1.0),
    dose="share of the matrices",
    weights=project_change,
)
SAFE_MERGE = Repair(
    name="safe-merge",
    title="Merging by layer (SafeMERGE)",
    paper="Djuhera et al. 2025, https://arxiv.org/abs/2503.17239",
    about="Takes half of the child's change back, in the matrices that leave the alignment subspace most.",
    needs=("parent", "base"),
    strengths=(0.25, 0.5, 1.0),
    limits=(0.0, 1.0),
    dose="share of the matrices",
    weights=merge_change,
)
