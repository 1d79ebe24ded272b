"""From names to a pair: embedded pairs, two Hugging Face ids or folders, a base and an adapter, or a pair file.

Reads configurations and tokenizers only, no weights.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mechdrift.errors import warn_renamed
from mechdrift.pairs.adapters import adapter_file, is_adapter
from mechdrift.pairs.asked import Said, dated, headless, said_by_side, settle, switched
from mechdrift.pairs.catalogue import ADAPTER_SHA256, EMBEDDED_PAIRS, NULL, ZOO
from mechdrift.pairs.chat import ChatSettings
from mechdrift.pairs.comparable import check_comparable
from mechdrift.pairs.embedded import check_sha256, embedded_base
from mechdrift.pairs.guards import check_form
from mechdrift.pairs.layout import Layout, read_layout
from mechdrift.pairs.loading import ModelSource, check_device, resolve_device
from mechdrift.pairs.pair import Pair
from mechdrift.pairs.pair_files import PairFile, is_pair_file, read_pair_file
from mechdrift.pairs.routes import find_route
from mechdrift.pairs.templates import with_settings
from mechdrift.records import SIDES, MechdriftError, Side


def load_pair(
    name: str | PairFile | None = None,
    *,
    instruct: str | None = None,
    reasoning: str | None = None,
    adapter: str | None = None,
    null_model: str | None = None,
    revision: str | dict[Side, str] | None = None,
    device: str | None = None,
    device_map: str | None = None,
    dtype: str = "float32",
    trust_remote_code: bool = False,
    layout: Layout | str | Path | None = None,
    system: str | Mapping[Side, str] | None = None,
    template: str | Mapping[Side, str] | None = None,
    template_args: Mapping[str, Any] | None = None,
    think_open: str | Mapping[Side, str] | None = None,
    think_close: str | Mapping[Side, str] | None = None,
    control: str | None = None,
) -> Pair:
    """What is compared: an embedded pair, two models of your own, or a model and a LoRA adapter. Loads no weights yet.

    Args:
        name: an embedded pair (`mechdrift pairs` lists them), or a pair file: a small TOML file that names two models
            and how each is asked (see `mechdrift.pairs.pair_files`), given by its path or as read.
        instruct: Hugging Face id or folder of the instruct model (the parent).
        reasoning: Hugging Face id or folder of the reasoning model (the child); the folder of an adapter is taken as
            `adapter`.
        adapter: instead of `reasoning`, a LoRA adapter for the instruct model.
        null_model: a model that was trained from the parent for as long, but not to reason: an id, a folder, or a LoRA
            adapter for the instruct model; embedded pairs have theirs.
        revision: one revision on the hub for both models, or a dict per side.
        device: such as `"cuda:0"`; `"auto"`, the default, takes the first that is there of cuda, mps and the CPU.
        device_map: such as `"auto"`: place a large model with accelerate.
        dtype: the number format of everything that is measured inside, unless a call names another.
        trust_remote_code: let the models' own code run.
        layout: where an architecture that TransformerLens does not know keeps its modules: a `Layout`, or a TOML or
            JSON file of the same names (see `mechdrift.pairs.layout`).
        system: a system message before every prompt, such as `"detailed thinking on"`; for both models, or a mapping
            per side, as the next ones.
        template: the name of one of the tokenizer's chat templates, where it has several.
        template_args: arguments of the chat template, such as `{"enable_thinking": True}`.
        think_open: the marker that opens thinking, `"none"` where there is none; by default it is read off the
            tokenizer.
        think_close: the marker that closes thinking.
        control: the old name of `null_model`.

    Returns:
        A `Pair`. `pair.open(side)` loads one side.

    Raises:
        MechdriftError: for unknown names, for tokenizers without a chat template, for models of different width or
            depth, which cannot be compared layer by layer, and for settings that a template ignores.

    Source:
        The module layout comes from TransformerLens' architecture adapters,
        https://transformerlensorg.github.io/TransformerLens, and is proved against Hugging Face's hidden states at
        load.

    Example:
        >>> pair = md.load_pair(instruct=parent, reasoning=child)  # ids or folders
        >>> pair.frame[["side", "pair", "route"]].values.tolist()
        [['instruct', 'parent--child', 'unknown'], ['reasoning', 'parent--child', 'unknown']]
    """
    if control is not None:
        warn_renamed("control=", "null_model=")
        null_model = control
    device = None if device_map else resolve_device(device)
    check_device("meta" if device_map == "meta" else device)
    said = said_by_side(
        system=system,
        template=template,
        template_args=template_args,
        think_open=think_open,
        think_close=think_close,
    )
    common: dict[str, Any] = {
        "trust_remote_code": trust_remote_code,
        "device": device,
        "device_map": device_map,
        "layout": read_layout(layout) if isinstance(layout, str | Path) else layout,
    }
    if name is not None:
        if instruct or reasoning or adapter or null_model:
            raise MechdriftError("give either the name of a pair or instruct=/reasoning=, not both.")
        if isinstance(name, PairFile) or is_pair_file(name):
            file = name if isinstance(name, PairFile) else read_pair_file(name)
            return replace(_pair_of_file(file, said, revision, dtype, common), file=file)
        if layout:
            raise MechdriftError("layout= is for models of your own: an embedded pair needs none.")
        pair = _with_templates(replace(_embedded(name, device), dtype=dtype), said)
        return ask_as(pair, said) if any(said.values()) else pair
    if reasoning and not adapter and is_adapter(reasoning):
        reasoning, adapter = None, reasoning
    if not instruct or bool(reasoning) == bool(adapter):
        raise MechdriftError("give the name of a pair, or instruct= together with either reasoning= or adapter=.")
    file = PairFile(
        name=f"{Path(instruct).name}--{Path(adapter or str(reasoning)).name}",
        instruct=instruct,
        reasoning=reasoning,
        adapter=adapter,
        null_model=null_model,
    )
    return _pair_of_file(file, said, revision, dtype, common)


def _pair_of_file(
    file: PairFile, said: Said, revision: str | Mapping[Side, str] | None, dtype: str, common: Mapping[str, Any]
) -> Pair:
    """The pair that a pair file describes. Settings given as arguments override those of the file."""
    revisions = revision if isinstance(revision, Mapping) else dict.fromkeys(SIDES, revision)
    revisions = {side: revisions.get(side) or file.revision.get(side) for side in SIDES}
    instruct, adapter = file.instruct, file.adapter
    parent = ModelSource(name=instruct, path=check_form(instruct), revision=revisions.get("instruct"), **common)
    if adapter:
        child = ModelSource(
            name=f"{instruct} + {adapter}",
            path=instruct,
            revision=revisions.get("instruct"),
            adapters=(adapter,),
            **common,
        )
    else:
        path = check_form(str(file.reasoning))
        child = ModelSource(name=path, path=path, revision=revisions.get("reasoning"), **common)
    pair = Pair(
        name=file.name,
        instruct=parent,
        reasoning=child,
        null_model=_null_source(parent, file.null_model) if file.null_model else None,
        dtype=dtype,
    )
    asked: dict[Side, dict[str, Any]] = {side: {**file.chat.get(side, {}), **said[side]} for side in SIDES}
    pair = _with_templates(pair, asked)
    pair = replace(pair, warnings=check_comparable(pair))
    pair = ask_as(pair, asked)
    if beside := pair.with_null_model():
        check_comparable(beside)
    return pair


def _with_templates(pair: Pair, said: Said) -> Pair:
    """The pair whose tokenizers are loaded with the chat templates that are named, before anything is rendered."""
    instruct, reasoning = (
        replace(source, chat=replace(source.chat, template=said[side].get("template")))
        for side, source in (("instruct", pair.instruct), ("reasoning", pair.reasoning))
    )
    return replace(pair, instruct=instruct, reasoning=reasoning)


def ask_as(pair: Pair, said: Said) -> Pair:
    """The pair with these settings, which are first checked against each side's template."""
    chats: dict[Side, ChatSettings] = {}
    headers: list[str] = []
    for side in SIDES:
        source, tokenizer = pair.source(side), pair.tokenizer(side)
        thinks = side == "reasoning" and pair.child_thinks
        chats[side] = settle(source.name, tokenizer, source.chat, said[side], thinks)
        with_settings(tokenizer, chats[side])
        headers += headless(source.name, tokenizer, chats[side])
    days = dated({pair.source(side).name: pair.tokenizer(side) for side in SIDES})
    return replace(
        pair,
        instruct=replace(pair.instruct, chat=chats["instruct"]),
        reasoning=replace(pair.reasoning, chat=chats["reasoning"]),
        null_model=pair.null_model and replace(pair.null_model, chat=chats["instruct"]),
        warnings=(*pair.warnings, *headers, *switched(chats), *days),
    )


