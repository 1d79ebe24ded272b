"""The donor's parameters: kept per block, and put into the recipient's blocks for a moment."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mechdrift.pairs.loading import LanguageModel
from mechdrift.pairs.precision import smallest_exact
from mechdrift.pairs.structure import MODULES
from mechdrift.records import MechdriftError

Weights = Mapping[str, Tensor]
"""Parameters of one block, by their names in it."""


@contextmanager
def swapped(block: nn.Module, given: Weights, share: float = 1.0) -> Iterator[None]:
    """Inside the `with` block, the module's parameters are `(1 - share) own + share given`; afterwards they are its own
    again, bit for bit."""
    parameters = dict(block.named_parameters())
    own = {name: parameters[name].data for name in given}
    try:
        for name, theirs in given.items():
            theirs = theirs.detach().to(own[name])
            parameters[name].data = (
                theirs if share == 1 else torch.lerp(own[name], theirs, share) if share else own[name]
            )
        yield
    finally:
        for name, values in own.items():
            parameters[name].data = values


def keep_weights(loaded: LanguageModel, names: Sequence[str], folder: Path | None) -> "list[Weights | Path]":
    """The donor's parameters of each block that belong to the named modules: in memory, or, with `folder`, in files,
    so that the model can be released."""
    found: list[Weights | Path] = []
    for layer in range(loaded.n_layers):
        wanted: dict[str, Tensor] = {
            key: value for name in names for key, value in _module(loaded, layer, name).items()
        }
        if any(value.device.type == "meta" for value in wanted.values()):
            raise MechdriftError(
                "weights that are kept on disk cannot be grafted: load the models without device_map, or use patch."
            )
        if folder is None:
            found.append(wanted)
        else:
            kept = {key: smallest_exact(value).cpu().contiguous() for key, value in wanted.items()}
            save_file(kept, folder / f"{layer}.safetensors")
            found.append(folder / f"{layer}.safetensors")
    return found


def _module(loaded: LanguageModel, layer: int, name: str) -> Weights:
    if not (found := loaded.structure.parameters(layer, name)):
        have = [other for other in MODULES if loaded.structure.parameters(layer, other)]
        raise MechdriftError(f"this architecture has no separate module {name!r}: use one of {', '.join(have)}.")
    return found
