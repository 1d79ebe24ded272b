"""An architecture described by hand: the sites that TransformerLens names, a class that it does not know, and what is
wrong with a path."""

import json
import re

import pytest
import torch
from conftest import make_model, make_tokenizer, save_model
from test_capture import make_probes
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

import mechdrift as md
from mechdrift.pairs.layout import read_layout
from mechdrift.pairs.structure import MODULES, SITES, find_structure

LLAMA = md.Layout(
    blocks="model.layers",
    norm="model.norm",
    head="lm_head",
    embed="model.embed_tokens",
    attn="self_attn",
    mlp="mlp",
    attn_norm="input_layernorm",
    mlp_norm="post_attention_layernorm",
    q="q_proj",
    k="k_proj",
    v="v_proj",
    o="o_proj",
    gate="gate_proj",
    up="up_proj",
    down="down_proj",
)
STREAM = {"blocks": "decoder.steps", "norm": "decoder.last", "attn": "mixer", "mlp": "ffn", "mlp_norm": "before_ffn"}


def test_a_layout_of_llama_names_the_modules_that_transformer_lens_names():
    model = make_model()
    ours, theirs = find_structure(model, LLAMA), find_structure(model)
    for layer in range(4):
        for site in (*SITES, "attn.q.hook_out", "mlp.hook_in", "mlp.out.hook_in"):
            assert ours.hook_point(site, layer) == theirs.hook_point(site, layer), site
        for module in MODULES:
            assert ours.parameters(layer, module).keys() == theirs.parameters(layer, module).keys(), module
    assert (ours.final_norm, ours.unembed, ours.n_heads, ours.d_model) == (
        theirs.final_norm,
        theirs.unembed,
        theirs.n_heads,
        theirs.d_model,
    )


class StreamConfig(PreTrainedConfig):
    model_type = "mechdrift-stream"

    def __init__(self, vocab_size=258, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, scale=1.0, **rest):
        self.vocab_size, self.hidden_size, self.num_hidden_layers = vocab_size, hidden_size, num_hidden_layers
        self.num_attention_heads, self.scale = num_attention_heads, scale
        super().__init__(**rest)


class Mixer(nn.Module):
    def __init__(self, config, index: int):
        super().__init__()
        self.heads, self.index = config.num_attention_heads, index
        self.into, self.out = (
            nn.Linear(config.hidden_size, 3 * config.hidden_size),
            nn.Linear(*2 * [config.hidden_size]),
        )

    def forward(self, hidden, mask, past):
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.into(hidden).chunk(3, dim=-1))
        if past is not None:
            k, v = past.update(k, v, self.index)
        mixed = nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None and q.shape[2] > 1
        )
        return self.out(mixed.transpose(1, 2).flatten(2))


class Step(nn.Module):
    def __init__(self, config, index: int):
        super().__init__()
        self.scale, width = config.scale, config.hidden_size
        self.before_mixer, self.before_ffn = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mixer, self.ffn = (
            Mixer(config, index),
            nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, width)),
        )

    def forward(self, hidden_states, mask=None, past=None):
        hidden_states = hidden_states + self.scale * self.mixer(self.before_mixer(hidden_states), mask, past)
        return hidden_states + self.scale * self.ffn(self.before_ffn(hidden_states))


class StreamModel(PreTrainedModel):
    config_class = StreamConfig
    base_model_prefix = "decoder"
    _supports_sdpa = True

    def __init__(self, config):
        super().__init__(config)
        self.words = nn.Embedding(config.vocab_size, config.hidden_size)
        self.steps = nn.ModuleList(Step(config, index) for index in range(config.num_hidden_layers))
        self.last = nn.LayerNorm(config.hidden_size)
        self.post_init()

    def get_input_embeddings(self):
        return self.words

    def forward(
        self, input_ids, attention_mask=None, position_ids=None, past_key_values=None, use_cache=None,
        output_hidden_states=False, **_,
    ):  # fmt: skip
        hidden = self.words(input_ids)
        mask = create_causal_mask(self.config, hidden, attention_mask, past_key_values, position_ids)
        states = [hidden]
        for step in self.steps:
            hidden = step(hidden, mask=mask, past=past_key_values)
            states.append(hidden)
        states[-1] = hidden = self.last(hidden)
        return BaseModelOutputWithPast(
            last_hidden_state=hidden,
            past_key_values=past_key_values,
            hidden_states=tuple(states) if output_hidden_states else None,
        )


class StreamForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = StreamConfig
    base_model_prefix = "decoder"
    _supports_sdpa = True

    def __init__(self, config):
        super().__init__(config)
        self.decoder, self.head = StreamModel(config), nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self):
        return self.decoder.words

    def get_output_embeddings(self):
        return self.head

    def forward(self, input_ids, logits_to_keep=0, **arguments):
        out = self.decoder(input_ids, **arguments)
        kept = slice(-logits_to_keep, None) if logits_to_keep else slice(None)
        return CausalLMOutputWithPast(
            logits=self.head(out.last_hidden_state[:, kept]),
            past_key_values=out.past_key_values,
            hidden_states=out.hidden_states,
        )


