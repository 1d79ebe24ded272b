"""From the decoder's last states to logits, as the model's own class computes them.

For most models that is one matrix, the unembedding. Others scale the logits (Granite, Cohere), bound them by a tanh
(Gemma), or put a layer before the matrix (ModernBERT). So the model's own `forward` is run with a stand-in for its
decoder, which returns the states that are given. `after_decoder` is that function, and None where the unembedding alone
gives the same.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from mechdrift.errors import MechdriftError, reason

TRIED = 8  # random states on which the two are compared


@dataclass(frozen=True)
class _States:
    """What a decoder returns, where only its last states are read."""

    last_hidden_state: Tensor

    def __getitem__(self, place: Any) -> Any:
        return (self.last_hidden_state,)[place]

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


class _StandIn(nn.Module):
    """In the place of a decoder, and of a part of it that a class may call instead (OPT). Numbers that a class keeps in
    its decoder are there (Falcon-H1)."""

    def __init__(self, decoder: nn.Module, states: Tensor):
        super().__init__()
        self.states = _States(states)
        self.__dict__["replaced"] = decoder  # not as one of its modules

    def forward(self, *_: Any, **__: Any) -> _States:
        return self.states

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.__dict__["replaced"], name)
        return self if isinstance(value, nn.Module) else value


def after_decoder(model: PreTrainedModel, decoder: nn.Module, unembed: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """The function from last states to logits; None where it is the unembedding. Raises where the class computes its
    logits in a way that needs more than these states."""
    path = next((name for name, module in model.named_modules() if module is decoder), "")
    width = next(model.get_input_embeddings().parameters())
    states = torch.randn(1, TRIED, width.shape[1], generator=torch.Generator().manual_seed(0))
    states = states.to(width.device if width.device.type != "meta" else "cpu", model.dtype)

    def logits(states: Tensor) -> Tensor:
        flat = states.reshape(1, -1, states.shape[-1])
        shell = _with(model, path.split("."), _StandIn(decoder, flat))
        ids = torch.zeros(flat.shape[:2], dtype=torch.long, device=flat.device)
        # The class's own function: accelerate gives an object another, bound to the whole model.
        found = type(shell).forward(shell, input_ids=ids, use_cache=False).logits
        return found.reshape(*states.shape[:-1], found.shape[-1])

    with torch.inference_mode():
        try:
            own = logits(states)
        except Exception as error:  # whatever else a class may need
            raise MechdriftError(
                f"{type(model).__name__} computes its logits from more than its decoder's last states "
                f"({reason(error)}): mechdrift needs a decoder-only transformer."
            ) from error
        plain = unembed(states)
    return None if plain.shape == own.shape and torch.equal(plain.to(own.dtype), own) else logits


def _with(model: nn.Module, path: list[str], part: nn.Module) -> Any:
    """A copy of a module, around the same modules but for one, which is replaced."""
    shell = copy.copy(model)
    shell._modules = dict(model._modules)
    inner = model._modules[path[0]]
    shell._modules[path[0]] = _with(inner, path[1:], part) if inner is not None and path[1:] else part
    return shell
