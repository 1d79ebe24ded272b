"""`audit --dry-run` says what the audit then asks, in as many tokens, and what does not fit, before it loads weights;
then how long each stage takes, from what it times on this machine."""

import re
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import save_model
from scripted import Scripted
from transformers import AutoModelForCausalLM, MambaConfig

from mechdrift.audits import calibration
from mechdrift.audits import preview as module
from mechdrift.audits.calibration import Clock, expected, lengths_of, within
from mechdrift.audits.config import FIXED_FAMILIES, PRESETS, Audit
from mechdrift.audits.estimate import are_here, print_dry_run
from mechdrift.audits.preview import planned, preview
from mechdrift.audits.stages.order import stages_of
from mechdrift.audits.stages.pilot import question_groups
from mechdrift.audits.work import Lengths, Work, proportions, work_of
from mechdrift.behaviour.pilot import choose
from mechdrift.behaviour.sampling import Budget
from mechdrift.pairs.loading import ModelSource, load_tokenizer
from mechdrift.probes.rendering import Renderer
from mechdrift.probes.sets import load_probes
from mechdrift.records import Completion, Completions


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


def test_every_stage_has_a_time_and_a_peak(folders, capsys):
    asked = config(folders, dimensions=("ethics", "bias"), generation_dtype="float32")
    print_dry_run(asked)
    told = capsys.readouterr().out
    for stage in stages_of(asked):
        assert re.search(rf"^  {stage.name} +\d+\.\d (min|h) +\d+\.\d GB$", told, re.MULTILINE), told
    assert re.search(r"^  in all ", told, re.MULTILINE)
    assert re.search(
        r"^the reasoning model: [\d,]+ tokens/s written, [\d,]+ read; \d+ tokens in a mean thought", told, re.MULTILINE
    )


def test_no_weights_are_fetched_for_an_estimate(folders, capsys, tmp_path):
    pair, _ = planned(config(folders))
    assert are_here(pair)
    for side in ("parent", "child"):
        shutil.copytree(folders / side, tmp_path / side, ignore=shutil.ignore_patterns("*.safetensors"))
    print_dry_run(config(tmp_path))
    assert "The time is not estimated: the weights are not on this machine yet." in capsys.readouterr().out


def test_a_mean_length_is_that_of_a_constant_chance_to_end():
    assert expected([(10, True), (30, True)], 96) == (20.0, True)
    assert expected([(96, False), (96, False)], 96) == (96.0, False)
    assert expected([], 96) == (0.0, True)
    chance = torch.distributions.Geometric(1 / 40)  # lengths beyond 30 are seen cut at 30; the budget is 60
    torch.manual_seed(0)
    whole = chance.sample((4000,)) + 1
    seen = [(int(length), True) if length <= 30 else (30, False) for length in whole]
    assert expected(seen, 60)[0] == pytest.approx(float(whole.clamp(max=60).mean()), rel=0.03)


def test_where_no_thought_ended_the_room_counts_and_the_answers_behind_are_read():
    ids = {"thinking_ids": (1,) * 9, "answer_ids": (1,) * 5, "thinking": "", "answer": ""}
    rows = [
        Completion(item_id=str(n), side="reasoning", think="own", closed=False, finished=True, **ids) for n in range(3)
    ]
    cut = Completions(side="reasoning", think="own", rows=tuple(rows))
    lengths, note = lengths_of(cut, Budget(think=12, answer=20), 50.0)
    assert lengths == Lengths(prompt=50.0, think=12.0, answer=5.0)
    assert note.startswith("no thought ended")


@pytest.mark.parametrize("longer", [30.0, 0.0])
def test_thoughts_that_are_longer_than_the_calibration_are_waited_for_half_a_minute(folders, monkeypatch, longer):
    """A model that always thinks for 200 tokens, on a machine that writes `LEAST` tokens in the time there is. Where
    nothing is waited for, all that its context of 512 leaves beside the longest prompt and the answer is told."""
    pair, plan = planned(config(folders, think="auto"))
    script = partial(Scripted, rule=lambda *_: "Yes.", thought="x" * 200)
    monkeypatch.setattr(calibration, "make_generator", lambda _, loaded: script(loaded.tokenizer))
    monkeypatch.setattr(calibration, "SECONDS", 0.0)
    monkeypatch.setattr(calibration, "LONGER", longer)
    questions = choose(question_groups(plan), 16)
    renderer = Renderer(load_tokenizer(pair.source("reasoning")))
    longest = max(len(renderer.render(each.id, each.prompt, "own").ids) for each in questions)
    told = 200 if longer else 512 - longest - 20
    _, lengths, note = calibration.time_writing(pair, plan, "reasoning", questions, questions, Clock(1))
    assert lengths.think == pytest.approx(told, abs=2)
    assert note == ("" if longer else "no thought ended within the calibration, so all the room is counted")


def test_a_calibration_asks_within_the_budget_and_the_time():
    assert within(Budget(think=96, answer=64), 400, "own") == Budget(think=96, answer=64)
    assert within(Budget(think=16_384, answer=512), 400, "own") == Budget(think=300, answer=100)
    assert within(Budget(think=96, answer=64), 1, "none") == Budget(think=1, answer=calibration.LEAST)


def test_work_is_counted_from_the_plan(folders):
    _, plan = planned(config(folders, dimensions=("ethics", "bias")))
    lengths = {side: Lengths(prompt=50, think=think, answer=20) for side, think in (("instruct", 0), ("reasoning", 40))}
    found = work_of(plan, lengths, 100, 4, resident=True)
    assert found["answers"]["reasoning"].written == 100 * 60
    assert found["answers"]["instruct"].written == 100 * 20
    assert found["drift"]["instruct"].read == 2 * 16 * 70 + 2 * 2 * plan.size.thinking * 110
    assert [name for name, work in found.items() if work["instruct"].loaded] == ["pair", "answers", "kl"]
    assert Work(read=3, written=2).seconds(Work(read=0.5, written=2.0)) == 5.5
    _, waves = planned(config(folders, dimensions=("ethics",), until_decided=True))
    found = work_of(waves, lengths, 200, 4, resident=True)
    asked = len(waves.sets["ethics"])
    assert (found["waves"]["reasoning"].written, found["answers"]["reasoning"].written) == (
        asked * 60,
        (200 - asked) * 60,
    )
    assert set(proportions(plan, 4)) == {stage.name for stage in stages_of(plan.config)}


def test_a_busy_machine_is_told_from_a_slow_one(monkeypatch):
    """Two seconds, of which others took half of both cores: one second of work."""
    wall, own, everyone = iter([0.0, 2.0]), iter([0.0, 1.0]), iter([0.0, 3.0])
    monkeypatch.setattr(calibration.time, "perf_counter", lambda: next(wall))
    monkeypatch.setattr(calibration.time, "process_time", lambda: next(own))
    monkeypatch.setattr(calibration, "_busy", lambda: next(everyone))
    monkeypatch.setattr(calibration.psutil, "cpu_count", lambda: 2)
    assert Clock(1).time(lambda: "done") == ("done", 1.0)