def make_stream(seed: int = 0, **changes) -> StreamForCausalLM:
    torch.manual_seed(seed)
    model = StreamForCausalLM(StreamConfig(**({"eos_token_id": 0} | changes))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8)
    return model


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    AutoConfig.register("mechdrift-stream", StreamConfig, exist_ok=True)
    AutoModelForCausalLM.register(StreamConfig, StreamForCausalLM, exist_ok=True)
    root = tmp_path_factory.mktemp("stream")
    for seed, name in enumerate(("parent", "child")):
        make_stream(seed).save_pretrained(root / name)
        make_tokenizer().save_pretrained(root / name)
    return str(root / "parent"), str(root / "child")


def test_a_class_that_transformer_lens_does_not_know_is_read_through_its_layout(folders, tmp_path):
    file = tmp_path / "stream.toml"
    file.write_text("".join(f'{name} = "{path}"\n' for name, path in STREAM.items()), encoding="utf-8")
    parent, child = folders
    with pytest.raises(
        md.MechdriftError, match="does not know StreamForCausalLM: say where its modules are with layout="
    ):
        md.load_pair(instruct=parent, reasoning=child).open("instruct")
    pair, probes = md.load_pair(instruct=parent, reasoning=child, layout=file), make_probes(2)
    both = {"donor": "instruct", "recipient": "reasoning"}
    answers = md.generate(pair, probes, "instruct", budget=md.Budget(think=2, answer=2), dtype="float32")
    assert len(md.kl_drift(pair, probes, answers))
    for site in ("resid_pre", "resid_mid", "attn_out", "mlp_out"):
        assert md.collect(pair, probes, site=site).instruct.isfinite().all()
    grid = md.patch(pair, probes, layers=(0, 2), **both)
    slow = md.patch(pair, probes, layers=(0, 2), engine="forward", **both)
    torch.testing.assert_close(grid.effect, slow.effect, rtol=0, atol=1e-4)
    assert md.graft(pair, probes, modules=("attn", "mlp"), layers=(1,), **both).effect.any()
    own = md.Pair.from_models(make_stream(0), make_stream(1), make_tokenizer(), layout=md.Layout(**STREAM))
    torch.testing.assert_close(md.collect(own, probes).reasoning, md.collect(pair, probes).reasoning, rtol=0, atol=0)


def layout(**changes) -> md.Layout:
    return md.Layout(**(STREAM | changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"blocks": "decoder.layers"},
            "blocks='decoder.layers' is not a module of StreamForCausalLM: decoder has words, steps",
        ),
        ({"norm": "norm"}, "norm='norm' is not a module of StreamForCausalLM: it has decoder, head"),
        (
            {"attn": "attention"},
            "attn='attention' is not a module of block 0: it has before_mixer, before_ffn, mixer, ffn",
        ),
        ({"o": "o_proj"}, "o='o_proj' is not a module of block 0: mixer has into, out"),
        ({"blocks": "decoder.last", "norm": "decoder.last"}, "is a LayerNorm: give the path of the blocks' list"),
        ({"attn": "ffn"}, "attn='ffn' and mlp='ffn' do not add up"),
        ({"attn": "before_mixer"}, "do not add up to what the block adds"),
        ({"norm": "decoder.words"}, "is not what the layout's norm='decoder.words' gives"),
        ({"norm": "decoder.steps.0.before_ffn"}, "is not what the layout's norm='decoder.steps.0.before_ffn' gives"),
        ({"head": "decoder.last"}, "does not turn the last hidden state of StreamForCausalLM into its logits"),
    ],
)
def test_a_wrong_path_ends_in_one_sentence_that_names_it(changes, said):
    with pytest.raises(md.MechdriftError, match=re.escape(said)):
        md.Pair.from_models(make_stream(), make_stream(1), make_tokenizer(), layout=layout(**changes))


def test_a_block_that_scales_what_it_writes_says_so():
    models = [make_stream(seed, scale=0.5) for seed in (0, 1)]
    with pytest.raises(md.MechdriftError, match="sums = false"):
        md.Pair.from_models(*models, make_tokenizer(), layout=layout())
    pair = md.Pair.from_models(*models, make_tokenizer(), layout=layout(sums=False))
    assert pair.open("instruct").n_layers == 3


def test_a_layout_file_is_toml_or_json_and_its_faults_are_named(tmp_path):
    file = tmp_path / "layout.json"
    file.write_text(json.dumps(STREAM | {"sums": False, "n_heads": 2}), encoding="utf-8")
    assert read_layout(file) == layout(sums=False, n_heads=2)
    for text, said in (
        ("{", "neither TOML nor JSON"),
        ("[]", "should give blocks and norm"),
        (json.dumps({"blocks": "x"}), "should give blocks and norm"),
        (json.dumps(STREAM | {"heads": 3}), "may give attn"),
        (json.dumps(STREAM | {"norm": 3}), "norm = 3: it should be a str"),
        (json.dumps({"blocks": "x", "norm": "y", "o": "z"}), "o, which is a path from attn"),
    ):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(md.MechdriftError, match=said):
            read_layout(file)
    with pytest.raises(md.MechdriftError, match="cannot be read"):
        read_layout(tmp_path / "none.toml")


def test_a_layout_replaces_transformer_lens_on_a_known_class_too(tmp_path):
    folder = str(save_model(tmp_path / "x"))
    pair = md.load_pair(instruct=folder, reasoning=folder, layout=LLAMA)
    assert pair.open("instruct").structure.components["blocks"].name == "model.layers"
