"""Sites are where they say they are: compared with Hugging Face's hidden states, with the TransformerLens bridge, and
with algebra."""

from dataclasses import replace

import pytest
import torch
from conftest import COMMON, FAMILIES, make_model, make_tokenizer
from torch.testing import assert_close
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteMoeHybridConfig,
    GraniteMoeHybridForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    XLNetConfig,
    XLNetLMHeadModel,
)

from mechdrift.hooks import record
from mechdrift.pairs.loading import ModelSource, prove
from mechdrift.pairs.structure import SITES, find_structure, verify
from mechdrift.records import MechdriftError

IDS = tuple(range(40, 80))  # longer than the sliding windows
LAYERS = 4
EVERY_FAMILY = pytest.mark.parametrize("family", FAMILIES)


def sites_of(family: str) -> list[str]:
    """A GPT-NeoX block runs attention and MLP side by side: there is no residual stream between them."""
    return [site for site in SITES if (family, site) != ("gpt_neox", "resid_mid")]


def make(family: str, **changes):
    # conftest's two key-value heads mean nothing to GPT-NeoX, but the bridge would believe the config.
    model = make_model(family, **({"num_key_value_heads": 4} if family == "gpt_neox" else {}) | changes)
    return model, find_structure(model)


@torch.no_grad()
def record_sites(model, structure, sites) -> dict:
    points = {(site, layer): structure.hook_point(site, layer) for site in sites for layer in range(LAYERS)}
    with record(points) as seen:
        model(torch.tensor([IDS]), use_cache=False)
    return seen


def is_one_sentence(error: pytest.ExceptionInfo) -> bool:
    text = str(error.value)
    return text.endswith(".") and "\n" not in text and len(text) < 300


@EVERY_FAMILY
def test_block_inputs_and_outputs_are_hugging_faces_hidden_states(family):
    model, structure = make(family)
    seen = record_sites(model, structure, ("resid_pre", "resid_post"))
    with torch.no_grad():
        expected = model(torch.tensor([IDS]), output_hidden_states=True, use_cache=False).hidden_states
        for layer in range(LAYERS):
            assert_close(seen["resid_pre", layer], expected[layer], rtol=0, atol=0)
        for layer in range(LAYERS - 1):
            assert_close(seen["resid_post", layer], expected[layer + 1], rtol=0, atol=0)
        # Hugging Face gives the last hidden state after the final norm.
        assert_close(structure.final_norm(seen["resid_post", LAYERS - 1]), expected[LAYERS], rtol=0, atol=0)


@EVERY_FAMILY
def test_the_residual_stream_is_the_sum_of_its_parts(family):
    model, structure = make(family)
    seen = record_sites(model, structure, sites_of(family))
    for layer in range(LAYERS):
        pre, attention, mlp, post = (seen[site, layer] for site in ("resid_pre", "attn_out", "mlp_out", "resid_post"))
        assert_close(post, pre + attention + mlp, rtol=0, atol=1e-4)
        if family != "gpt_neox":
            assert_close(seen["resid_mid", layer], pre + attention, rtol=0, atol=1e-4)


@EVERY_FAMILY
def test_every_site_is_what_the_transformer_lens_bridge_records(family, tmp_path):
    from transformer_lens.model_bridge import TransformerBridge

    model, structure = make(family)
    seen = record_sites(model, structure, sites_of(family))  # before the bridge takes the model over, and with SDPA
    model.save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    bridge = TransformerBridge.boot_transformers(str(tmp_path), hf_model=model, tokenizer=tokenizer, device="cpu")
    with torch.no_grad():
        _, cache = bridge.run_with_cache(torch.tensor([IDS]))
    for (site, layer), ours in seen.items():
        theirs = cache[f"blocks.{layer}.attn.hook_z" if site == "z" else f"blocks.{layer}.hook_{site}"]
        assert_close(
            ours, theirs.reshape(ours.shape), rtol=0, atol=1e-4, msg=lambda text, at=(site, layer): f"{at}: {text}"
        )


