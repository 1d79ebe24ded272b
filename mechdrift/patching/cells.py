"""What a cell of a patch grid is: which positions of which prompt, at which site, layer and head, take which part of
the donor's activation.

Both engines, `replay` and `naive`, read here what to edit, so that they differ only in how they run the model.

    Group     a prompt of a batch and the positions that one role occupies in it
    Cells     site, layers, heads and windows, and the part of the donor's activation that is put in: by default all

`resid_mid` is the stream between attention and MLP. No module has it as its only use: the second norm reads it, and the
MLP's output is added to it. So both are changed: the norm reads the donor's, and the block's output moves by the same
difference.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechdrift.hooks import HookPoint
from mechdrift.pairs.structure import Structure

Put = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Copies of one prompt of a batch that are patched at the positions `start:stop`, one copy for each layer and head.

    `end` is the end of the prompt, where it is read out; padding may follow or precede it. The donor's values are
    `shift` positions further to the right in the prompt that the donor read.
    """

    prompt: int
    start: int
    stop: int
    end: int
    shift: int = 0

    @property
    def suffix(self) -> int:
        """How many tokens the patch can reach."""
        return self.end - self.start


Donated = Callable[[int, Group], Float[Tensor, "span width"]]
"""The donor's values at a layer, for the positions that a group patches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """The cells in which every group is patched: `layers` ascend, `heads` is empty where whole vectors are patched.

    `windows` says which layers a cell patches: `each` layer by itself, all layers `up_to` it, or all `from` it on. With
    unit vectors (one per layer), only the part of the difference `along` them, or `across` them, is put in.
    """

    site: str
    layers: tuple[int, ...]
    heads: tuple[int, ...] = ()
    n_heads: int = 1
    windows: str = "each"
    units: Float[Tensor, "layer d_model"] | None = None
    part: Literal["along", "across"] = "along"

    @property
    def heads_at_once(self) -> int:
        return max(1, len(self.heads))

    def names(self, columns: Sequence[str]) -> tuple[str, ...]:
        """The names on the grid's role axis: the columns, or each column's heads."""
        return tuple(f"{column}.h{head}" for column in columns for head in self.heads) or tuple(columns)

    def patched_layers(self, n_layers: int) -> tuple[int, ...]:
        """The layers whose donor activations are needed."""
        if self.windows == "each":
            return self.layers
        return tuple(range(self.layers[0], n_layers)) if self.windows == "from" else tuple(range(self.layers[-1] + 1))

    def window(self, layer: int, n_layers: int) -> tuple[int, ...]:
        """The layers patched together in the cell of one layer."""
        return {"each": (layer,), "from": tuple(range(layer, n_layers)), "up_to": tuple(range(layer + 1))}[self.windows]

    def mixed(
        self, own: Float[Tensor, "row width"], given: Float[Tensor, "row width"], layer: int, heads: Int[Tensor, " row"]
    ) -> Float[Tensor, "row width"]:
        """The values that replace `own`: the donor's, or only one head of them (its place in `heads`), or only their
        part along or across a direction."""
        if self.heads:
            chosen = torch.tensor(self.heads)[heads].to(own.device)
            head_of = torch.arange(own.shape[-1], device=own.device) // (own.shape[-1] // self.n_heads)
            return torch.where(head_of == chosen[:, None], given, own)
        if self.units is None:
            return given
        unit = self.units[layer].to(own)
        along = ((given - own) @ unit)[:, None] * unit
        return own + along if self.part == "along" else given - along

    def edits(self, structure: Structure, layer: int, put: Put) -> dict[HookPoint, Put]:
        """The edits of a block, by hook point; `put` puts the donor's values into a tensor."""
        point = structure.hook_point(self.site, layer)
        if self.site != "resid_mid":
            return {point: put}
        moved: list[Tensor] = []

        def at_the_norm(own: Tensor) -> Tensor:
            new = put(own)
            moved.append(new - own)
            return new

        return {point: at_the_norm, structure.hook_point("resid_post", layer): lambda own: own + moved.pop()}
