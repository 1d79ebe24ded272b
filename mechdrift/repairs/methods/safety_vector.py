"""RESTA: add the safety vector, aligned less unaligned, with random dropping and rescaling.

    W_child + s · DARE(W_parent - W_base)

The parent is the aligned model, the model before alignment the unaligned one. DARE drops each number of the vector with
probability p and divides the rest by 1 - p, so that its mean stays and it interferes less with what the child learned
(Yu et al. 2023, https://arxiv.org/abs/2311.03099). What is dropped is drawn from a seed of its own for each matrix.
The change is of full rank: it is exported as a merged folder, not as an adapter.

Bhardwaj et al. 2024, "Language Models are Homer Simpson!", https://arxiv.org/abs/2402.11746.
"""

import zlib
from collections.abc import Mapping
from functools import partial

import torch

from mechdrift.repairs.changes import Change, dense
from mechdrift.repairs.evidence import Evidence
from mechdrift.repairs.record import Repair

DROPPED = 0.3  # the paper's drop rate


def add_safety_vector(evidence: Evidence, strength: float, dropped: float = DROPPED) -> Mapping[str, Change]:
    return evidence.alignment.mapped(partial(_drop_and_rescale, strength, dropped, evidence.seed))


def _drop_and_rescale(strength: float, dropped: float, seed: int, place: str, change: Change) -> Change:
    whole = dense(change)
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {place}".encode()))
    is_kept = torch.rand(whole.shape, generator=generator) >= dropped
    return strength / (1 - dropped) * whole * is_kept


RESTA = Repair(
    name="resta",
    title="Safety vector (RESTA)",
    paper="Bhardwaj et al. 2024, https://arxiv.org/abs/2402.11746",
    about="Adds the parent's difference from its model before alignment, with random dropping and rescaling.",
    needs=("parent", "base"),
    strengths=(0.25, 0.5, 1.0),
    limits=(0.0, 2.0),
    dose="multiple of the safety vector",
    weights=add_safety_vector,
)
