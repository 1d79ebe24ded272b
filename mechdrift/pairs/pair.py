"""A pair: an instruct model and the reasoning model trained from it.

`named.load_pair` makes one from names, `Pair.from_models` from models in memory. Weights are loaded by `Pair.open`, one
side at a time, and kept when they are small.
"""

import ctypes
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import pandas as pd
import torch
from transformers import PreTrainedTokenizerBase

from mechdrift.errors import warn_renamed
from mechdrift.machine import free_memory
from mechdrift.pairs.asked import dated, headless, own_tokenizer, said_by_side, settle, switched
from mechdrift.pairs.comparable import check_comparable
from mechdrift.pairs.layout import Layout
from mechdrift.pairs.loading import (
    LanguageModel,
    ModelSource,
    load_config,
    load_model,
    load_tokenizer,
)
from mechdrift.pairs.own import number_format, own_model
from mechdrift.pairs.pair_files import PairFile
from mechdrift.pairs.routes import find_route
from mechdrift.pairs.templates import settings_of, with_template
from mechdrift.records import SIDES, MechdriftError, Side

KEEP_RESIDENT_PARAMETERS = 1_000_000_000
ROOM = 2  # times a model's weights, that are free where another stays beside it


@dataclass(slots=True, kw_only=True)
class ModelCache:
    """One side's tokenizer and its loaded weights by number format. Pairs that share a side share its cache.

    `own` is a caller's model: it is used as it is for every number format. `is_given` says that the weights were handed
    over in memory and cannot be loaded again. Neither kind is ever released.
    """

    own: LanguageModel | None = None
    loaded: dict[str, LanguageModel] = field(default_factory=dict)
    tokenizer: PreTrainedTokenizerBase | None = None
    is_given: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two models of one lineage. `warnings` are printed with every figure that is made from the pair.

    `null_model`, if there is one, was trained from the instruct model for about as long, but not to reason.
    `child_thinks` says whether the reasoning model is asked with its own thinking; a null model is asked without.
    `file` is the pair file that the pair was read from, if any.
    """

    name: str
    instruct: ModelSource
    reasoning: ModelSource
    null_model: ModelSource | None = None
    route: str = "unknown"
    child_thinks: bool = True
    dtype: str = "float32"
    warnings: tuple[str, ...] = ()
    file: PairFile | None = None
    models: Mapping[Side, ModelCache] = field(
        default_factory=lambda: {side: ModelCache() for side in SIDES}, repr=False, compare=False
    )

    @classmethod
    def of_loaded(cls, name: str, instruct: LanguageModel, reasoning: LanguageModel) -> "Pair":
        """A pair of two models that are in memory already, with their tokenizers."""
        models: dict[Side, ModelCache] = {
            side: ModelCache(loaded={"float32": loaded}, tokenizer=loaded.tokenizer, is_given=True)
            for side, loaded in zip(SIDES, (instruct, reasoning), strict=True)
        }
        return cls(name=name, instruct=instruct.source, reasoning=reasoning.source, models=models)

    @classmethod
    def from_models(
        cls,
        instruct_model: Any,
        reasoning_model: Any,
        tokenizer: PreTrainedTokenizerBase,
        reasoning_tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        name: str | None = None,
        route: str = "unknown",
        layout: Layout | None = None,
        system: str | Mapping[Side, str] | None = None,
        template: str | Mapping[Side, str] | None = None,
        template_args: Mapping[str, Any] | None = None,
        think_open: str | Mapping[Side, str] | None = None,
        think_close: str | Mapping[Side, str] | None = None,
    ) -> "Pair":
        """A pair of models that you have loaded: Hugging Face models, peft models or TransformerLens bridges.

        They are used as they are (device, number format, quantised or not) and are left as they were: nothing is
        moved, cast, closed or hooked (see `mechdrift.pairs.own`).

        Args:
            instruct_model: the parent.
            reasoning_model: the child. It may be the same object, or a peft model around the parent.
            tokenizer: the parent's; also the child's, unless that has its own.
            reasoning_tokenizer: the child's, where it is another.
            name: the pair's name, in figures and as the default run folder.
            route: how the child was trained (`mechdrift.pairs.routes`), where you know it.
            layout: where an architecture that TransformerLens does not know keeps its modules.
            system: a system message before every prompt. This and the next four are one value for both models, or a
                mapping per side.
            template: the name of one of the tokenizer's chat templates, where it has several.
            template_args: arguments of the chat template, such as `{"enable_thinking": True}`.
            think_open: the marker that opens thinking, as in `load_pair`.
            think_close: the marker that closes thinking.

        Returns:
            A `Pair` whose `open` gives these models, whatever number format a stage asks for.

        Raises:
            MechdriftError: as `load_pair` does, and for objects that cannot be read.

        Example:
            >>> own = md.Pair.from_models(pair.open("instruct").model, pair.open("reasoning").model, tokenizer)
            >>> md.collect(own, probes).instruct.shape == md.collect(pair, probes).instruct.shape
            True
        """
        said = said_by_side(
            system=system,
            template=template,
            template_args=template_args,
            think_open=think_open,
            think_close=think_close,
        )
        asked = {"instruct": tokenizer, "reasoning": reasoning_tokenizer or tokenizer}
        asked = {side: with_template(own, said[side].get("template")) for side, own in asked.items()}
        instruct = own_model(instruct_model, asked["instruct"], reasoning_model, layout)
        reasoning = own_model(reasoning_model, asked["reasoning"], instruct_model, layout)
        child_thinks = find_route(route).child_thinks
        instruct = _asked_as(instruct, said["instruct"], thinks=False)
        reasoning = _asked_as(reasoning, said["reasoning"], thinks=child_thinks)
        sides: dict[Side, LanguageModel] = {"instruct": instruct, "reasoning": reasoning}
        pair = cls(
            name=name or f"{instruct.source.name}--{reasoning.source.name}",
            instruct=instruct.source,
            reasoning=reasoning.source,
            route=route,
            child_thinks=child_thinks,
            warnings=switched({side: loaded.source.chat for side, loaded in sides.items()})
            + dated({each.source.name: each.tokenizer for each in sides.values()})
            + tuple(chain(*(headless(each.source.name, each.tokenizer, each.source.chat) for each in sides.values())))
            + tuple(
                f"the {side} model is used as it was given, in {written}: what is measured in it is rounded to that."
                for side, loaded in sides.items()
                if (written := number_format(loaded.model)) != "float32"
            ),
            models={side: ModelCache(own=loaded, tokenizer=loaded.tokenizer) for side, loaded in sides.items()},
        )
        return replace(pair, warnings=(*check_comparable(pair), *pair.warnings))

    @property
    def number_formats(self) -> dict[Side, str]:
        """The number formats of a caller's own models; empty for a pair that mechdrift loads."""
        return {side: number_format(cache.own.model) for side, cache in self.models.items() if cache.own is not None}

    def config(self, side: Side) -> Any:
        """The model's Hugging Face configuration; reads no weights."""
        own = self.models[side].own
        return own.model.config if own is not None else load_config(self.source(side))

    def source(self, side: Side) -> ModelSource:
        if side not in SIDES:
            raise MechdriftError(f"unknown side {side!r}: a pair has the sides {' and '.join(SIDES)}.")
        return self.instruct if side == "instruct" else self.reasoning

    def tokenizer(self, side: Side) -> PreTrainedTokenizerBase:
        source, cache = self.source(side), self.models[side]
        if cache.tokenizer is None:
            cache.tokenizer = load_tokenizer(source)
        return cache.tokenizer

    def open(self, side: Side, dtype: str | None = None) -> LanguageModel:
        """Load one side, in the pair's number format unless another is given. Models of up to 1e9 parameters stay in
        memory where a second one has room beside them; otherwise opening another model releases all. A caller's own
        model is returned as it is."""
        dtype = dtype or self.dtype
        source, loaded = self.source(side), self.models[side].loaded
        if (own := self.models[side].own) is not None:
            return own
        if dtype not in loaded:
            if not all(self.keeps(model) for cache in self.models.values() for model in cache.loaded.values()):
                self.close()
            loaded[dtype] = replace(load_model(source, dtype), tokenizer=self.tokenizer(side))
        return loaded[dtype]

    def keeps(self, loaded: LanguageModel) -> bool:
        """Whether a model stays in memory when the other side is opened."""
        if any(loaded is cache.own for cache in self.models.values()):
            return True
        return stays_in_memory(sum(each.numel() for each in loaded.model.parameters()), free_memory(loaded.device))

    def close(self, dtype: str | None = None) -> None:
        """Release loaded weights, of one number format or of all, except those that were handed over in memory."""
        for cache in self.models.values():
            if cache.is_given:
                continue
            for name in [name for name in cache.loaded if dtype in (None, name)]:
                del cache.loaded[name]
        give_back_memory()

    def sharing(self, other: "Pair", side: Side) -> "Pair":
        """A copy of this pair that shares one side's tokenizer and loaded weights with another pair, which has the same
        model on that side. What one pair loads or releases is loaded or released for both."""
        if self.source(side) != other.source(side):
            raise MechdriftError(f"{self.name} and {other.name} have different {side} models and cannot share one.")
        return replace(self, models={**self.models, side: other.models[side]})

    def with_null_model(self) -> "Pair | None":
        """The pair with the null model in the instruct model's place; None where there is no null model."""
        null = self.null_model
        return null and Pair(name=f"{self.name}, null model", instruct=null, reasoning=self.reasoning)

    @property
    def control(self) -> ModelSource | None:
        """The old name of `null_model`."""
        warn_renamed("Pair.control", "Pair.null_model")
        return self.null_model

    def with_control(self) -> "Pair | None":
        """The old name of `with_null_model`."""
        warn_renamed("Pair.with_control", "Pair.with_null_model")
        return self.with_null_model()

    @property
    def frame(self) -> pd.DataFrame:
        rows = [{"side": side, "name": self.source(side).name, "path": self.source(side).path} for side in SIDES]
        return pd.DataFrame(rows).assign(pair=self.name, route=self.route)


def give_back_memory() -> None:
    """Return freed memory to the system. glibc keeps it after tensors of changing sizes: 0.4 GB after answering with
    SmolLM2-135M, 1.1 GB after twelve grids."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def stays_in_memory(parameters: int, free: int) -> bool:
    """Whether a model of so many parameters stays in memory while another is used: it is small, and in the `free` bytes
    beside it a second one in float32 has room for its weights and as much again for its work."""
    return parameters <= KEEP_RESIDENT_PARAMETERS and free >= ROOM * parameters * torch.float32.itemsize


def _asked_as(loaded: LanguageModel, said: Mapping[str, Any], thinks: bool) -> LanguageModel:
    """A caller's model, asked with these settings."""
    name, tokenizer = loaded.source.name, loaded.tokenizer
    chat = settle(name, tokenizer, settings_of(tokenizer), said, thinks)
    return replace(loaded, tokenizer=own_tokenizer(tokenizer, chat), source=replace(loaded.source, chat=chat))
