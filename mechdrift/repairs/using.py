"""A repaired model in use, whatever its repair's shape: what writes, in which think mode, and what is edited when it
reads."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

from mechdrift.activations.batching import ForwardBatch
from mechdrift.behaviour.backends.hugging_face import HuggingFace
from mechdrift.behaviour.backends.protocol import Generator
from mechdrift.pairs.loading import LanguageModel
from mechdrift.pairs.pair import Pair
from mechdrift.probes.rendering import Renderer
from mechdrift.records import Rendered, ThinkMode
from mechdrift.repairs.changes import with_changes
from mechdrift.repairs.editing import EditedModel, Editing
from mechdrift.repairs.words import Interposed, Words

Around = Callable[[ForwardBatch], AbstractContextManager]


@dataclass(frozen=True, slots=True, kw_only=True)
class InUse:
    """`loaded` is the model, `generator` writes with it, in think mode `think`; `is_model` says that what it writes are
    the model's own words alone. `words` go before its first thought; `editing` is what is edited."""

    loaded: LanguageModel
    generator: Generator
    think: ThinkMode
    is_model: bool = True
    words: str = ""
    editing: Editing | None = None

    def around(self, prompts: Mapping[str, Rendered]) -> Around:
        """The edit round a batch of these prompts, by item; none where nothing is edited."""
        return partial(self.editing.around, self.loaded, prompts) if self.editing else nullcontext


def as_it_is(pair: Pair, dtype: str) -> InUse:
    """The child without a repair."""
    loaded = pair.open("reasoning", dtype)
    return InUse(loaded=loaded, generator=HuggingFace(loaded), think=_own(pair))


def in_use(pair: Pair, made: object, dtype: str, name: str) -> InUse:
    """The child with what a method made: a change of weights, an edit, or words."""
    if isinstance(made, Editing):
        loaded = pair.open("reasoning", dtype)
        writer = EditedModel(loaded=loaded, editing=made, renderer=Renderer(loaded.tokenizer))
        return InUse(loaded=loaded, generator=writer, think=_own(pair), is_model=False, editing=made)
    if isinstance(made, Words):
        loaded = pair.open("reasoning", dtype)
        writer = Interposed(HuggingFace(loaded), made, Renderer(loaded.tokenizer).encode_answer)
        return InUse(loaded=loaded, generator=writer, think=made.think or _own(pair), is_model=False, words=made.start)
    assert isinstance(made, Mapping)
    loaded = with_changes(pair.open("reasoning", "float32"), made, dtype, name)
    return InUse(loaded=loaded, generator=HuggingFace(loaded), think=_own(pair))


def _own(pair: Pair) -> ThinkMode:
    return "own" if pair.child_thinks else "none"
