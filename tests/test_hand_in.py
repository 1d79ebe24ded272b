"""What users hand in beside two plain folders, kind by kind: read exactly, compared as far as it goes, or refused.

Each test stands for a row of the documentation's table: what is handed in, the outcome, and in which words. Where
something is refused, the words are those of the sentence.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import CHATML, COMMON, make_model, make_tokenizer, save_model
from peft import (
    AdaptionPromptConfig,
    LoraConfig,
    OFTConfig,
    PromptTuningConfig,
    VBLoRAConfig,
    get_peft_model,
)
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    Gemma3ForCausalLM,
)

import mechdrift as md
from mechdrift.behaviour.divergence import answered_prompts
from mechdrift.pairs.comparable import shared_vocabulary
from mechdrift.pairs.lineage import audit_pair
from mechdrift.pairs.loading import ModelSource, load_tokenizer
from mechdrift.pairs.named import load_pair
from mechdrift.pairs.pair import Pair
from mechdrift.pairs.weight_change import layer_change, weight_change
from mechdrift.probes.sets import load_probes
from mechdrift.records import SIDES, Completion, Completions, MechdriftError

PAGE = Path(__file__).parents[1] / "docs" / "hand_in.md"
IDS = torch.tensor([[5, 9, 77, 30, 200, 3]])
KINDS: list[tuple[str, str, str]] = []
VISION = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION |= {"image_size": 28, "patch_size": 14}


def kind(what: str, outcome: str, words: str) -> Callable:
    """A row of the table; the test is given its words."""
    KINDS.append((what, outcome, words))

    def give(test: Callable) -> Callable:
        return pytest.mark.parametrize("words", [words], ids=[what[:40]])(test)

    return give


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "base")


def refused(words: str, **given: object) -> None:
    with pytest.raises(MechdriftError, match=re.escape(words)) as told:
        load_pair(**{name: str(value) for name, value in given.items()})
    assert "\n" not in str(told.value)


def logits(model) -> torch.Tensor:
    with torch.inference_mode():
        return model(IDS).logits


def save_lora(folder: Path, model, **options) -> Path:
    torch.manual_seed(1)
    settings = {"r": 2, "target_modules": ["q_proj"], "init_lora_weights": False, "task_type": "CAUSAL_LM"}
    get_peft_model(model, LoraConfig(**settings | options)).save_pretrained(folder)
    return folder


def answers_to(probes, ids=(50, 60)) -> Completions:
    row = {"side": "instruct", "think": "none", "thinking": "", "answer": "No.", "closed": True, "finished": True}
    rows = tuple(Completion(item_id=item.id, thinking_ids=(), answer_ids=ids, **row) for item in probes)
    return Completions(side="instruct", think="none", rows=rows)


# Files


@kind("a GGUF file", "refused", "is a GGUF file, made for llama.cpp")
def test_a_gguf_file(base, tmp_path, words):
    (tmp_path / "model-Q4.gguf").write_bytes(b"GGUF" + bytes(60))
    refused(words, instruct=base, reasoning=tmp_path / "model-Q4.gguf")
    refused(words, instruct=base, reasoning=tmp_path)


@kind("a folder of checkpoints", "refused", "is a folder of checkpoints")
def test_a_folder_of_checkpoints(base, tmp_path, words):
    shutil.copytree(base, tmp_path / "run" / "checkpoint-100")
    refused(words, instruct=base, reasoning=tmp_path / "run")


@kind("a model that writes no text (an encoder)", "refused", "for which transformers has no class that writes text")
def test_an_encoder(base, tmp_path, words):
    config = COMMON | {"model_type": "clip_text_model", "vocab_size": 258}
    (tmp_path / "config.json").write_text(json.dumps(config))
    make_tokenizer().save_pretrained(tmp_path)
    refused(words, instruct=base, reasoning=tmp_path)


@kind(
    "a tokenizer.json that transformers would rebuild in another way",
    "exact",
    "the file counts: ids are those that it gives",
)
def test_the_tokenizer_s_file_counts(tmp_path, words):
    folder = save_model(tmp_path / "qwen", "qwen2")
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"tokenizer_class": "LlamaTokenizerFast"}))
    expected = make_tokenizer().encode("It's  42.\n\nYes", add_special_tokens=False)
    found = load_tokenizer(ModelSource(name="x", path=str(folder)))
    assert found.encode("It's  42.\n\nYes", add_special_tokens=False) == expected


# Adapters


@kind("an adapter's folder as the reasoning model", "exact", "taken as `--adapter`")
def test_an_adapter_as_the_reasoning_model(base, tmp_path, words):
    adapter = str(save_lora(tmp_path / "lora", make_model()))
    given, expected = (load_pair(instruct=str(base), **{name: adapter}) for name in ("reasoning", "adapter"))
    assert given.reasoning == expected.reasoning


@kind("an adapter's folder as the instruct model", "refused", "is an adapter, not a model: give its base as instruct")
def test_an_adapter_as_the_instruct_model(base, tmp_path, words):
    refused(words, instruct=save_lora(tmp_path / "lora", make_model()), reasoning=base)


@kind("prompt tuning, prefix tuning", "refused", "changes no weights")
def test_an_adapter_that_learns_a_prompt(base, tmp_path, words):
    settings = PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")
    get_peft_model(make_model(), settings).save_pretrained(tmp_path / "prompt")
    refused(words, instruct=base, adapter=tmp_path / "prompt")


@kind("an adapter that repeats layers", "refused", "repeats layers (layer_replication)")
def test_an_adapter_that_repeats_layers(base, tmp_path, words):
    adapter = save_lora(tmp_path / "lora", make_model())
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"layer_replication": [[0, 2], [1, 4]]}))
    refused(words, instruct=base, adapter=adapter)


@kind("an adapter with a tokenizer of its own", "exact", "its tokenizer and template are the reasoning model's")
def test_an_adapter_s_own_tokenizer(base, tmp_path, words):
    adapter, opens = (
        save_lora(tmp_path / "lora", make_model()),
        CHATML.replace("assistant\n{% endif", "assistant\n<think>\n{% endif"),
    )
    make_tokenizer(opens).save_pretrained(adapter)
    pair = load_pair(instruct=str(base), adapter=str(adapter))
    assert pair.tokenizer("reasoning").chat_template == opens
    assert pair.tokenizer("instruct").chat_template == CHATML


@kind("an adapter with added tokens and their embeddings", "exact", "the base grows by them")
def test_an_adapter_with_added_tokens(base, tmp_path, words):
    grown = make_model()
    grown.resize_token_embeddings(260, mean_resizing=False)
    options = {"modules_to_save": ["embed_tokens", "lm_head"]}
    adapter = save_lora(tmp_path / "lora", grown, **options)
    tokenizer = make_tokenizer()
    tokenizer.add_tokens([AddedToken(word) for word in ("<think>", "</think>")])
    tokenizer.save_pretrained(adapter)
    pair = load_pair(instruct=str(base), adapter=str(adapter))
    merged = pair.open("reasoning").model
    assert merged.get_input_embeddings().weight.shape[0] == 260
    stored = load_file(adapter / "adapter_model.safetensors")
    torch.testing.assert_close(merged.lm_head.weight, stored["base_model.model.lm_head.weight"])
    assert "different sizes" in pair.warnings[0]
    md.collect(pair, load_probes("safety").sample(1), roles=("think_close[-1]",), layers=(0,))


def trained(folder: Path, settings, **changes) -> torch.Tensor:
    """Saves a base with tied or untied matrices and an adapter that was moved as training moves it. Returns the logits
    of the model as it was trained, adapter beside base: the oracle."""
    model = make_model(**changes)
    model.save_pretrained(folder / "base")
    make_tokenizer().save_pretrained(folder / "base")
    torch.manual_seed(1)
    adapted = get_peft_model(model, settings).eval()
    with torch.no_grad():
        for parameter in (p for p in adapted.parameters() if p.requires_grad):
            parameter.add_(0.1 * torch.randn_like(parameter))
    adapted.save_pretrained(folder / "adapter")
    return logits(adapted)


def merged(folder: Path) -> torch.Tensor:
    return logits(load_pair(instruct=str(folder / "base"), adapter=str(folder / "adapter")).open("reasoning").model)


@pytest.mark.parametrize("target", ["embed_tokens", "lm_head"])
@pytest.mark.parametrize("options", [{}, {"use_dora": True}, {"ensure_weight_tying": True}], ids=["", "dora", "both"])
@kind(
    "a LoRA on the embedding or the head of a model in which they share a matrix",
    "exact",
    "each is merged into a matrix of its own, as they were trained",
)
def test_an_adapter_on_tied_matrices(tmp_path, words, target, options):
    settings = LoraConfig(r=2, target_modules=["q_proj", target], **options)
    expected = trained(tmp_path, settings, tie_word_embeddings=True)
    torch.testing.assert_close(merged(tmp_path), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights="pissa"),
        LoraConfig(r=2, target_modules=["q_proj"], use_rslora=True, rank_pattern={"layers.1.self_attn.q_proj": 4}),
        LoraConfig(r=2, target_modules=["q_proj"], trainable_token_indices=[5, 9], layers_to_transform=[1, 3]),
        VBLoRAConfig(r=2, num_vectors=8, vector_length=8, topk=2, target_modules=["q_proj"]),
        OFTConfig(r=0, oft_block_size=8, target_modules=["q_proj"]),
    ],
    ids=["pissa", "rslora", "trained tokens", "vb-lora", "oft"],
)
@kind(
    "adapters of other kinds (DoRA, rsLoRA, PiSSA, OLoRA, trained tokens, experts, IA3, VeRA, VB-LoRA, OFT)",
    "exact",
    "merged in float32",
)
def test_adapters_of_other_kinds(tmp_path, words, settings):
    expected = trained(tmp_path, settings)
    torch.testing.assert_close(merged(tmp_path), expected, rtol=1e-4, atol=1e-4)


@kind(
    "an adapter whose initialisation changed its base by chance or by data (PiSSA by fast SVD, CorDA, LoRA-GA)",
    "refused",
    "so that they cannot be made again",
)
def test_an_adapter_whose_base_is_gone(tmp_path, words):
    trained(tmp_path, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights="pissa_niter_4"))
    refused(words, instruct=tmp_path / "base", adapter=tmp_path / "adapter")


@pytest.mark.parametrize(
    "settings",
    [
        LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", alora_invocation_tokens=[77]),
        LoraConfig(r=2, target_modules=["q_proj"], lora_bias=True),
        AdaptionPromptConfig(adapter_layers=2, adapter_len=3, task_type="CAUSAL_LM"),
    ],
    ids=["activated", "bias", "llama-adapter"],
)
@kind(
    "an adapter that no weights can stand for (activated LoRA, LLaMA-Adapter, a bias where the base has none)",
    "refused",
    "cannot be merged into the weights",
)
def test_an_adapter_that_cannot_be_merged(tmp_path, words, settings):
    trained(tmp_path, settings)
    with pytest.raises(MechdriftError, match=words) as told:
        merged(tmp_path)
    assert "\n" not in str(told.value)


# Multimodal checkpoints


def multimodal(folder: Path, seed: int = 0):
    """A small Gemma 3 with a vision tower, and its text configuration."""
    layers = ["sliding_attention", "full_attention"] * 2
    text = COMMON | {"vocab_size": 258, "eos_token_id": 0, "pad_token_id": 0, "head_dim": 8, "sliding_window": 16}
    config = CONFIG_MAPPING["gemma3"](text_config=text | {"layer_types": layers}, vision_config=VISION)
    config.mm_tokens_per_image, config.image_token_index = 4, 5
    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_config(config)
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return model, config


@kind(
    "a model that exists only with images (Ministral 3, Mistral Small 3.2, Qwen3-VL)",
    "exact",
    "its text part is asked, read and patched",
)
def test_a_multimodal_checkpoint(tmp_path, words):
    text = COMMON | {"vocab_size": 258, "eos_token_id": 0, "pad_token_id": 0, "model_type": "ministral3", "head_dim": 8}
    vision = VISION | {"model_type": "pixtral", "head_dim": 8}
    config = CONFIG_MAPPING["mistral3"](text_config=text, vision_config=vision, image_token_index=5)
    for seed, side in enumerate(SIDES):
        torch.manual_seed(seed)
        AutoModelForImageTextToText.from_config(config).save_pretrained(tmp_path / side)
        make_tokenizer().save_pretrained(tmp_path / side)
    pair = load_pair(**{side: str(tmp_path / side) for side in SIDES})
    probes = load_probes("safety").sample(1).where("trigger")
    grid = md.patch(pair, probes, donor="instruct", recipient="reasoning", layers=(3,), roles=("think_close",))
    assert grid.identity_error < 1e-3
    states = AutoModelForImageTextToText.from_pretrained(tmp_path / "instruct")
    torch.testing.assert_close(logits(pair.open("instruct").model), logits(states))


@kind("a multimodal parent and its text-only child", "exact", "weights are compared by their place in the decoder")
def test_a_multimodal_parent_and_a_text_child(tmp_path, words):
    wrapped, config = multimodal(tmp_path / "parent")
    child = Gemma3ForCausalLM(config.text_config)
    inner = {name.replace("model.language_model.", "model."): value for name, value in wrapped.state_dict().items()}
    child.load_state_dict(inner, strict=False)
    with torch.no_grad():
        child.model.layers[2].mlp.down_proj.weight.mul_(1.5)
    child.save_pretrained(tmp_path / "child")
    make_tokenizer().save_pretrained(tmp_path / "child")
    pair = load_pair(instruct=str(tmp_path / "parent"), reasoning=str(tmp_path / "child"))
    table = weight_change(pair)
    changed = table[table.change > 1e-6]
    assert [(row.layer, row.module) for row in changed.itertuples()] == [(2, "down_proj")]
    assert changed.change.item() == pytest.approx(0.5, abs=1e-5)
    assert set(layer_change(table).layer) == {-1, 0, 1, 2, 3}


@kind("a LoRA of the text model alone for a multimodal base", "exact", "applied to its text part")
def test_a_text_adapter_on_a_multimodal_base(tmp_path, words):
    wrapped, config = multimodal(tmp_path / "parent")
    adapter = save_lora(tmp_path / "lora", Gemma3ForCausalLM(config.text_config))
    merged = load_pair(instruct=str(tmp_path / "parent"), adapter=str(adapter)).open("reasoning").model
    stored = load_file(adapter / "adapter_model.safetensors")
    key = "base_model.model.model.layers.1.self_attn.q_proj.lora_{}.weight"
    moved = stored[key.format("B")] @ stored[key.format("A")] * (8 / 2)  # lora_alpha is 8
    before = wrapped.model.language_model.layers[1].self_attn.q_proj.weight
    torch.testing.assert_close(merged.model.language_model.layers[1].self_attn.q_proj.weight, before + moved)


# Vocabularies


@pytest.mark.parametrize("rows", [270, 300])
@kind(
    "embeddings padded, trimmed or grown",
    "falls back",
    "compared on the tokens that both have; a sentence says how many",
)
def test_vocabularies_of_different_sizes(base, tmp_path, words, rows):
    child = save_model(tmp_path / "child", seed=1, vocab_size=rows)
    pair = load_pair(instruct=str(base), reasoning=str(child))
    assert pair.warnings[0].endswith("they are compared on the 258 tokens that both have.")
    assert shared_vocabulary(pair) == 258
    probes = load_probes("safety").sample(1)
    table = md.kl_drift(pair, probes, answers_to(probes))
    # The oracle: Hugging Face's logits at the tokens that both have.
    prompt = answered_prompts(pair, probes, answers_to(probes))["reasoning"][0]
    start = prompt.roles["answer"][0] - 1
    with torch.inference_mode():
        ours, theirs = (
            AutoModelForCausalLM.from_pretrained(path)(torch.tensor([prompt.ids])).logits[0, start, :258].double()
            for path in (base, child)
        )
    p, q = ours.log_softmax(-1), theirs.log_softmax(-1)
    assert table.kl[0] == pytest.approx((p.exp() * (p - q)).sum().item(), rel=1e-4)


@kind(
    "ids that mean other tokens to the parent (R1's distillations of Qwen), or that it has no row for",
    "falls back",
    "each model reads its own template's prompts, and roles correspond",
)
def test_new_tokens_beyond_the_parent_s_rows(base, tmp_path, words):
    child = save_model(tmp_path / "child", seed=1, vocab_size=260)
    tokenizer = make_tokenizer()
    tokenizer.add_tokens([AddedToken(word) for word in ("<think>", "</think>")])  # ids 258 and 259
    tokenizer.save_pretrained(child)
    pair, probes = load_pair(instruct=str(base), reasoning=str(child)), load_probes("safety").sample(1)
    found = md.collect(pair, probes, roles=("user", "think_close[-1]"))
    assert torch.isfinite(found.instruct).all()
    assert any("each model reads its own template's prompts" in note for note in md.look(pair).notes)


# Heads

CAPPED = {"final_logit_softcapping": 0.5, "head_dim": 8, "query_pre_attn_scalar": 8}


@pytest.mark.parametrize(
    ("family", "changes"),
    [("granite", {"logits_scaling": 8.0}), ("cohere", {"logit_scale": 0.0625}), ("gemma2", CAPPED)],
)
@kind(
    "a model that scales or bounds its logits (Granite, Cohere, Gemma), or has a layer before its unembedding",
    "exact",
    "logits are made as its class makes them",
)
def test_logits_that_are_more_than_a_matrix(tmp_path, words, family, changes):
    config = CONFIG_MAPPING[family](**(COMMON | {"vocab_size": 258, "eos_token_id": 0, "pad_token_id": 0} | changes))
    for seed, side in enumerate(SIDES):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():
            parameter.data.mul_(4 if parameter.dim() > 1 else 1)
        model.save_pretrained(tmp_path / side)
        make_tokenizer().save_pretrained(tmp_path / side)
    pair, probes = load_pair(**{side: str(tmp_path / side) for side in SIDES}), load_probes("safety").sample(1)
    table = md.kl_drift(pair, probes, answers_to(probes))
    prompt = answered_prompts(pair, probes, answers_to(probes))["reasoning"][0]
    start = prompt.roles["answer"][0] - 1
    with torch.inference_mode():
        ours, theirs = (
            AutoModelForCausalLM.from_pretrained(tmp_path / side)(torch.tensor([prompt.ids])).logits[0, start].double()
            for side in SIDES
        )
    p, q = ours.log_softmax(-1), theirs.log_softmax(-1)
    assert table.kl[0] == pytest.approx((p.exp() * (p - q)).sum().item(), rel=1e-3)


# Lineage


@pytest.mark.parametrize(
    "change", [{"rms_norm_eps": 1e-3}, {"rope_parameters": {"rope_type": "default", "rope_theta": 3e5}}]
)
@kind(
    "equal shapes, other positions, windows or epsilons",
    "exact",
    "the audit names the settings that differ; grafted blocks run with the recipient's",
)
def test_configurations_that_compute_something_else(base, tmp_path, words, change):
    child = save_model(tmp_path / "child", **change)
    (told,) = [
        w for w in audit_pair(load_pair(instruct=str(base), reasoning=str(child)), ["Why?"]).warnings if "config" in w
    ]
    assert next(iter(change)) in told


@pytest.mark.parametrize(
    ("folder", "remembers", "stated", "is_cousin"),
    [
        ("Qwen2.5-3B-Instruct", "", "unsloth/qwen2.5-3b-instruct-unsloth-bnb-4bit", False),
        ("models--org--Parent-7B/snapshots/a1b2c3", "", "org/parent-7b", False),
        ("parent", "org/parent-7b", "mirror/Parent-7B-AWQ", False),
        ("parent", "", "org/parent-7b", False),
        ("parent", "org/other-7b", "org/parent-7b", True),
    ],
)
@kind(
    "a parent under another name (quantised copy, mirror, snapshot folder)",
    "exact",
    "no warning of cousins: names are compared without what says how weights are stored",
)
def test_a_parent_under_another_name(base, tmp_path, words, folder, remembers, stated, is_cousin):
    parent = Path(shutil.copytree(base, tmp_path / folder))
    config = json.loads((parent / "config.json").read_text()) | {"_name_or_path": remembers}
    (parent / "config.json").write_text(json.dumps(config))
    adapter = save_lora(tmp_path / "lora", make_model())
    settings = json.loads((adapter / "adapter_config.json").read_text()) | {"base_model_name_or_path": stated}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    pair = load_pair(instruct=str(parent), adapter=str(adapter))
    assert any("names" in w and "cousins" in w for w in audit_pair(pair, ["Why?"]).warnings) == is_cousin


@kind("models of another width or depth", "refused", "they cannot be compared layer by layer")
def test_another_depth(base, tmp_path, words):
    refused(words, instruct=base, reasoning=save_model(tmp_path / "child", num_hidden_layers=3))


@kind("a tokenizer without a chat template", "refused", "has no chat template: mechdrift audits chat models")
def test_no_chat_template(base, tmp_path, words):
    child = save_model(tmp_path / "child")
    make_tokenizer(None).save_pretrained(child)
    (child / "chat_template.jinja").unlink(missing_ok=True)
    refused(words, instruct=base, reasoning=child)


@kind("pickled weights", "refused", "which can hold programs: save them as safetensors")
def test_pickled_weights(base, tmp_path, words):
    child = Path(shutil.copytree(base, tmp_path / "child"))
    torch.save(load_file(child / "model.safetensors"), child / "pytorch_model.bin")
    (child / "model.safetensors").unlink()
    refused(words, instruct=base, reasoning=child)


def test_one_number_or_two_rows_changed_places_are_other_weights(base, tmp_path):
    pair = load_pair(instruct=str(base), reasoning=str(base))
    tensors = load_file(base / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    tensors[name] = tensors[name].flip(0).contiguous()
    child = Path(shutil.copytree(base, tmp_path / "child"))
    save_file(tensors, child / "model.safetensors", metadata={"format": "pt"})
    permuted = Pair(name="x", instruct=pair.instruct, reasoning=ModelSource(name="child", path=str(child)))
    prints = audit_pair(permuted, ["Why?"]).fingerprints
    assert prints["instruct"] != prints["reasoning"]


def table() -> str:
    rows = ["| What you hand in | Outcome | In which words |", "|---|---|---|"]
    for what, outcome, words in KINDS:
        said = f'"… {words} …"' if outcome == "refused" else words
        rows.append(f"| {what} | {outcome} | {said} |")
    return "\n".join(rows) + "\n"


def test_the_documentation_s_table_is_this_one():
    found = re.search(r"<!-- kinds -->\n(.*?)<!-- end -->", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    assert found[1] == table(), "write what test_hand_in.table() gives into docs/hand_in.md"
