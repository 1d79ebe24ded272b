"""Back towards the parent: W_child - s (W_child - W_parent), everywhere or only where the loss was located.

    interpolate   all parameters. s = 1 is the parent itself, so this is the reference of the price list: it trades
                  reasoning for alignment along one line (weight averaging, Wortsman et al. 2022,
                  https://arxiv.org/abs/2109.01903)
    located       only the blocks that give most of the parent's behaviour back when the parent's block is put into the
                  child (`evidence.block_effects`, a graft of every block by itself on the seen families). The strength
                  is the share of the blocks that become the parent's, in the order of their effect

A block whose graft moves the readout away from the parent is never taken, so `located` may take fewer blocks than its
share.
"""

from collections.abc import Mapping

from mechdrift.repairs.changes import Change, layer_of
from mechdrift.repairs.evidence import Evidence
from mechdrift.repairs.record import Repair


def towards_parent(evidence: Evidence, strength: float) -> Mapping[str, Change]:
    return evidence.change.scaled(-strength)


def where_located(evidence: Evidence, strength: float) -> Mapping[str, Change]:
    effects = evidence.block_effects
    count = max(1, round(strength * len(effects)))
    blocks = {layer for layer in effects.sort_values(ascending=False).index[:count] if effects[layer] > 0}
    return evidence.change.scaled(-1.0, [place for place in evidence.change if layer_of(place) in blocks])


EVERYWHERE = Repair(
    name="interpolate",
    title="Interpolation, all blocks",
    paper="Wortsman et al. 2022, https://arxiv.org/abs/2109.01903",
    about="Takes a share of the child's change back, in all weights alike.",
    needs=("parent",),
    strengths=(0.25, 0.5, 0.75),
    limits=(0.0, 1.0),
    dose="share of the parent",
    weights=towards_parent,
)
LOCATED = Repair(
    name="located",
    title="Interpolation, located blocks",
    paper="skill localisation: Panigrahi et al. 2023, https://arxiv.org/abs/2302.06600",
    about="Gives the blocks with the largest graft effects the parent's weights, and leaves the others.",
    needs=("parent", "probes"),
    strengths=(0.1, 0.25, 0.5),
    limits=(0.0, 1.0),
    dose="share of the blocks",
    weights=where_located,
)
