"""Steer back: add the parent's direction to the child while it writes.

    x + s v    at the output of one block, v the parent's class difference (mean of triggers less mean of neutral twins)
               there: s = 1 moves a neutral prompt as far as triggers lie away

The block is the one where the parent tells held-out families apart best; the dimension is safety where it was asked.
It acts on every prompt alike, harmful or not: its price is over-caution, which `null-space` is to avoid.

Activation addition: Arditi et al. 2024, https://arxiv.org/abs/2406.11717.
"""

from mechdrift.repairs.editing import Editing, Place
from mechdrift.repairs.evidence import SITE, Evidence
from mechdrift.repairs.record import Repair


def add_direction(evidence: Evidence, strength: float) -> Editing:
    _, layer = evidence.steered
    place = Place(site=SITE, layer=layer, rule="add", tensors={"vector": strength * evidence.steering_vector})
    return Editing(places=(place,), roles=("think", "answer"))


STEER_BACK = Repair(
    name="steer-back",
    title="Steering back",
    paper="Arditi et al. 2024, https://arxiv.org/abs/2406.11717",
    about="Adds the parent's direction to the residual stream while the child writes.",
    needs=("parent", "probes"),
    strengths=(0.25, 0.5, 1.0),
    limits=(-4.0, 4.0),
    dose="multiple of the parent's class difference",
    edit=add_direction,
)
