"""Are the two models parent and child? This is checked before anything else is compared.

A reasoning model is compared with the instruct model it was trained from. Many published "pairs" are cousins:
DeepSeek-R1's distilled Llama-8B was trained from the Llama *base*, so its difference from Llama-Instruct mixes two
fine-tunings. `audit_pair` compares architecture, sizes, vocabulary and special tokens, chat templates, whether
both tokenise the probes alike, the relative weight change per layer `‖W_child − W_parent‖ / ‖W_parent‖`, and the parent
that the child's card names. Every warning goes into every figure.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mechdrift.pairs.adapters import load_adapter_config
from mechdrift.pairs.conventions import read_convention
from mechdrift.pairs.guards import published_file
from mechdrift.pairs.loading import LanguageModel, ModelSource, fingerprint
from mechdrift.pairs.pair import Pair
from mechdrift.pairs.precision import squared_norms
from mechdrift.pairs.switches import options_of
from mechdrift.pairs.templates import apply_template
from mechdrift.pairs.weight_change import layer_change, weight_change
from mechdrift.records import SIDES, MechdriftError, Side

# DeepSeek-R1's README names base models, not instruct models, as the parents of these.
KNOWN_COUSINS = re.compile(r"DeepSeek-R1-Distill-(Llama-8B|Qwen-(1\.5B|7B|14B|32B))", re.IGNORECASE)
# The (first) base model in a card's front matter, given as a word or as a list.
BASE_MODEL = re.compile(r"---\n(?:(?!---).*\n)*?base_model:[ \t]*(?:\n\s*-\s*)?['\"]?([\w./-]+)")
TIED = "the embedding"
# Suffixes of a model's name that say that its weights are a quantised or converted copy.
QUANTISED = re.compile(r"(?:-(?:unsloth|bnb|gptq|awq|fp8|fp16|bf16|gguf|hf|mlx|int[48]|[48]-?bits?|w\d+a\d+))+$")
SNAPSHOT = re.compile(r"models--[^/]+--([^/]+)/snapshots/")  # a folder of the hub's cache
# Settings of config.json that do not change what the weights compute on a prompt that fits into the context.
BOOKKEEPING = re.compile(
    r"_.*|architectures|auto_map|.*dtype|transformers_version|vocab_size|.*_token_ids?|use_cache|max_position_embeddings|"
    r"tie_word_embeddings|initializer_range|.*dropout.*|return_dict|output_.*|id2label|label2id|problem_type|model_type|"
    r"pretraining_tp|chunk_size_feed_forward|is_encoder_decoder|name_or_path|quantization_config|mlp_bias|attention_bias"
)
LARGE_CHANGE = 0.3  # relative change of a layer's weights
REPAIR_NOTE = "repair.json"  # in the folder of an adapter that is a repair (`repairs.files`)
CONFIG_FIELDS = (
    "model_type",
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
    "tie_word_embeddings",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairAudit:
    """What `audit_pair` found.

    `frame` has the relative weight change per layer and module (`weight_change` lists its columns); `facts` the
    architecture, sizes and settings of each side; `same_tokens` the share of prompts that both sides tokenise alike;
    `surface_error` the largest difference between recorded states and Hugging Face's (`structure.verify`).
    """

    facts: dict[str, dict[str, Any]]
    templates: dict[str, str]
    same_tokens: float
    stated_parent: str | None
    frame: pd.DataFrame
    fingerprints: dict[str, str]
    surface_error: dict[str, float]
    warnings: tuple[str, ...]


def audit_pair(
    pair: Pair,
    prompts: Sequence[str],
    folder: Path | None = None,
    also: Callable[[Side, LanguageModel], None] = lambda *_: None,
) -> PairAudit:
    """Compare the two sides of `pair`; `prompts` are tokenised by both tokenizers through their chat templates.

    The models are loaded one after the other, and `also` is called with each. The instruct model's weights are
    written to `folder`, by default the system's temporary one, tensor by tensor, and compared there.
    """
    facts = {side: _facts(pair, side) for side in SIDES}
    templates = {side: str(pair.tokenizer(side).chat_template) for side in SIDES}
    same = _same_tokens(pair, prompts)
    parent = stated_parent(pair.reasoning)
    prints: dict[str, str] = {}
    surface: dict[str, float] = {}

    def look(side: Side, loaded: LanguageModel) -> None:
        prints[side], surface[side] = fingerprint(loaded.model), loaded.max_surface_error
        facts[side] |= {"output_matrix": _output_matrix(loaded), "parameters": loaded.model.num_parameters()}
        also(side, loaded)

    change = weight_change(pair, folder, look)
    warnings = _warnings(pair, facts, same, parent, change, prints)
    return PairAudit(
        facts=facts,
        templates=templates,
        same_tokens=same,
        stated_parent=parent,
        frame=change,
        fingerprints=prints,
        surface_error=surface,
        warnings=warnings,
    )


def _facts(pair: Pair, side: Side) -> dict[str, Any]:
    config = pair.config(side).get_text_config()
    tokenizer = pair.tokenizer(side)
    facts = {field: getattr(config, field, None) for field in CONFIG_FIELDS}
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    facts |= {"tokenizer_size": len(tokenizer), "special_tokens": special}
    return facts | {"thinking": str(read_convention(tokenizer)), "asked": str(pair.source(side).chat)}


def _output_matrix(loaded: LanguageModel) -> str:
    """Whether the unembedding is tied to the embedding; where it is a separate matrix of the same shape, their
    relative distance."""
    embedding, output = loaded.model.get_input_embeddings(), loaded.model.get_output_embeddings()
    one, other = (getattr(module, "weight", None) for module in (embedding, output))
    if one is None or other is None or one.shape != other.shape or one.device.type == "meta":
        return "its own"
    if one.data_ptr() == other.data_ptr():
        return TIED
    squared, norm = squared_norms(other.detach(), one.detach())
    return f"its own, {(squared / max(norm, 1e-30)) ** 0.5:.1%} of the norm away from the embedding"


def _same_tokens(pair: Pair, prompts: Sequence[str]) -> float:
    """Share of prompts that both sides render to the same token ids, with their thinking switched off."""
    settings = {}
    for side in SIDES:
        chat, switch = pair.source(side).chat, read_convention(pair.tokenizer(side)).switch
        settings[side] = chat, options_of(chat, switch, False)
    try:
        rendered = [
            [apply_template(pair.tokenizer(side), prompt, chat, tokenize=True, **options) for prompt in prompts]
            for side, (chat, options) in settings.items()
        ]
    except Exception as error:  # a template is a program and may raise anything
        raise MechdriftError(
            f"a chat template of the pair {pair.name} cannot render one of the prompts ({error!r:.120}): correct it."
        ) from error
    return sum(a == b for a, b in zip(*rendered, strict=True)) / max(1, len(prompts))


def stated_parent(source: ModelSource) -> str | None:
    """The `base_model` that a model card's front matter or an adapter's config names, if it can be read here."""
    if source.adapters:
        if (Path(source.adapters[-1]) / REPAIR_NOTE).is_file():  # a repair names the child that it was made for
            return None
        return load_adapter_config(source.adapters[-1]).base_model_name_or_path or None
    if not source.path:  # a caller's own object
        return None
    card = published_file(source.path, source.revision, "README.md")
    if card is None:
        return None
    found = BASE_MODEL.match(card.read_text(encoding="utf-8", errors="replace"))
    return found[1] if found else None


def _warnings(
    pair: Pair, facts: dict, same: float, parent: str | None, change: pd.DataFrame, prints: dict[str, str]
) -> tuple[str, ...]:
    found = [*pair.warnings, *_family_warnings(pair, facts, parent), *_weight_warnings(change)]
    if prints["instruct"] == prints["reasoning"]:
        found.append("the two models have the same weights.")
    if same < 1:
        found.append(
            f"the two tokenizers render {1 - same:.0%} of the probes differently; the reasoning model's ids are "
            "used for both."
        )
    outputs = {side: facts[side]["output_matrix"] for side in SIDES}
    if TIED in outputs.values() and len(set(outputs.values())) > 1:
        shown = " and ".join(f"that of {pair.source(side).name} is {output}" for side, output in outputs.items())
        found.append(
            f"the output matrices differ in kind: {shown}. GGUF files quantise the embedding and its copy for the "
            "output separately: the models may differ by that alone."
        )
    if facts["instruct"]["special_tokens"] != facts["reasoning"]["special_tokens"]:
        found.append("the two tokenizers differ in their special tokens.")
    return tuple(found)


def _family_warnings(pair: Pair, facts: dict, parent: str | None) -> Iterator[str]:
    """What the names, the card and the configurations say against parent and child."""
    if KNOWN_COUSINS.search(pair.reasoning.name):
        yield (
            f"cousins: {pair.reasoning.name} was distilled from a base model, not from {pair.instruct.name}; "
            "differences mix two fine-tunings."
        )
    elif parent and not _is_named(parent, pair):
        yield f"cousins? the card of {pair.reasoning.name} names {parent} as its parent, not {pair.instruct.name}."
    kinds = [facts[side]["model_type"] for side in SIDES]
    if kinds[0] != kinds[1]:
        yield f"cousins? the architectures differ: {kinds[0]} and {kinds[1]}."
    elif differing := config_differences(pair):
        shown = "; ".join(f"{name}: {ours} and {theirs}" for name, (ours, theirs) in differing.items())
        yield (
            f"the configurations differ in settings that change what the same weights compute ({shown:.300}): a "
            "difference may come from them, and grafted blocks run with the recipient's settings."
        )


def _weight_warnings(change: pd.DataFrame) -> Iterator[str]:
    """What the weights say against parent and child."""
    if not (change.layer >= 0).any():
        yield "no weights of the two models' blocks correspond: how far they moved is not known."
    worst = layer_change(change).change.max()
    if worst > LARGE_CHANGE:
        yield (
            f"cousins? a layer's weights differ by {worst:.0%} of their norm, more than fine-tuning usually moves them."
        )


def config_differences(pair: Pair) -> dict[str, tuple[Any, Any]]:
    """The settings in which the two configurations differ and which change what the weights compute: positions,
    windows, epsilons, activations. Bookkeeping and the length of the context are left out."""
    ours, theirs = (pair.config(side).get_text_config().to_dict() for side in SIDES)
    names = sorted(name for name in {*ours, *theirs} if not BOOKKEEPING.fullmatch(name))
    return {name: (ours.get(name), theirs.get(name)) for name in names if ours.get(name) != theirs.get(name)}


def _is_named(stated: str, pair: Pair) -> bool:
    """Whether the parent that a card or an adapter states is the given instruct model, judged by names: its own, that
    of a quantised copy, a mirror or a snapshot's folder, or the one that its config.json holds.

    Where an adapter is given for a local folder whose config.json holds no name, the folder is taken as its parent.
    """
    source = pair.instruct
    given = {source.name, source.path, *SNAPSHOT.findall(source.path), remembered := _remembered(source.path)} - {""}
    if pair.reasoning.adapters and Path(source.path).is_dir() and not remembered and not SNAPSHOT.search(source.path):
        return True
    return _short(stated) in map(_short, given)


def _remembered(path: str) -> str:
    """The name from which a saved model was loaded before it was saved; empty where its config.json holds none."""
    file = Path(path) / "config.json"
    name = json.loads(file.read_text(encoding="utf-8")).get("_name_or_path", "") if file.is_file() else ""
    return str(name or "")


def _short(name: str) -> str:
    """The last part of a name, without what only says how the weights are stored."""
    return QUANTISED.sub("", Path(name).name.lower())
