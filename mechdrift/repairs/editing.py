"""Edits of activations while a model runs, at the tokens of some roles only.

    x  ->  x + addition(x)     at the tokens of the roles, x the tensor of a site of one block

    add     a vector                       steer back along the parent's direction
    map     (x · read) write               a d × d map of rank one, as AlphaSteer's null-space map is
    scale   x * (factor - 1), per column   heads that are turned down, at `z`

Three roles are told apart, on token ids:

    prompt   everything up to where the model begins to write
    think    its thinking
    answer   the marker that closes the thinking, where the first word is decided, and the answer

One batch may hold rows that think and rows that answer, so each step looks up where every row is. Published code
often edits only the pass over the prompt and so never acts while the model thinks; here that is one choice of three.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from mechdrift.activations.batching import ForwardBatch
from mechdrift.behaviour.backends.hugging_face import HuggingFace, Row, RunningBatch
from mechdrift.behaviour.backends.kv_cache import CannotCut
from mechdrift.behaviour.backends.protocol import Request, Written
from mechdrift.hooks import edit
from mechdrift.pairs.loading import LanguageModel
from mechdrift.probes.rendering import Renderer
from mechdrift.records import MechdriftError, Rendered

EDITED_ROLES = ("prompt", "think", "answer")
ROLE_OF = {"think": "think", "think_close": "answer", "answer": "answer"}  # all others belong to the prompt


def _add(x: Tensor, vector: Tensor) -> Tensor:
    return vector.to(x)


def _map(x: Tensor, read: Tensor, write: Tensor) -> Tensor:
    return (x @ read.to(x))[..., None] * write.to(x)


def _scale(x: Tensor, factors: Tensor) -> Tensor:
    return x * (factors.to(x) - 1)


RULES: dict[str, Callable[..., Tensor]] = {"add": _add, "map": _map, "scale": _scale}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One place of an edit: a site of a block, the rule, and the rule's tensors by name."""

    site: str
    layer: int
    rule: str
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Editing:
    """An edit of some places, at the tokens of some roles."""

    places: tuple[Place, ...]
    roles: tuple[str, ...]

    def __post_init__(self) -> None:
        if unknown := set(self.roles) - set(EDITED_ROLES):
            raise MechdriftError(
                f"an edit acts on the roles {', '.join(EDITED_ROLES)}, not on {min(unknown)!r}: choose some of these."
            )

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name, for a file."""
        named = [(f"{p.layer} {p.site} {p.rule} {name}", t) for p in self.places for name, t in p.tensors.items()]
        return dict(named)

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], roles: Sequence[str]) -> "Editing":
        """The inverse of `tensors`."""
        found: dict[tuple[str, ...], dict[str, Tensor]] = defaultdict(dict)
        for name, tensor in tensors.items():
            layer, site, rule, part = name.split(" ")
            found[layer, site, rule][part] = tensor
        places = [Place(layer=int(key[0]), site=key[1], rule=key[2], tensors=parts) for key, parts in found.items()]
        return cls(places=tuple(places), roles=tuple(roles))

    @contextmanager
    def on(self, loaded: LanguageModel) -> "Iterator[Gate]":
        """Inside the block, the model is edited at the tokens that the gate names."""
        gate, grouped = Gate(), defaultdict(list)
        for place in self.places:
            rule = partial(RULES[place.rule], **place.tensors)
            grouped[loaded.structure.hook_point(place.site, place.layer)].append(rule)
        with edit({point: partial(_edited, rules, gate) for point, rules in grouped.items()}):
            yield gate

    def around(self, loaded: LanguageModel, prompts: Mapping[str, Rendered], each: ForwardBatch) -> Any:
        """The edit for one batch of rendered prompts, given by item."""
        return _teacher_forced(self, loaded, [prompts[prompt.item_id] for prompt in each.prompts], each)


@contextmanager
def _teacher_forced(
    editing: Editing, loaded: LanguageModel, prompts: Sequence[Rendered], each: ForwardBatch
) -> Iterator[None]:
    mask = torch.zeros(each.batch.ids.shape, dtype=torch.bool)
    for row, (prompt, offset) in enumerate(zip(prompts, each.batch.offsets, strict=True)):
        for role, (start, stop) in prompt.roles.items():
            mask[row, offset + start : offset + stop] = ROLE_OF.get(role, "prompt") in editing.roles
    with editing.on(loaded) as gate:
        gate.mask = mask
        yield


@dataclass(slots=True)
class Gate:
    """Which tokens of the batch that is about to run are edited."""

    mask: Bool[Tensor, "row pos"] = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.bool))


def _edited(rules: Sequence[Callable[[Tensor], Tensor]], gate: Gate, x: Tensor) -> Tensor:
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    total = torch.stack([rule(exact).expand_as(exact) for rule in rules]).sum(dim=0)
    return torch.where(gate.mask.to(x.device)[..., None], exact + total, exact).to(x.dtype)


# While it writes.


@dataclass
class EditedModel(HuggingFace):
    """The model in this process, edited: a backend like any other."""

    editing: Editing | None = None
    renderer: Renderer | None = None

    @property
    def name(self) -> str:
        return f"{super().name}, edited"

    def batch(self) -> "EditedBatch":
        return EditedBatch(self.loaded, self.memory, self.rows, self.editing, self.renderer)

    def write(self, queue: Any) -> Iterator[tuple[Request, Written]]:
        try:
            yield from self.batch().run(queue)
        except CannotCut as error:
            raise MechdriftError(
                f"{type(self.loaded.model).__name__} cannot be edited by role while it writes ({error}): repair its "
                "weights, or its tokens."
            ) from error


class EditedBatch(RunningBatch):
    """What is being written at one time, with the edit at the tokens of its roles."""

    def __init__(self, loaded: LanguageModel, memory: Any, rows: Any, editing: Any, renderer: Any):
        super().__init__(loaded, memory, rows)
        self.editing, self.renderer = editing, renderer
        self.starts: dict[int, tuple[int, int]] = {}
        self.reading: Sequence[Row] = ()

    def _prefill(self, group: list[Row]) -> None:
        self.reading = group
        super()._prefill(group)

    def _step(self, queue: Any) -> None:
        self.reading = ()
        super()._step(queue)

    def _forward(self, module: Any, ids: Tensor, positions: Tensor, cache: Any, mask: Tensor | None = None) -> Any:
        rows = self.reading or self.running
        with self.editing.on(self.loaded) as gate:
            gate.mask = self._edited_tokens(rows, positions)
            return super()._forward(module, ids, positions, cache, mask)

    def _edited_tokens(self, rows: Sequence[Row], positions: Tensor) -> Bool[Tensor, "row pos"]:
        starts = torch.tensor([self._starts_of(row.request) for row in rows], device=positions.device)
        thinks, answers = positions >= starts[:, :1], positions >= starts[:, 1:]
        of_role = {"prompt": ~thinks, "think": thinks & ~answers, "answer": answers}
        return torch.stack([of_role[role] for role in self.editing.roles]).any(dim=0)

    def _starts_of(self, request: Request) -> tuple[int, int]:
        """Where thinking and answer begin in a row."""
        if id(request) not in self.starts:
            self.starts[id(request)] = starts_of(self.renderer, request)
        return self.starts[id(request)]


def starts_of(renderer: Renderer, request: Request) -> tuple[int, int]:
    """The positions of the first token of the thinking, and of the marker that closes it, in the text of a request."""
    end = len(request.prompt) + request.max_tokens
    if request.stop:  # it thinks
        return len(request.prompt), end
    if request.continues is None:  # it answers at once
        return len(request.prompt), len(request.prompt)
    start = len(request.continues.prompt)
    span = renderer.find_close(request.prompt[start:])
    if span is None:
        return start, len(request.prompt)
    lead = renderer.close_ids[: renderer.lead_width]  # a line break that belongs to the marker
    has_lead = bool(lead) and request.prompt[: start + span[0]][-len(lead) :] == lead
    return start, start + span[0] - (len(lead) if has_lead else 0)
