"""A caller's own models: what `load_pair` computes from their saved folders, and nothing on them that was not there."""

import copy

import pytest
import torch
from conftest import make_model, make_tokenizer, save_model
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from test_capture import make_probes
from torch import nn
from transformers import AutoModelForCausalLM

import mechdrift as md
from mechdrift.activations.recording import record_roles
from mechdrift.audits.config import PRESETS, Size
from mechdrift.pairs.lineage import audit_pair
from mechdrift.pairs.loading import fingerprint
from mechdrift.probes.rendering import Renderer

PROBES = make_probes(2)
BOTH = {"donor": "instruct", "recipient": "reasoning"}
SOME = {"layers": (0, 2), "roles": ("template_tail[-1]", "think_close[-1]")}
FEW = md.Budget(think=2, answer=2)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("own")
    return save_model(root / "parent"), save_model(root / "child", seed=1)


@pytest.fixture(scope="module")
def saved(folders) -> tuple[md.Pair, dict[str, torch.Tensor]]:
    """The oracle: the same models, loaded from their folders."""
    pair = md.load_pair(instruct=str(folders[0]), reasoning=str(folders[1]))
    return pair, results(pair)


def load(folder, dtype=torch.float32):
    """As a training script leaves it: in training mode, with gradients, and with a hook of its own."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).train()
    model.model.layers[1].register_forward_hook(lambda module, args, output: None)
    return model


def with_adapter(model, seed: int = 0, **settings):
    torch.manual_seed(seed)
    settings = {
        "r": 2,
        "lora_alpha": 4,
        "target_modules": ["q_proj", "down_proj"],
        "init_lora_weights": False,
    } | settings
    return get_peft_model(model, LoraConfig(**settings))


def state(model: nn.Module) -> dict:
    """All that a caller could find changed on a model."""
    return {
        "tensors": {
            name: (id(value), value.detach().clone()) for name, value in model.state_dict(keep_vars=True).items()
        },
        "flags": {name: (p.requires_grad, p.device, p.dtype, p.grad) for name, p in model.named_parameters()},
        "modules": {
            name: (id(module), module.training, list(module._forward_hooks), list(module._forward_pre_hooks))
            for name, module in model.named_modules()
        },
        "config": copy.deepcopy(model.config.to_dict()),
    }


def assert_untouched(model: nn.Module, before: dict) -> None:
    now = state(model)
    assert [now[part] == before[part] for part in ("flags", "modules", "config")] == [True] * 3
    assert now["tensors"].keys() == before["tensors"].keys()
    for name, (own, values) in before["tensors"].items():
        assert now["tensors"][name][0] == own
        assert torch.equal(now["tensors"][name][1], values), name


def results(pair: md.Pair, dtype: str = "float32") -> dict[str, torch.Tensor]:
    """Numbers of every stage that touches a model."""
    answers = {side: md.generate(pair, PROBES, side, budget=FEW, dtype=dtype) for side in ("instruct", "reasoning")}
    acts = md.collect(pair, PROBES, roles=SOME["roles"])
    return {
        "instruct": acts.instruct,
        "reasoning": acts.reasoning,
        "ids": torch.tensor([row.answer_ids[:1] or (0,) for side in answers.values() for row in side]),
        "patch": torch.from_numpy(md.patch(pair, PROBES, **BOTH, **SOME).effect),
        "graft": torch.from_numpy(md.graft(pair, PROBES, layers=(0, 2), modules=("layer", "attn"), **BOTH).effect),
        "attribute": torch.from_numpy(md.attribute(pair, PROBES, **BOTH, **SOME).effect),
        "kl": torch.tensor(md.kl_drift(pair, PROBES, answers["instruct"]).kl.to_numpy()),
    }


def assert_same(ours: dict, theirs: dict, **tolerance) -> None:
    for name, expected in theirs.items():
        torch.testing.assert_close(
            ours[name], expected, equal_nan=True, msg=lambda m, name=name: f"{name}: {m}", **tolerance
        )


EXACT = {"rtol": 0, "atol": 0}


def test_loaded_models_give_what_their_folders_give_and_are_left_as_they_were(folders, saved):
    models = [load(folder) for folder in folders]
    before = [state(model) for model in models]
    own = md.Pair.from_models(*models, make_tokenizer(), route="SFT")
    assert_same(results(own), saved[1], **EXACT)
    assert (own.name, own.route, own.warnings) == ("parent--child", "SFT", ())
    ours, theirs = (audit_pair(pair, ["Hello"]) for pair in (own, saved[0]))
    assert (ours.fingerprints, ours.facts) == (theirs.fingerprints, theirs.facts)
    assert ours.frame.equals(theirs.frame)
    own.close()
    for model, was in zip(models, before, strict=True):
        assert_untouched(model, was)
    assert own.open("instruct") is own.open("instruct", "bfloat16")  # whatever a stage asks for, and after `close`


def test_parameters_lie_in_the_caller_s_memory(folders):
    model = load(folders[0])
    pair = md.Pair.from_models(model, model, make_tokenizer())
    ours = dict(pair.open("instruct").model.named_parameters())
    assert all(ours[name].data_ptr() == theirs.data_ptr() for name, theirs in model.named_parameters())
    with torch.no_grad():
        model.model.norm.weight.mul_(2)  # a training step between two measurements is seen
    assert torch.equal(ours["model.norm.weight"], model.model.norm.weight)


def test_one_object_may_be_given_twice(folders):
    model = load(folders[0])
    pair = md.Pair.from_models(model, model, make_tokenizer(), name="twins")
    acts = md.collect(pair, PROBES)
    assert torch.equal(acts.instruct, acts.reasoning)
    assert md.kl_drift(pair, PROBES, md.generate(pair, PROBES, "instruct", budget=FEW)).kl.abs().max() < 1e-6
    assert not md.graft(pair, PROBES, **BOTH).effect.any()


def test_a_peft_model_and_the_model_inside_it_are_child_and_parent(folders, tmp_path):
    """peft writes its layers into the model that it is given; the parent is that model without them."""
    base = load(folders[0])
    adapted = with_adapter(base)
    adapted.save_pretrained(tmp_path / "lora")
    before = state(adapted)
    own = md.Pair.from_models(base, adapted, make_tokenizer())
    saved = md.load_pair(instruct=str(folders[0]), adapter=str(tmp_path / "lora"))
    ours = results(own)
    assert_same(ours, results(saved), **EXACT)
    assert not torch.equal(ours["instruct"], ours["reasoning"])
    assert fingerprint(own.open("instruct").model) == fingerprint(saved.open("instruct").model)
    assert_untouched(adapted, before)


def test_a_peft_model_whose_adapters_are_off_is_its_base(folders):
    base = load(folders[0])
    adapted = with_adapter(copy.deepcopy(base))
    with adapted.disable_adapter():
        own = md.Pair.from_models(base, adapted, make_tokenizer())
    assert fingerprint(own.open("reasoning").model) == fingerprint(own.open("instruct").model)


def test_a_parent_that_peft_has_changed_is_refused(folders):
    """PiSSA takes the first singular vectors out of the weights that it is put on."""
    child = get_peft_model(load(folders[0]), LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights="pissa"))
    with pytest.raises(md.MechdriftError, match=r"no longer the parent: load the parent once more"):
        md.Pair.from_models(child.get_base_model(), child, make_tokenizer())
    md.Pair.from_models(load(folders[0]), child, make_tokenizer())


def test_the_parent_has_none_of_the_modules_that_were_trained_with_an_adapter(folders):
    """peft's `unload` leaves trained copies (`modules_to_save`) in the place of the base's modules."""
    base = load(folders[0])
    adapted = with_adapter(base, modules_to_save=["lm_head"])
    with torch.no_grad():
        base.lm_head.modules_to_save["default"].weight.mul_(2)
    before = state(adapted)
    own = md.Pair.from_models(base, adapted, make_tokenizer())
    assert torch.equal(own.open("instruct").model.lm_head.weight, base.lm_head.original_module.weight)
    assert torch.equal(own.open("reasoning").model.lm_head.weight, base.lm_head.modules_to_save["default"].weight)
    assert_untouched(adapted, before)


def test_an_adapter_on_bfloat16_weights_is_added_in_float32(folders):
    base = load(folders[0], torch.bfloat16)
    adapted = with_adapter(base)
    own = md.Pair.from_models(base, adapted, make_tokenizer()).open("reasoning").model
    for layer in range(4):
        lora = base.model.layers[layer].self_attn.q_proj
        change = 4 / 2 * lora.lora_B["default"].weight.float() @ lora.lora_A["default"].weight.float()
        merged = own.model.layers[layer].self_attn.q_proj.weight
        assert torch.equal(merged, (lora.base_layer.weight.float() + change).to(torch.bfloat16))


def test_merged_adapters_and_learned_prompts_and_loose_layers_are_refused(folders):
    base, tokenizer = load(folders[0]), make_tokenizer()
    adapted = with_adapter(base)
    with pytest.raises(md.MechdriftError, match="holds adapter layers without the peft model around it"):
        md.Pair.from_models(load(folders[0]), base, tokenizer)
    adapted.merge_adapter()
    with pytest.raises(md.MechdriftError, match="unmerge_adapter"):
        md.Pair.from_models(base, adapted, tokenizer)
    prompt = get_peft_model(load(folders[0]), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    with pytest.raises(md.MechdriftError, match="learns a prompt"):
        md.Pair.from_models(load(folders[0]), prompt, tokenizer)


@pytest.fixture(scope="module")
def bridges(folders, tmp_path_factory):
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import AutoTokenizer

    return [
        TransformerBridge.boot_transformers(
            str(folder), hf_model=load(folder), tokenizer=AutoTokenizer.from_pretrained(folder), device="cpu"
        )
        for folder in folders
    ]


def test_a_bridge_gives_what_its_hugging_face_model_gives_and_is_left_as_it_was(bridges, saved):
    before = [state(bridge.original_model) for bridge in bridges]
    own = md.Pair.from_models(*bridges, make_tokenizer())
    assert_same(results(own), saved[1], rtol=0, atol=2e-4)  # the bridge has set attention to eager
    for bridge, was in zip(bridges, before, strict=True):
        assert_untouched(bridge.original_model, was)
    assert not any("Bridge" in type(module).__name__ for module in own.open("instruct").model.modules())


def test_a_bridge_with_folded_weights_is_refused(bridges, monkeypatch):
    monkeypatch.setattr(bridges[0], "compatibility_mode", True)
    with pytest.raises(md.MechdriftError, match="compatibility mode"):
        md.Pair.from_models(bridges[0], bridges[1], make_tokenizer())


def test_bfloat16_is_used_as_it_is_and_said(folders):
    models = [load(folder, torch.bfloat16) for folder in folders]
    before = [state(model) for model in models]
    pair = md.Pair.from_models(*models, make_tokenizer())
    assert [
        f"the {side} model is used as it was given, in bfloat16" in said
        for side, said in zip(("instruct", "reasoning"), pair.warnings, strict=True)
    ] == [True, True]
    found = results(pair)
    assert all(values.isfinite().any() for values in found.values())
    renderer = Renderer(make_tokenizer())
    prompt = renderer.render("x", "Hello", "off")
    ours = record_roles(pair.open("instruct"), [prompt], "resid_pre", (0, 2), ("template_tail[-1]",)).roles[0, :, 0]
    with torch.no_grad():
        states = (
            load(folders[0], torch.bfloat16).eval()(torch.tensor([prompt.ids]), output_hidden_states=True).hidden_states
        )
    end = prompt.roles["template_tail"][1] - 1
    expected = torch.stack([states[layer][0, end].float() for layer in (0, 2)])
    torch.testing.assert_close(ours, expected, rtol=0, atol=0.02)
    for model, was in zip(models, before, strict=True):
        assert_untouched(model, was)


def test_one_model_in_float32_and_one_in_bfloat16_are_a_pair(folders):
    pair = md.Pair.from_models(load(folders[0]), load(folders[1], torch.bfloat16), make_tokenizer())
    assert all(values.isfinite().any() for values in results(pair).values())
    assert list(pair.number_formats.values()) == ["float32", "bfloat16"]


def test_what_is_no_pair_of_models_is_refused_in_one_sentence(folders):
    model, tokenizer = load(folders[0]), make_tokenizer()
    for other, given, message in (
        (nn.Linear(2, 2), tokenizer, "a Linear is not a model that can be read here"),
        ("parent", tokenizer, "a str is not a model"),
        (make_model(num_hidden_layers=2), tokenizer, "differ in number of layers"),
        (make_model().to("meta"), tokenizer, "on the device 'meta', which holds no numbers"),
        (model, make_tokenizer(template=None), "no chat template"),
    ):
        with pytest.raises(md.MechdriftError, match=message):
            md.Pair.from_models(model, other, given)


def test_an_audit_of_own_models_goes_on_only_with_the_same_weights(folders, tmp_path, monkeypatch):
    size = Size(
        pairs=4, variants=2, tasks=3, patched=2, kl=2, thinking=4, steered=0, layer_step=3, grafts=False, budget=FEW
    )
    monkeypatch.setitem(PRESETS, "quick", size)
    models = [load(folder, torch.bfloat16) for folder in folders]
    pair = md.Pair.from_models(*models, make_tokenizer(), name="mine")
    config = md.Audit(preset="quick", dimensions=("safety",), out=tmp_path / "run")
    run = md.audit(config, pair=pair)
    manifest = run.manifest
    assert manifest["dtypes"] == {"generation": "bfloat16", "analysis": "bfloat16", "device": "cpu"}
    assert manifest["identity"]["pair"] == "mine"
    assert manifest["identity"]["weights"] == manifest["pair"]["fingerprints"]
    assert any("as it was given, in bfloat16" in said for said in manifest["pair"]["warnings"])
    assert len(run.table("scores"))
    assert md.audit(config, pair=pair).manifest == manifest  # everything was there
    other = md.Pair.from_models(models[0], models[0], make_tokenizer(), name="mine")
    with pytest.raises(md.MechdriftError, match="holds another run"):
        md.audit(config, pair=other)
    with pytest.raises(md.MechdriftError, match="either pair= or models"):
        md.audit(md.Audit(instruct="a", reasoning="b"), pair=pair)
