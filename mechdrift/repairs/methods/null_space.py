"""AlphaSteer: a map that adds the parent's direction to what looks harmful, and nothing to what does not.

    x + s (x · w) v     w inside the null space of harmless activations, with x · w ≈ 1 for harmful ones

With B the child's activations on harmless tokens and X those on triggers, at the output of one block: P projects onto
the half of the directions in which B has the least energy, and w = P Xᵀ (X P Xᵀ + γ I)⁻¹ 1 is the ridge regression of
one on X P. (The paper's d × d map is this product of w and v: all of its targets are the same vector.) v is the
parent's class difference, as in `steer-back`.

The paper's code edits the prompt's pass alone, and so never acts while the model thinks; this one acts on prompt,
thinking and answer, unless roles are given.

Sheng et al. 2025, https://arxiv.org/abs/2506.07022.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from mechdrift.repairs.editing import Editing, Place
from mechdrift.repairs.evidence import SITE, Evidence
from mechdrift.repairs.record import Repair

KEPT = 0.5  # of the directions, those with the least harmless energy
RIDGE = 0.1  # of the mean of the triggers' inner products


def map_in_null_space(evidence: Evidence, strength: float) -> Editing:
    _, layer = evidence.steered
    harmless, triggers = evidence.token_states("neutral", layer), evidence.token_states("trigger", layer)
    tensors = {"read": null_space_reader(harmless, triggers), "write": strength * evidence.steering_vector}
    place = Place(site=SITE, layer=layer, rule="map", tensors=tensors)
    return Editing(places=(place,), roles=("prompt", "think", "answer"))


def null_space_reader(
    harmless: Float[Tensor, "token d_model"], triggers: Float[Tensor, "trigger d_model"]
) -> Float[Tensor, " d_model"]:
    """The vector w of the module's text."""
    width = harmless.shape[1]
    energy = torch.linalg.eigh(harmless.double().T @ harmless.double())
    quiet = energy.eigenvectors[:, : int(KEPT * width)]  # eigenvalues come in ascending order
    inside = triggers.double() @ quiet
    inner = inside @ inside.T
    ridge = RIDGE * inner.diagonal().mean() * torch.eye(len(inner), dtype=torch.float64)
    weights = torch.linalg.solve(inner + ridge, torch.ones(len(inner), dtype=torch.float64))
    return (quiet @ (inside.T @ weights)).float()


NULL_SPACE = Repair(
    name="null-space",
    title="Null-space steering (AlphaSteer)",
    paper="Sheng et al. 2025, https://arxiv.org/abs/2506.07022",
    about="Adds the parent's direction to what looks harmful, by a map that is zero on harmless activations.",
    needs=("parent", "probes", "harmless"),
    strengths=(0.5, 1.0, 2.0),
    limits=(0.0, 8.0),
    dose="multiple of the parent's class difference",
    edit=map_in_null_space,
)
