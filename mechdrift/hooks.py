"""The one file that registers hooks: `record` reads tensors of a forward pass, `edit` replaces them.

Both work on `HookPoint`s, a module's input or output, and both are context managers that remove every hook they made,
also when the forward pass raises. Nothing is changed in place: `edit` hands the module a new tensor.

`replace_attention` replaces the function that models call for attention proper, softmax(q kᵀ) v, through transformers'
registry of such functions. That registry is one for all models, so one thread at a time replaces a function, and only
what this thread computes is changed, or recorded: another pair may be read in another thread.

Two facts of transformers 5 are handled here and nowhere else: a decoder layer returns a tensor where it used to return
a tuple (attention modules still return tuples), and a module's hidden states may arrive as a keyword argument."""

import sys
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

Attention = Callable[..., tuple[Tensor, Any]]
Key = TypeVar("Key", bound=Hashable)
_REPLACING = threading.RLock()


@dataclass(frozen=True, slots=True)
class HookPoint:
    """A tensor of the forward pass: a module's input or its output."""

    module: nn.Module
    end: Literal["input", "output"]


Visitor = Callable[[Tensor], Tensor | None]


def _visit(point: HookPoint, function: Visitor):
    """Call `function` on the point's tensor at every forward pass; a tensor that it returns replaces the old one."""
    if point.end == "input":
        return point.module.register_forward_pre_hook(partial(_on_input, function), with_kwargs=True)
    return point.module.register_forward_hook(partial(_on_output, function))


def _on_input(function: Visitor, _: nn.Module, args: tuple, kwargs: dict[str, Any]):
    new = function(args[0] if args else kwargs["hidden_states"])
    if new is None:
        return None
    return ((new, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": new})


def _on_output(function: Visitor, _: nn.Module, args: tuple, output: Any):
    new = function(output[0] if isinstance(output, tuple) else output)
    if new is None:
        return None
    return (new, *output[1:]) if isinstance(output, tuple) else new


@contextmanager
def record(
    points: Mapping[Key, HookPoint], keep: Callable[[Tensor], Tensor] = lambda tensor: tensor
) -> Iterator[dict[Key, Tensor]]:
    """Yield a dict that every forward pass inside the block fills with `keep(tensor)` per point.

    `keep` runs during the pass, so that only its result (some positions, a mean) stays in memory.
    """
    seen: dict[Key, Tensor] = {}
    with ExitStack() as handles:
        for key, point in points.items():
            handles.callback(_visit(point, partial(_keep, seen, keep, threading.get_ident(), key)).remove)
        yield seen


def _keep(
    seen: dict[Any, Tensor], keep: Callable[[Tensor], Tensor], thread: int, key: Hashable, tensor: Tensor
) -> None:
    if threading.get_ident() == thread:
        seen[key] = keep(tensor)


@contextmanager
def edit(edits: Mapping[HookPoint, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """Change what a model computes: inside the block, every forward pass uses the edited tensors.

    Args:
        edits: places in the model, each with a function that returns the new tensor; `ablate` and `steer` make
            them.

    Returns:
        A context manager. Two blocks, one within the other, add up. No tensor is changed in place.

    Raises:
        MechdriftError: when a place holds something other than one tensor.

    Source:
        PyTorch's forward hooks; this file is the only one that registers any.

    Example:
        >>> loaded = pair.open("instruct")
        >>> with md.edit({loaded.structure.hook_point("resid_pre", 2): lambda stream: 0 * stream}):
        ...     zeroed = md.collect(loaded, probes, layers=(2,), roles=("template_tail[-1]",))
        >>> float(zeroed.of("resid_pre").abs().max())
        0.0
    """
    with ExitStack() as handles:
        for point, function in edits.items():
            handles.callback(_visit(point, function).remove)
        yield


@contextmanager
def record_calls(modules: Mapping[int, nn.Module]) -> Iterator[dict[int, tuple[tuple, dict[str, Any]]]]:
    """Yield a dict that every forward pass fills with the positional and keyword arguments each module was called
    with."""
    calls: dict[int, tuple[tuple, dict[str, Any]]] = {}
    with ExitStack() as handles:
        for key, module in modules.items():
            noted = partial(_note_call, calls, key)
            handles.callback(module.register_forward_pre_hook(noted, with_kwargs=True).remove)
        yield calls


def _note_call(calls: dict[int, Any], key: int, _: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
    calls[key] = (args, kwargs)


@contextmanager
def replace_attention(model: PreTrainedModel, function: Callable[..., tuple[Tensor, Any]]) -> Iterator[None]:
    """Inside the block, attention modules call `function(own, module, query, key, value, mask, **arguments)`.

    `own` is the function that they would call otherwise. Modules that do not use transformers' interface are not
    affected.
    """
    name = model.config.get_text_config()._attn_implementation
    with _REPLACING:
        known = ALL_ATTENTION_FUNCTIONS.get(name)
        ALL_ATTENTION_FUNCTIONS[name] = partial(_with_own, known, function, threading.get_ident())
        try:
            yield
        finally:
            del ALL_ATTENTION_FUNCTIONS[name]
            if ALL_ATTENTION_FUNCTIONS.get(name) is not known:
                ALL_ATTENTION_FUNCTIONS[name] = known


def _with_own(
    known: Any,
    function: Callable[..., Any],
    thread: int,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any = None,
    **kwargs: Any,
) -> Any:
    """The parameters have the names that transformers gives them: some models pass the mask by its name."""
    # Eager attention is the one that is not registered: each model's file has its own.
    own = known or sys.modules[type(module).__module__].eager_attention_forward
    if threading.get_ident() != thread:
        return own(module, query, key, value, attention_mask, **kwargs)
    return function(own, module, query, key, value, attention_mask, **kwargs)


@contextmanager
def in_parts(modules: Iterable[nn.Module], positions: int) -> Iterator[None]:
    """Inside the block, these modules read long inputs `[prompt, pos, d_model]` at most `positions` at a time.

    For modules that process each position alone, as MLPs do: the tensors between their matrices are several times as
    wide as the residual stream, and with this no longer grow with the prompt. Hooks on the modules themselves see the
    whole input."""
    with ExitStack() as undo:
        for module in modules:
            undo.callback(_read_in_parts(module, positions))
        yield


def _read_in_parts(module: nn.Module, positions: int) -> Callable[[], None]:
    """Replace a module's forward by one that splits its input; returns a function that restores the old one."""
    whole, was_set = module.forward, "forward" in vars(module)

    def forward(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        if args or kwargs or hidden_states.dim() != 3 or hidden_states.shape[1] <= positions:
            return whole(hidden_states, *args, **kwargs)
        out = torch.empty_like(hidden_states)
        for part, place in zip(hidden_states.split(positions, 1), out.split(positions, 1), strict=True):
            place.copy_(whole(part))
        return out

    module.forward = forward

    def undo() -> None:
        if was_set:
            module.forward = whole
        else:
            del module.forward

    return undo