def _null_source(parent: ModelSource, null_model: str) -> ModelSource:
    if is_adapter(null_model):
        return replace(parent, name=f"{parent.name} + {null_model}", adapters=(null_model,))
    return replace(parent, name=null_model, path=null_model, revision=None)


def _embedded(name: str, device: str | None) -> Pair:
    if name not in EMBEDDED_PAIRS:
        raise MechdriftError(
            f"unknown pair {name!r}: embedded pairs are {', '.join(EMBEDDED_PAIRS)}; for your own models give "
            "instruct= and reasoning= (on the command line --instruct and --reasoning)."
        )
    spec = EMBEDDED_PAIRS[name]
    instruct, reasoning = (_embedded_source(adapters, device) for adapters in (spec.instruct, spec.reasoning))
    null_model = None if name == NULL else _embedded_source(EMBEDDED_PAIRS[NULL].reasoning, device)
    return Pair(
        name=name,
        instruct=instruct,
        reasoning=reasoning,
        null_model=null_model,
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
    """The model that checkpoints were trained from: an embedded model by name, or a hub id or folder. `sha256` is the
    expected hash of an embedded model's adapter."""
    device = resolve_device(device)
    check_device(device)
    chains = {chain[-1]: chain for pair in EMBEDDED_PAIRS.values() for chain in (pair.instruct, pair.reasoning)}
    if name not in chains:
        return ModelSource(name=name, path=name, device=device)
    if sha256 and sha256 != ADAPTER_SHA256[name]:
        raise MechdriftError(
            f"the checkpoints were trained from another {name}: its adapter had SHA-256 {sha256[:12]}…, the embedded "
            f"one has {ADAPTER_SHA256[name][:12]}…; train them again."
        )
    return _embedded_source(chains[name], device)
