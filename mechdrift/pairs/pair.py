"""A pair: an instruct model and the reasoning model trained from it.

`load_pair` takes the name of an embedded pair, or any two Hugging Face ids or folders, or a base and an adapter. It
reads configs and tokenizers only; weights are loaded by `Pair.open`, one side at a time, and kept when they are small.
"""

import ctypes
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from transformers import PreTrainedTokenizerBase

from mechdrift.pairs.catalogue import ADAPTER_SHA256, EMBEDDED_PAIRS, NULL, ZOO
from mechdrift.pairs.chat import ChatSettings
from mechdrift.pairs.embedded import check_sha256, embedded_base
from mechdrift.pairs.layout import Layout, read_layout
from mechdrift.pairs.loading import (
    LanguageModel,
    ModelSource,
    adapter_file,
    check_device,
    load_adapter_config,
    load_config,
    load_model,
    load_tokenizer,
    resolve_device,
)
from mechdrift.pairs.own import number_format, own_model
from mechdrift.pairs.routes import find_route
from mechdrift.records import SIDES, MechdriftError, Side

KEEP_RESIDENT_PARAMETERS = 1_000_000_000


@dataclass(slots=True, kw_only=True)
class ModelCache:
    """One side's tokenizer and loaded weights, the latter by number format. Pairs that share a side share its cache.

    `own` is a caller's model: it is used as it is for every number format. `is_given`: the weights were handed over in
    memory and cannot be loaded again. Neither is ever let go of.
    """

    own: LanguageModel | None = None
    loaded: dict[str, LanguageModel] = field(default_factory=dict)
    tokenizer: PreTrainedTokenizerBase | None = None
    is_given: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two models of one lineage. `warnings` are printed with every figure that is made from the pair.

    `control`, if there is one, was trained from the instruct model for about as long, but not to reason.
    `child_thinks` says whether the reasoning model is asked with its own thinking; a null model is asked without.
    """

    name: str
    instruct: ModelSource
    reasoning: ModelSource
    control: ModelSource | None = None
    route: str = "unknown"
    child_thinks: bool = True
    dtype: str = "float32"
    warnings: tuple[str, ...] = ()
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

        Returns:
            A `Pair` for which `open` gives these models, whatever number format a stage asks for.

        Raises:
            MechdriftError: as `load_pair` does, and for objects that cannot be read.

        Example:
            >>> own = md.Pair.from_models(pair.open("instruct").model, pair.open("reasoning").model, tokenizer)
            >>> md.collect(own, probes).instruct.shape == md.collect(pair, probes).instruct.shape
            True
        """
        instruct = own_model(instruct_model, tokenizer, reasoning_model, layout)
        reasoning = own_model(reasoning_model, reasoning_tokenizer or tokenizer, instruct_model, layout)
        sides: dict[Side, LanguageModel] = {"instruct": instruct, "reasoning": reasoning}
        pair = cls(
            name=name or f"{instruct.source.name}--{reasoning.source.name}",
            instruct=instruct.source,
            reasoning=reasoning.source,
            route=route,
            child_thinks=find_route(route).child_thinks,
            warnings=tuple(
                f"the {side} model is used as it was given, in {written}: what is measured in it is rounded to that."
                for side, loaded in sides.items()
                if (written := number_format(loaded.model)) != "float32"
            ),
            models={side: ModelCache(own=loaded, tokenizer=loaded.tokenizer) for side, loaded in sides.items()},
        )
        check_comparable(pair)
        return pair

    @property
    def number_formats(self) -> dict[Side, str]:
        """Of a caller's own models, what their numbers are stored in; empty for a pair that mechdrift loads."""
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
        """Load one side, in the pair's number format unless another is given. Small models stay resident; opening a
        large one first lets go of every other. A caller's own model is there already, whatever its number format."""
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
        return any(loaded is cache.own for cache in self.models.values()) or _size(loaded) <= KEEP_RESIDENT_PARAMETERS

    def close(self, dtype: str | None = None) -> None:
        """Let go of loaded weights (of one dtype, or all), but for those that were handed over in memory."""
        for cache in self.models.values():
            if cache.is_given:
                continue
            for name in [name for name in cache.loaded if dtype in (None, name)]:
                del cache.loaded[name]
        give_back_memory()

    def sharing(self, other: "Pair", side: Side) -> "Pair":
        """This pair with one side's weights and tokenizer in common with another pair of the same model there: what
        either loads or lets go of, the other does, too."""
        if self.source(side) != other.source(side):
            raise MechdriftError(f"{self.name} and {other.name} have different {side} models and cannot share one.")
        return replace(self, models={**self.models, side: other.models[side]})

    def with_control(self) -> "Pair | None":
        """The control in the instruct model's place, beside the same reasoning model; None without a control."""
        return self.control and Pair(name=f"{self.name}, control", instruct=self.control, reasoning=self.reasoning)

    @property
    def frame(self) -> pd.DataFrame:
        rows = [{"side": side, "name": self.source(side).name, "path": self.source(side).path} for side in SIDES]
        return pd.DataFrame(rows).assign(pair=self.name, route=self.route)


