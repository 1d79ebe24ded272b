"""Remove the alignment directions from the child's change: what training changed no longer writes along them.

    D - s R Rᵀ D      for the matrices that write to the residual stream (attention output, MLP down projection), with
                      R [d_model, k] an orthonormal basis of the parent's directions after that block, one per
                      dimension

The parent's own weights keep writing along R; only what the child's training added along R is removed. s = 1 removes
all of it, s = 2 reverses it. This is weight orthogonalisation (Arditi et al. 2024, https://arxiv.org/abs/2406.11717),
applied to the change instead of the model.
"""

from collections.abc import Mapping
from functools import partial

from torch import Tensor

from mechdrift.repairs.changes import Change, dense, layer_of, on_outputs
from mechdrift.repairs.evidence import Evidence
from mechdrift.repairs.record import Repair


def orthogonalise_change(evidence: Evidence, strength: float) -> Mapping[str, Change]:
    width = evidence.d_model
    writers = [place for place in evidence.writing_places if dense(evidence.change[place]).shape[0] == width]
    return evidence.change.mapped(partial(_take_out, evidence, strength), writers)


def _take_out(evidence: Evidence, strength: float, place: str, change: Change) -> Change:
    basis = evidence.basis_after(layer_of(place) or 0)
    return on_outputs(change, partial(_along, basis, strength))


def _along(basis: Tensor, strength: float, written: Tensor) -> Tensor:
    return -strength * (basis @ (basis.T @ written))


ORTHOGONAL = Repair(
    name="orthogonal",
    title="Orthogonalised change",
    paper="Arditi et al. 2024, https://arxiv.org/abs/2406.11717 (of the change instead of the model)",
    about="Takes the parent's alignment directions out of what the child's training writes.",
    needs=("parent", "probes"),
    strengths=(0.5, 1.0, 2.0),
    limits=(0.0, 4.0),
    dose="multiple of what lies along the directions",
    weights=orthogonalise_change,
)