@EVERY_FAMILY
def test_a_right_map_passes_verification_and_a_wrong_one_does_not(family):
    model, structure = make(family)
    assert verify(model, structure, IDS) <= 1e-5
    with pytest.raises(MechdriftError, match="differ from Hugging Face's hidden states") as error:
        verify(model, replace(structure, blocks=structure.blocks[::-1]), IDS)
    assert is_one_sentence(error)
    with pytest.raises(MechdriftError, match="differ from Hugging Face's hidden states"):
        verify(model, replace(structure, final_norm=torch.nn.Identity()), IDS)


def test_damaged_weights_are_not_blamed_on_the_architecture():
    """They are named by layer and role when they are recorded; the map is right all the same."""
    model, structure = make("llama")
    model.model.layers[2].mlp.down_proj.weight.data[0, 0] = float("nan")
    assert verify(model, structure, IDS) == 0
    with pytest.raises(
        MechdriftError, match="differ from Hugging Face's hidden states"
    ):  # but NaN in only one of the two is no agreement
        verify(model, replace(structure, blocks=structure.blocks[::-1]), IDS)


@pytest.mark.parametrize(
    ("family", "size"), [("mamba", {"state_size": 8}), ("rwkv", {"attention_hidden_size": 32})], ids=["mamba", "rwkv"]
)
def test_a_model_without_attention_is_told_what_it_takes(family, size):
    """Its map is right, and its hidden states are those of the layers after."""
    config = CONFIG_MAPPING[family](vocab_size=258, hidden_size=32, num_hidden_layers=3, **size)
    model = AutoModelForCausalLM.from_config(config).eval()
    structure = find_structure(model)
    with pytest.raises(MechdriftError, match=r"begin after its first block.* needs a decoder-only") as error:
        verify(model, structure, IDS)
    assert is_one_sentence(error)


def test_structure_knows_heads_width_and_unembedding():
    model, structure = make("qwen3")
    assert (structure.n_heads, structure.d_model, len(structure.blocks)) == (4, 32, LAYERS)
    assert structure.unembed is model.lm_head


@pytest.mark.parametrize(
    ("family", "site", "says"),
    [
        ("llama", "residual", "unknown site"),
        ("llama", "attn.q", "unknown site"),
        ("llama", "", "unknown site"),
        ("llama", "router.hook_out", "no component 'router'"),
        ("gpt_neox", "resid_mid", "has no 'resid_mid'"),
        ("phi3", "attn.q.hook_out", "no module of its own for 'q'"),
    ],
)
def test_sites_that_do_not_exist_are_refused_in_one_sentence(family, site, says):
    _, structure = make(family)
    with pytest.raises(MechdriftError, match=says) as error:
        structure.hook_point(site, 0)
    assert is_one_sentence(error)


def test_a_hybrid_has_the_sites_that_the_bridge_names_and_says_why_others_are_missing():
    config = GraniteMoeHybridConfig(
        vocab_size=258, hidden_size=32, intermediate_size=32, shared_intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, num_local_experts=0, layer_types=["mamba", "attention"],
        mamba_n_heads=4, mamba_d_head=16, mamba_d_state=8, mamba_n_groups=1, mamba_chunk_size=16, mamba_expand=2,
    )  # fmt: skip
    model = GraniteMoeHybridForCausalLM(config).eval()
    structure = find_structure(model)
    ids = torch.tensor([IDS])
    with torch.no_grad():
        hidden = model(ids, output_hidden_states=True).hidden_states
        for layer in (0, 1):
            points = {site: structure.hook_point(site, layer) for site in ("resid_pre", "resid_mid", "resid_post")}
            with record(points) as kept:
                model(ids)
            assert_close(kept["resid_pre"], hidden[layer])
            if layer == 0:
                assert_close(kept["resid_post"], hidden[1])
            with pytest.raises(MechdriftError, match=r"scaled before it is added; use .*shared_mlp\.hook_out"):
                structure.hook_point("mlp_out", layer)
            assert structure.hook_point("shared_mlp.hook_out", layer)
    assert structure.hook_point("z", 1)
    with pytest.raises(MechdriftError, match="layer 0 has no module of its own for 'attn'"):
        structure.hook_point("z", 0)


