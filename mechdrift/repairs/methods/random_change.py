"""A baseline: a random change as large as interpolation's, matrix by matrix.

The outputs and inputs of the child's change are shuffled, so norm, rank and singular values stay and its meaning is
lost. A repair that does no better only disturbs the model.
"""

import zlib
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from mechdrift.repairs.changes import Change, dense, on_inputs, on_outputs, scaled
from mechdrift.repairs.evidence import Evidence
from mechdrift.repairs.record import Repair


def shuffle_change(evidence: Evidence, strength: float) -> Mapping[str, Change]:
    return evidence.change.mapped(partial(_shuffle, strength, evidence.seed))


def _shuffle(strength: float, seed: int, place: str, change: Change) -> Change:
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {place}".encode()))
    shape = dense(change).shape
    orders = [torch.randperm(length, generator=generator) for length in shape]
    shuffled = on_outputs(change, partial(_reorder, orders[0]))
    return scaled(on_inputs(shuffled, partial(_reorder, orders[1])) if len(shape) == 2 else shuffled, -strength)


def _reorder(order: Tensor, rows: Tensor) -> Tensor:
    return rows[order]


RANDOM = Repair(
    name="random",
    title="Random change of equal norm",
    paper="a baseline",
    about="Adds the child's change with its rows and columns in random order: as large as interpolation, and empty.",
    needs=("parent",),
    strengths=(0.25, 0.5, 0.75),
    limits=(0.0, 1.0),
    dose="share of the change's norm",
    is_baseline=True,
    weights=shuffle_change,
)
