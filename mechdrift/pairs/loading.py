"""From a name to a model in memory: sources, adapters, dtypes, and the check that recorded states equal Hugging Face's
hidden states.

A `ModelSource` says where weights come from (a hub id or folder, a revision, LoRA adapters merged on top in order) and
loads nothing; a `LanguageModel` is the loaded model. Remote code never runs, and pickled weights are never read, unless
`trust_remote_code=True` is given. `guards` checks a folder before any library reads it.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mechdrift.errors import is_out_of_memory, reason, time_limit
from mechdrift.pairs.adapters import has_tokenizer, merge_adapter
from mechdrift.pairs.chat import AS_PUBLISHED, ChatSettings
from mechdrift.pairs.conventions import read_convention
from mechdrift.pairs.foreign_tokenizers import check_ends
from mechdrift.pairs.guards import (
    CONFIG_SECONDS,
    check_config,
    check_folder,
    check_index,
    check_pickles,
    published_file,
    refusal_of_pickles,
)
from mechdrift.pairs.hub import hub_or_cache
from mechdrift.pairs.layout import Layout
from mechdrift.pairs.precision import blocks
from mechdrift.pairs.structure import Structure, decoder_of, find_structure, prove_guess, verify, verify_layout
from mechdrift.pairs.templates import apply_template, chat_text, with_settings, with_template
from mechdrift.records import MechdriftError

GREETING = "Hello there, how are you today? Please answer in one sentence."
SPLIT = (
    "Why is 3,141 so?\n\nAnswer in  one line: it's 42, he'll say.\tÉté 東京 don't"  # what tokenizers split differently
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """Where one model comes from, and how it is asked.

    `path` is a hub id or a folder, "" for a caller's own object; `adapters` are merged into it, in order; `chat` holds
    its system message, template arguments and think markers; `layout` describes an architecture that TransformerLens
    does not know.
    """

    name: str
    path: str
    revision: str | None = None
    adapters: tuple[str, ...] = ()
    trust_remote_code: bool = False
    device: str | None = None
    device_map: str | None = None
    layout: Layout | None = None
    chat: ChatSettings = AS_PUBLISHED


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageModel:
    """A loaded model with its tokenizer and its structure. `max_surface_error`: see `structure.verify`."""

    source: ModelSource
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    structure: Structure
    max_surface_error: float

    @property
    def n_layers(self) -> int:
        return len(self.structure.blocks)

    @property
    def decoder(self) -> Any:
        """The model without its head; its output has a `last_hidden_state`."""
        return decoder_of(self.model)

    @property
    def device(self) -> torch.device:
        return self.model.device


def load_tokenizer(source: ModelSource) -> PreTrainedTokenizerBase:
    """The source's tokenizer, or that of its last adapter where the adapter has one. Raises where it has no working
    chat template, which every rendering needs."""
    tokenizer = _tokenizer_as_saved(source)
    if source.adapters and has_tokenizer(source.adapters[-1]):
        own = _tokenizer_as_saved(replace(source, path=source.adapters[-1], revision=None))
        own.chat_template = own.chat_template or tokenizer.chat_template
        tokenizer = own
    tokenizer = with_template(tokenizer, source.chat.template)
    check_tokenizer(source.name, tokenizer)
    return with_settings(tokenizer, source.chat)


def _tokenizer_as_saved(source: ModelSource) -> PreTrainedTokenizerBase:
    """The tokenizer of a hub id or folder, which splits a text as its tokenizer.json does.

    transformers 5 builds some tokenizers from the model's type instead. Where that splits a text in another way than
    the file, with which the model was trained, the file is used.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if os.path.isdir(source.path):
        check_folder(source.path)
    else:
        load_config(source)  # an id that does not exist raises here
    if (file := published_file(source.path, source.revision, "tokenizer.json")) is not None:
        check_ends(source.name, file)
    tokenizer = _from_hub(AutoTokenizer, source)
    if file is None or not tokenizer.is_fast:
        return tokenizer
    saved = Tokenizer.from_file(str(file))
    if saved.encode(SPLIT, add_special_tokens=False).ids == tokenizer.encode(SPLIT, add_special_tokens=False):
        return tokenizer
    return _from_hub(PreTrainedTokenizerFast, source)


