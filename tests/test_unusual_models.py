"""Configurations that few published models have, against the same weights in a usual one, or against Hugging Face."""

import copy
import json
import shutil

import pytest
import torch
from conftest import FAMILIES, make_model, make_tokenizer, save_model
from peft import LoraConfig, get_peft_model
from test_capture import make_probes

import mechdrift as md

PROBES = make_probes(3)
BOTH = {"donor": "instruct", "recipient": "reasoning"}
LATENT = {"kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8}
EXPERTS = {"first_k_dense_replace": 1, "n_routed_experts": 4, "n_group": 1, "topk_group": 1, "num_experts_per_tok": 2}


@pytest.mark.parametrize("family", ["deepseek_v2", "deepseek_v3"])
def test_latent_attention_has_as_many_keys_as_queries_whatever_its_configuration_says(family, tmp_path, monkeypatch):
    """The number of key-value heads is not used to make keys from latents; transformers repeats them by it all the
    same where a batch is padded. The oracle: the same weights with as many key-value heads as heads."""
    monkeypatch.setitem(FAMILIES, family, {})
    settings = {"num_key_value_heads": 4, "moe_intermediate_size": 16, **LATENT, **EXPERTS}
    found = []
    for heads in (4, 1):
        folders = [tmp_path / f"{heads}" / name for name in ("parent", "child")]
        for seed, folder in enumerate(folders):
            if heads == 4:
                save_model(folder, family, seed, **settings)
                continue
            shutil.copytree(tmp_path / "4" / folder.name, folder)
            config = json.loads((folder / "config.json").read_text())
            (folder / "config.json").write_text(json.dumps(config | {"num_key_value_heads": heads}))
        pair = md.load_pair(instruct=str(folders[0]), reasoning=str(folders[1]))
        answers = md.generate(pair, PROBES, "reasoning", budget=md.Budget(think=3, answer=3), dtype="float32")
        acts = md.collect(pair, PROBES)
        found.append((acts.instruct, acts.reasoning, [(row.thinking, row.answer) for row in answers]))
    usual, unusual = found
    assert torch.equal(usual[0], unusual[0])
    assert torch.equal(usual[1], unusual[1])
    assert usual[2] == unusual[2]


@pytest.mark.parametrize("targets", [["q_proj", "embed_tokens"], ["q_proj", "lm_head"]])
def test_a_callers_adapters_that_are_tied_to_each_other(targets):
    """The oracle: what the peft model itself computes. It is left as it was."""
    parent = make_model("qwen2", tie_word_embeddings=True)
    settings = {"r": 2, "lora_alpha": 4, "init_lora_weights": False, "task_type": "CAUSAL_LM"}
    torch.manual_seed(1)
    config = LoraConfig(target_modules=targets, ensure_weight_tying=True, **settings)
    child = get_peft_model(copy.deepcopy(parent), config).eval()
    ids = torch.tensor([[1, 5, 3, 40, 7, 9, 3]])
    with torch.no_grad():
        expected = child(ids).logits
        pair = md.Pair.from_models(parent, child, make_tokenizer())
        torch.testing.assert_close(pair.open("reasoning").model(ids).logits, expected, atol=1e-3, rtol=1e-4)
        assert torch.equal(child(ids).logits, expected)
    md.collect(pair, PROBES)
