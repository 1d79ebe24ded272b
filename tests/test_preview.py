"""`audit --dry-run` says what the audit then asks, in as many tokens, and what does not fit; it loads no weights."""

import re
from pathlib import Path

import pytest
import torch
from conftest import save_model
from transformers import AutoModelForCausalLM, MambaConfig

from mechdrift.audits import preview as module
from mechdrift.audits.config import FIXED_FAMILIES, PRESETS, Audit
from mechdrift.audits.preview import preview
from mechdrift.pairs.loading import ModelSource, load_tokenizer
from mechdrift.probes.rendering import Renderer
from mechdrift.probes.sets import load_probes


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("folders")
    save_model(root / "parent")
    save_model(root / "child", seed=1)
    return root


def config(folders: Path, **changes) -> Audit:
    settings = {"preset": "quick", "dimensions": ("ethics",), "think": 40, "answer": 20, "generation_dtype": "bfloat16"}
    settings |= {"until_decided": False}
    own = {"instruct": str(folders / "parent"), "reasoning": str(folders / "child")}
    return Audit(**own, device="cpu", **settings | changes)


def test_counts_are_those_of_the_questions(folders, monkeypatch):
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", None)  # no weights
    seen = preview(config(folders))
    size, side = PRESETS["quick"], seen.sides["instruct"]
    assert seen.dimensions == {"ethics": (size.pairs, size.pairs)}  # a family each
    assert seen.beside["tasks"] == size.tasks
    assert side.questions == 2 * size.pairs + sum(seen.beside.values())
    fixed = load_probes("ethics").first_families(FIXED_FAMILIES)
    renderer = Renderer(load_tokenizer(ModelSource(name="parent", path=str(folders / "parent"))))
    asked = [renderer.render("", item.prompt, "none").ids for item in fixed.sample(size.pairs)]
    assert max(map(len, asked)) <= side.longest
    assert sum(map(len, asked)) < side.prompt_tokens
    assert (side.think, side.answer, side.written) == (0, 20, side.questions * 20)
    thinks = seen.sides["reasoning"]
    assert (thinks.think, thinks.answer, thinks.written) == (40, 20, thinks.questions * 60)


def test_memory_is_that_of_the_model(folders):
    side = preview(config(folders)).sides["reasoning"]
    model = AutoModelForCausalLM.from_pretrained(folders / "child")
    count = sum(parameter.numel() for parameter in model.parameters())
    assert (side.parameters, side.analysis, side.generation) == (count, 4 * count, 2 * count)
    cache = model(torch.zeros(1, 10, dtype=torch.long), use_cache=True).past_key_values
    numbers = sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers)
    assert side.cache == numbers / 10 * 1000 * 2  # bytes of bfloat16


def test_what_does_not_fit_is_said(folders, monkeypatch):
    assert preview(config(folders)).too_large == ()
    told = preview(config(folders, answer=5000)).too_large
    assert len(told) == 2
    assert re.search(r"of the instruct model are 5,\d\d\d tokens, and its context has 512: lower --think", told[0])
    monkeypatch.setattr(module, "free_memory", lambda _: 1000)
    told = preview(config(folders)).too_large
    assert len(told) == 2
    assert re.fullmatch(r"the weights of the instruct model take 0\.0 GB, and 0\.0 GB are free on cpu: .*", told[0])


def test_a_pilot_bounds_nothing(folders):
    seen = preview(config(folders, think=None, answer=None))
    assert "pilot" in seen.stages
    assert seen.sides["reasoning"].written is None
    assert "thinking auto, answer auto; writes as much as a pilot measures" in seen.text


def test_of_an_audit_in_waves_all_that_it_may_ask_and_its_power_are_told(folders):
    seen = preview(config(folders, until_decided=True))
    assert seen.dimensions == {"ethics": (48, 48)}  # one pair a family
    assert "waves" in seen.stages
    assert re.search(r"found in 80% of audits are falls of \d\d points in ethics \(48 families of 1\)", seen.text)


def test_a_model_without_attention_heads_has_no_keys_and_values():
    assert module._cache_of(MambaConfig(), 2) is None