def check_tokenizer(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise unless the tokenizer of the model `name` has a chat template that renders a user's message whole."""
    if not tokenizer.chat_template:
        raise MechdriftError(
            f"the tokenizer of {name} has no chat template: mechdrift audits chat models; pass a folder whose "
            "tokenizer_config.json or chat_template.jinja defines one."
        )
    try:
        rendered = apply_template(tokenizer, GREETING)
    except MechdriftError:  # the template does not end
        raise
    except Exception as error:  # a template is a program and may raise anything
        raise MechdriftError(
            f"the chat template of {name} cannot render a user's message ({reason(error)}): correct the template."
        ) from error
    if GREETING not in str(rendered):
        raise MechdriftError(
            f"the chat template of {name} cuts or changes the user's text: a message should stand in the "
            "prompt as it was written."
        )


def load_config(source: ModelSource) -> Any:
    from transformers import AutoConfig

    check_source(source)
    with time_limit(CONFIG_SECONDS, f"the config.json of {source.name}"):
        return _from_hub(AutoConfig, source)


def factory_of(name: str, config: Any) -> Any:
    """The transformers class that loads a model of this configuration: the one for text, or the multimodal one, whose
    text part is read, where no other exists. Raises where the model does not write text."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    if type(config) in AutoModelForCausalLM._model_mapping or hasattr(config, "auto_map"):
        return AutoModelForCausalLM
    if type(config) in AutoModelForImageTextToText._model_mapping:
        return AutoModelForImageTextToText
    raise MechdriftError(
        f"{name} is a {config.model_type} model, for which transformers has no class that writes text: give a causal "
        "language model, or a multimodal one with text as its output."
    )


def check_source(source: ModelSource) -> None:
    """Raise where `guards` finds a fault in a model's files, before a library builds a model from them."""
    from transformers import PreTrainedConfig

    check_pickles(source.name, source.path, source.trust_remote_code)
    try:
        with hub_or_cache():
            config, _ = PreTrainedConfig.get_config_dict(source.path, revision=source.revision)
    except Exception:  # noqa: BLE001 - loading the model names a file that is missing or cannot be read
        return
    check_config(source.name, config, source.trust_remote_code)


def load_model(source: ModelSource, dtype: str = "float32") -> LanguageModel:
    """Load weights, merge adapters in float32, cast, and verify that recorded states equal Hugging Face's (in float32
    only, where the comparison is exact)."""
    check_source(source)
    tokenizer = load_tokenizer(source)
    model = load_weights(source, getattr(torch, dtype))
    if source.device and not source.device_map:
        model = model.to(source.device)
    return prove(source, model.eval().requires_grad_(False), tokenizer, exact=dtype == "float32")


def load_weights(source: ModelSource, dtype: torch.dtype) -> PreTrainedModel:
    """The model of a source with its adapters merged, in float32, and then cast; needs no tokenizer."""
    merge = bool(source.adapters)
    model = _load_weights(source, torch.float32 if merge else dtype)
    for adapter in source.adapters:
        check_pickles(f"the adapter {adapter}", adapter, source.trust_remote_code)
        model = merge_adapter(model, adapter)
    return cast_weights(model, dtype) if merge else model


def prove(
    source: ModelSource, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, exact: bool = True
) -> LanguageModel:
    """The loaded model with its structure, which is verified on a greeting where `exact`."""
    model.generation_config = plain_generation_config(model)
    _count_key_heads(model)
    structure = find_structure(model, source.layout)
    _check_vocabulary(source, model, tokenizer)
    probe = chat_text(tokenizer, [{"role": "user", "content": "Hello"}], AS_PUBLISHED)
    with _reads(source, model):
        if exact and source.layout is not None:
            verify_layout(model, structure, source.layout, probe)
        elif exact and structure.layout is not None:
            structure = prove_guess(model, structure, structure.layout, probe)
        error = verify(model, structure, probe) if exact else float("nan")
    return LanguageModel(source=source, model=model, tokenizer=tokenizer, structure=structure, max_surface_error=error)


@contextmanager
def _reads(source: ModelSource, model: PreTrainedModel) -> Iterator[None]:
    """Inside, a model reads its first words. One whose configuration contradicts itself is built, and fails there."""
    try:
        yield
    except MechdriftError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, KeyError) as error:
        if is_out_of_memory(error):
            raise
        raise MechdriftError(
            f"{source.name} ({type(model).__name__}) cannot read a prompt ({reason(error)}): check the numbers in its "
            "config.json."
        ) from error


def _count_key_heads(model: PreTrainedModel) -> None:
    """Let attention that makes its keys from latents know that there are as many as queries.

    transformers repeats keys by the configuration's `num_key_value_heads`, which such attention does not use, so that a
    padded batch fails where a configuration names fewer.
    """
    for module in model.modules():
        up: Any = getattr(module, "kv_b_proj", None)
        if up is None or getattr(module, "num_key_value_groups", 1) == 1:
            continue
        attention: Any = module
        if attention.num_heads * (attention.qk_nope_head_dim + attention.v_head_dim) == up.weight.shape[0]:
            attention.num_key_value_groups = 1


def plain_generation_config(model: PreTrainedModel) -> Any:
    """Greedy decoding with a cache. Of the model's own saved settings, only its special tokens are kept.

    Penalties, beams, suppressed or forced tokens and cache kinds that a folder happens to ship would silently change
    what the model writes.
    """
    from transformers import GenerationConfig

    saved = model.generation_config
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return GenerationConfig(do_sample=False, use_cache=True, **{name: getattr(saved, name, None) for name in names})


