"""What was recorded inside the models, and the directions found in it: the records that hold tensors."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from torch import Tensor

from mechdrift.records.notebook import ROWS, Record, counted, layers_of
from mechdrift.records.probes import ProbeSet
from mechdrift.records.words import SIDES, Side, ThinkMode


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Activations(Record):
    """What `collect` recorded: one tensor per side, `[prompt, layer, role, d_model]`, float32 on the CPU.

    `roles` are column names such as `template_tail[-1]` (a single position) or `answer` (a span's mean). Layer `l`
    is the block index, from 0; `resid_pre` of layer 0 is the embedding. `readout` holds, if it was asked for, what each
    model's unembedding reads at the readout position, `[prompt, d_model]`.
    """

    probes: ProbeSet
    site: str
    layers: tuple[int, ...]
    roles: tuple[str, ...]
    think: ThinkMode
    instruct: Float[Tensor, "prompt layer role d_model"]
    reasoning: Float[Tensor, "prompt layer role d_model"]
    readout: Mapping[Side, Float[Tensor, "prompt d_model"]] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        shape = " × ".join(map(str, self.instruct.shape))
        return (
            f"{self.probes.name}, {self.site} of both models, [prompt, layer, role, d_model] = {shape}; "
            f"{layers_of(self.layers)}; roles {', '.join(self.roles)}"
        )

    def of(self, side: Side) -> Float[Tensor, "prompt layer role d_model"]:
        return self.instruct if side == "instruct" else self.reasoning

    @property
    def is_trigger(self) -> Bool[np.ndarray, " prompt"]:
        return np.array([item.is_trigger for item in self.probes])

    @property
    def families(self) -> np.ndarray:
        return np.array([item.family for item in self.probes])

    @property
    def frame(self) -> pd.DataFrame:
        """Norms per prompt, layer and role."""
        rows = []
        for side in SIDES:
            norms = self.of(side).norm(dim=-1).numpy()
            index = pd.MultiIndex.from_product(
                [[item.id for item in self.probes], self.layers, self.roles], names=["item", "layer", "role"]
            )
            rows.append(pd.DataFrame({"side": side, "norm": norms.reshape(-1)}, index=index).reset_index())
        return pd.concat(rows, ignore_index=True)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Directions(Record):
    """A unit vector per layer and role in each model, with what is needed to judge it.

    `split` holds, per side, directions found on two disjoint halves of the families, `[split, half, layer, role,
    d_model]`; their cosines are the noise ceiling. `norm_*` is the length before normalisation (the size of the class
    difference).
    """

    dimension: str
    method: str
    site: str
    layers: tuple[int, ...]
    roles: tuple[str, ...]
    instruct: Float[Tensor, "layer role d_model"]
    reasoning: Float[Tensor, "layer role d_model"]
    norm_instruct: Float[Tensor, "layer role"]
    norm_reasoning: Float[Tensor, "layer role"]
    split_instruct: Float[Tensor, "split half layer role d_model"]
    split_reasoning: Float[Tensor, "split half layer role d_model"]
    activations: Activations

    @property
    def summary(self) -> str:
        shape = " × ".join(map(str, self.instruct.shape))
        return (
            f"{self.dimension}, {self.method} of {self.site} in both models, [layer, role, d_model] = {shape}; "
            f"{layers_of(self.layers)}; roles {', '.join(self.roles)}"
        )

    def of(self, side: Side) -> Float[Tensor, "layer role d_model"]:
        return self.instruct if side == "instruct" else self.reasoning

    @property
    def frame(self) -> pd.DataFrame:
        index = pd.MultiIndex.from_product([self.layers, self.roles], names=["layer", "role"])
        table = pd.DataFrame(
            {"norm_instruct": self.norm_instruct.reshape(-1), "norm_reasoning": self.norm_reasoning.reshape(-1)},
            index=index,
        ).reset_index()
        return table.assign(dimension=self.dimension, method=self.method, site=self.site)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DirectionDrift(Record):
    """How one dimension's direction differs between the two models, per layer and role: see `.frame`.

    Each column's unit and meaning: `mechdrift.tables.TABLES["drift"]`, and the page "Tables" of the reference.
    """

    dimension: str
    frame: pd.DataFrame

    @property
    def summary(self) -> str:
        places = f"{counted(self.frame.layer.nunique(), 'layer')}, {counted(self.frame.role.nunique(), 'role')}"
        return f"{self.dimension}, {places}; cosine of the two models' directions, beside its noise ceiling"

    @property
    def head(self) -> pd.DataFrame:
        chief = [name for name in ("layer", "role", "cosine", "ceiling", "angle", "below_null") if name in self.frame]
        return self.frame[chief].head(ROWS)