@pytest.mark.parametrize(("family", "has_parts"), [("helium", True), ("minimax", False)])
def test_a_class_that_the_bridge_does_not_know_is_proved_at_the_common_paths(family, has_parts):
    """Helium adds attention and MLP as they are; MiniMax norms what it adds them to, so that neither is a part."""
    changes = {"layer_types": ["full_attention"] * 4, "num_local_experts": 2, "num_experts_per_tok": 1}
    changes = {} if has_parts else changes
    config = CONFIG_MAPPING[family](**(COMMON | {"vocab_size": 258, "head_dim": 8, "eos_token_id": 0} | changes))
    model, tokenizer = AutoModelForCausalLM.from_config(config).eval(), make_tokenizer()
    loaded = prove(ModelSource(name="own", path=""), model, tokenizer)
    with torch.no_grad():
        hidden = model(torch.tensor([IDS]), output_hidden_states=True).hidden_states
        with record({2: loaded.structure.hook_point("resid_pre", 2)}) as kept:
            model(torch.tensor([IDS]))
    assert_close(kept[2], hidden[2])
    if has_parts:
        assert loaded.structure.hook_point("attn_out", 1).module is model.model.layers[1].self_attn
    else:
        with pytest.raises(MechdriftError, match="no component"):
            loaded.structure.hook_point("attn_out", 1)


def test_a_model_that_cannot_read_its_first_words_is_one_sentence():
    """A configuration that contradicts itself, as with eight experts a token of four, is built, and fails in use."""
    model = make_model("llama")
    model.model.layers[1].self_attn.register_forward_pre_hook(lambda *_: torch.zeros(2) + torch.zeros(3))
    with pytest.raises(MechdriftError, match=r"LlamaForCausalLM\) cannot read a prompt .*: check the numbers") as error:
        prove(ModelSource(name="own", path=""), model, make_tokenizer())
    assert is_one_sentence(error)


@pytest.mark.parametrize("layer", [-1, LAYERS])
def test_layers_that_do_not_exist_are_refused_in_one_sentence(layer):
    _, structure = make("llama")
    with pytest.raises(MechdriftError, match="layers 0 to 3") as error:
        structure.hook_point("resid_pre", layer)
    assert is_one_sentence(error)


def test_component_paths_name_their_own_modules():
    model, structure = make("llama")
    assert structure.hook_point("attn.q.hook_out", 1).module is model.model.layers[1].self_attn.q_proj
    assert structure.hook_point("mlp.hook_in", 2).module is model.model.layers[2].mlp
    assert structure.hook_point("z", 3) == structure.hook_point("attn.o.hook_in", 3)


def test_the_layout_comes_from_the_models_class_also_for_a_family_without_rotary_blocks():
    model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=80)).eval()
    assert verify(model, find_structure(model), IDS) <= 1e-5


@pytest.mark.parametrize(
    "make_foreign",
    [
        lambda: T5ForConditionalGeneration(
            T5Config(d_model=16, d_ff=16, num_layers=1, num_heads=2, d_kv=8, vocab_size=50)
        ),
        lambda: XLNetLMHeadModel(XLNetConfig(d_model=16, n_layer=1, n_head=2, d_inner=16, vocab_size=50)),
    ],
    ids=["encoder-decoder", "unknown to TransformerLens"],
)
def test_models_without_a_decoder_layout_are_refused_in_one_sentence(make_foreign):
    with pytest.raises(MechdriftError, match="TransformerLens") as error:
        find_structure(make_foreign())
    assert is_one_sentence(error)