def cast_weights(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """The model in `dtype`, as loading it in that dtype would give it: what the files hold is cast, and buffers that
    the model computes are not.

    `model.to(dtype)` would also round the rotary frequencies: in bfloat16, an error of up to 0.2 radians at position
    100.
    """
    stored = set(model.state_dict())
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if name in stored and tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)
    model.config.dtype = dtype
    return model


def _check_vocabulary(source: ModelSource, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise when the tokenizer writes ids that the model has no embedding for, as after adding think markers to it
    alone."""
    convention = read_convention(tokenizer)
    ids = tokenizer.encode(convention.opening + convention.closing + GREETING)
    rows = next(model.get_input_embeddings().parameters()).shape[0]
    if max(ids, default=0) >= rows:
        raise MechdriftError(
            f"the tokenizer of {source.name} writes token ids up to {max(ids)}, but the model has {rows} embeddings: "
            "resize the model's embeddings to its tokenizer and save it again."
        )


def _load_weights(source: ModelSource, dtype: torch.dtype) -> PreTrainedModel:
    """The model with every weight from its files. Raises where one is missing: transformers would fill it with random
    numbers."""
    if (index := published_file(source.path, source.revision, "model.safetensors.index.json")) is not None:
        check_index(index)
    placement = {"device_map": source.device_map} if source.device_map else {}
    if not source.trust_remote_code:
        placement |= {"use_safetensors": True}  # no pickled weights, from the hub either
    try:
        model, found = _from_hub(
            factory_of(source.name, load_config(source)),
            source,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **placement,
        )
    except MechdriftError as error:
        if "with `safetensors`" not in str(error.__cause__):
            raise
        raise MechdriftError(refusal_of_pickles(source.name, "no safetensors are there")) from error
    lacking = [*found["missing_keys"], *(key[0] for key in found["mismatched_keys"])]
    if lacking:
        raise MechdriftError(
            f"the weights of {source.name} do not fit its config.json: {len(lacking)} tensors are missing or of "
            f"another shape, such as {min(lacking)}."
        )
    return model


def _from_hub(factory: Any, source: ModelSource, **options: Any) -> Any:
    """`factory.from_pretrained`, with any failure of the hub turned into one sentence."""
    is_here = bool(source.path) and os.path.exists(source.path)  # raises nothing, even for a name no system allows
    if not is_here and (source.path.startswith((".", "/", "~")) or source.path.count("/") > 1):
        raise MechdriftError(f"there is no folder {source.path!r}: give a folder that exists, or a Hugging Face id.")
    check_folder(source.path)
    try:
        with nullcontext() if is_here else hub_or_cache():
            return factory.from_pretrained(
                source.path, revision=source.revision, trust_remote_code=source.trust_remote_code, **options
            )
    except Exception as error:
        advice = (
            "check its files" if is_here else "give a Hugging Face id or a folder, and check the network if it is an id"
        )
        raise MechdriftError(
            f"{source.path!r} could not be loaded as a {factory.__name__.removeprefix('Auto')} "
            f"({reason(error)}): {advice}."
        ) from error


def resolve_device(device: str | None) -> str:
    """The device of a name: `auto` (or none) is cuda, then mps, then the CPU."""
    if device not in (None, "auto"):
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def check_device(device: str | None) -> None:
    """Raise unless tensors can be put on `device`."""
    try:
        torch.zeros(1, device=device).sum().item()  # "meta" makes tensors, but holds no numbers
    except Exception as error:
        raise MechdriftError(f"the device {device!r} cannot be used here ({reason(error)}).") from error


def _sums(parameter: Tensor) -> tuple[float, float, float]:
    """The sum of a tensor, that of its absolute values, and a sum with a weight for each row and column, which almost
    any permutation changes; in float64."""
    if not parameter.numel():
        return 0.0, 0.0, 0.0
    total = size = 0.0
    placed, row = torch.zeros(()), 0
    for (rows,) in blocks(parameter.detach()):
        values = rows.double()
        total += values.sum().item()
        size += values.abs().sum().item()
        places = torch.arange(row, row + len(values), dtype=values.dtype, device=values.device)
        placed = placed.to(values) + torch.tensordot(torch.cos(places), values, dims=1)
        row += len(values)
    for axis in range(1, parameter.dim()):
        places = torch.arange(len(placed), dtype=placed.dtype, device=placed.device)
        placed = torch.tensordot(torch.cos(places * (1.0 + axis)), placed, dims=1)
    return total, size, placed.item()


def fingerprint(model: PreTrainedModel) -> str:
    """A short hash of all parameters, of their names, shapes and float64 sums: equal weights give equal hashes. One of
    the sums weighs each row by its place, so that permuted rows give another hash."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        if parameter.device.type == "meta":
            digest.update(f"{name} {tuple(parameter.shape)} offloaded".encode())
            continue
        sums = " ".join(f"{each:.9e}" for each in _sums(parameter))
        digest.update(f"{name} {tuple(parameter.shape)} {sums}".encode())
    return digest.hexdigest()[:16]