def give_back_memory() -> None:
    """What tensors of changing sizes leave behind, glibc keeps: 0.4 GB after answering with SmolLM2-135M, 1.1 GB after
    twelve grids."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _size(loaded: LanguageModel) -> int:
    return sum(parameter.numel() for parameter in loaded.model.parameters())


def load_pair(
    name: str | None = None,
    *,
    instruct: str | None = None,
    reasoning: str | None = None,
    adapter: str | None = None,
    control: str | None = None,
    revision: str | dict[Side, str] | None = None,
    device: str | None = None,
    device_map: str | None = None,
    dtype: str = "float32",
    trust_remote_code: bool = False,
    layout: Layout | str | Path | None = None,
) -> Pair:
    """What is compared: an embedded pair, two models of your own, or a model and a LoRA adapter. Loads no weights yet.

    Args:
        name: an embedded pair; `mechdrift pairs` lists them.
        instruct: Hugging Face id or folder of the instruct model (the parent).
        reasoning: Hugging Face id or folder of the reasoning model (the child).
        adapter: instead of `reasoning`, a LoRA adapter for the instruct model.
        control: the null model: trained from the parent for as long, but not to reason. An id, a folder, or a LoRA
            adapter for the instruct model; embedded pairs have theirs.
        revision: one revision on the hub for both models, or a dict per side.
        device: such as `"cuda:0"`; `"auto"`, the default, is cuda, then mps, then the CPU.
        device_map: such as `"auto"`: place a large model with accelerate.
        dtype: the number format of everything that is measured inside, unless a call says another.
        trust_remote_code: let the models' own code run.
        layout: where an architecture that TransformerLens does not know keeps its modules: a `Layout`, or a TOML or
            JSON file of the same names (see `mechdrift.pairs.layout`).

    Returns:
        A `Pair`. `pair.open(side)` loads one side.

    Raises:
        MechdriftError: for unknown names, for tokenizers without a chat template, and for models whose width, depth
            or vocabulary differ, which cannot be compared layer by layer.

    Source:
        The module layout comes from TransformerLens' architecture adapters,
        https://transformerlensorg.github.io/TransformerLens, and is proved against Hugging Face's hidden states at
        load.

    Example:
        >>> pair = md.load_pair(instruct=parent, reasoning=child)  # ids or folders
        >>> pair.frame[["side", "pair", "route"]].values.tolist()
        [['instruct', 'parent--child', 'unknown'], ['reasoning', 'parent--child', 'unknown']]
    """
    device = None if device_map else resolve_device(device)
    check_device("meta" if device_map == "meta" else device)
    if name is not None:
        if instruct or reasoning or adapter or control or layout:
            raise MechdriftError("give either the name of an embedded pair or instruct=/reasoning=, not both.")
        return replace(_embedded(name, device), dtype=dtype)
    if not instruct or bool(reasoning) == bool(adapter):
        raise MechdriftError("give the name of a pair, or instruct= together with either reasoning= or adapter=.")
    revisions = revision if isinstance(revision, dict) else dict.fromkeys(SIDES, revision)
    common: dict[str, Any] = {
        "trust_remote_code": trust_remote_code,
        "device": device,
        "device_map": device_map,
        "layout": read_layout(layout) if isinstance(layout, str | Path) else layout,
    }
    parent = ModelSource(name=instruct, path=instruct, revision=revisions.get("instruct"), **common)
    if adapter:
        child = ModelSource(
            name=f"{instruct} + {adapter}",
            path=instruct,
            revision=revisions.get("instruct"),
            adapters=(adapter,),
            **common,
        )
    else:
        child = ModelSource(name=str(reasoning), path=str(reasoning), revision=revisions.get("reasoning"), **common)
    pair = Pair(
        name=f"{Path(instruct).name}--{Path(adapter or str(reasoning)).name}",
        instruct=parent,
        reasoning=child,
        control=_control_source(parent, control) if control else None,
        dtype=dtype,
    )
    check_comparable(pair)
    if beside := pair.with_control():
        check_comparable(beside)
    return pair


def _control_source(parent: ModelSource, control: str) -> ModelSource:
    if (Path(control) / "adapter_config.json").exists():
        return replace(parent, name=f"{parent.name} + {control}", adapters=(control,))
    return replace(parent, name=control, path=control, revision=None)


def _embedded(name: str, device: str | None) -> Pair:
    if name not in EMBEDDED_PAIRS:
        raise MechdriftError(
            f"unknown pair {name!r}: embedded pairs are {', '.join(EMBEDDED_PAIRS)}; "
            "for your own models give instruct= and reasoning= (on the command line --instruct and --reasoning)."
        )
    spec = EMBEDDED_PAIRS[name]
    instruct, reasoning = (_embedded_source(adapters, device) for adapters in (spec.instruct, spec.reasoning))
    control = None if name == NULL else _embedded_source(EMBEDDED_PAIRS[NULL].reasoning, device)
    return Pair(
        name=name,
        instruct=instruct,
        reasoning=reasoning,
        control=control,
        route=spec.route,
        child_thinks=find_route(spec.route).child_thinks,
    )


def _embedded_source(adapters: tuple[str, ...], device: str | None) -> ModelSource:
    for adapter in adapters:
        check_sha256(adapter_file(ZOO / adapter), ADAPTER_SHA256[adapter])
    folders = tuple(str(ZOO / adapter) for adapter in adapters)
    return ModelSource(
        name=adapters[-1], path=str(embedded_base()), adapters=folders, device=device, chat=ChatSettings(apart=True)
    )


def load_parent(name: str, device: str | None = None, sha256: str = "") -> ModelSource:
    """An embedded model by name, or the model of a hub id or folder, to train from. `sha256` is that of an embedded
    adapter."""
    device = resolve_device(device)
    check_device(device)
    chains = {chain[-1]: chain for pair in EMBEDDED_PAIRS.values() for chain in (pair.instruct, pair.reasoning)}
    if name not in chains:
        return ModelSource(name=name, path=name, device=device)
    if sha256 and sha256 != ADAPTER_SHA256[name]:
        raise MechdriftError(
            f"the checkpoints were trained from another {name}: its adapter had SHA-256 {sha256[:12]}…, the "
            "embedded one has "
            f"{ADAPTER_SHA256[name][:12]}…; train them again."
        )
    return _embedded_source(chains[name], device)


def check_comparable(pair: Pair) -> None:
    """Raise unless both models have the same width, depth and vocabulary size, and chat templates; reads no weights."""
    for adapter in pair.reasoning.adapters:
        load_adapter_config(adapter)
    configs = {side: pair.config(side).get_text_config() for side in SIDES}
    for attribute, word in (
        ("hidden_size", "width"),
        ("num_hidden_layers", "number of layers"),
        ("vocab_size", "vocabulary size"),
    ):
        values = [getattr(configs[side], attribute, None) for side in SIDES]
        if values[0] != values[1]:
            raise MechdriftError(
                f"the models differ in {word} ({pair.instruct.name}: {values[0]}, {pair.reasoning.name}: {values[1]}): "
                "they cannot be compared layer by layer; choose a reasoning model trained from this instruct model."
            )
    for side in SIDES:
        pair.tokenizer(side)
