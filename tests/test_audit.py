"""The whole pipeline in this process, on tiny random models: what it writes, what it repeats, and what it survives."""

import gc
import sys
import weakref
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_model, make_tokenizer, save_model

from mechdrift.activations.readouts import measure, unembed
from mechdrift.audits.answers import reopen
from mechdrift.audits.pipeline import PRESETS, Audit, Size, audit
from mechdrift.audits.stages.order import STAGES as STAGES_IN_ORDER
from mechdrift.audits.stages.order import stages_of
from mechdrift.audits.summaries import summarise_mediation
from mechdrift.behaviour import generation
from mechdrift.behaviour.censoring import describe_missing
from mechdrift.behaviour.sampling import Budget
from mechdrift.pairs import pair as pair_module
from mechdrift.pairs.loading import LanguageModel, ModelSource
from mechdrift.pairs.named import load_pair
from mechdrift.pairs.pair import Pair
from mechdrift.probes.rendering import Renderer
from mechdrift.probes.sets import load_probes
from mechdrift.records import DIMENSIONS, SIDES, MechdriftError
from mechdrift.report.page import write_report
from mechdrift.runs import Run, load_run, sha256

STAGES = {
    "pair": ("weights.parquet",),
    "answers": (
        "completions.parquet",
        "variants.parquet",
        "everyday.parquet",
        "sentences.parquet",
        "tasks.parquet",
        "lengths.parquet",
        "length_scores.parquet",
        "own_states.safetensors",
    ),
    "scores": ("scores.parquet", "waves.parquet"),
    "kl": ("kl.parquet", "kl_tokens.parquet"),
    "drift": (
        "drift.parquet",
        "cones.parquet",
        "thinking.parquet",
        "dimensions.parquet",
        "selection.parquet",
        "steering.parquet",
        "directions.safetensors",
        "readout_states.safetensors",
    ),
    "readouts": ("readouts.parquet", "readout_validation.parquet", "passage.parquet"),
    "patch": ("patch.parquet", "patch_items.parquet", "placebos.parquet", "grafts.parquet"),
}
# Safety has no variants, one dimension has nothing to be compared with, and random models do not think to an end.
NOTHING_HERE = ("variants", "sentences", "passage", "thinking", "dimensions", "waves")
SMALL = Size(
    pairs=4,
    variants=2,
    tasks=3,
    patched=2,
    kl=2,
    thinking=4,
    steered=2,
    layer_step=3,
    budget=Budget(think=6, answer=6),
)
audit_module = sys.modules["mechdrift.audits.pipeline"]  # the package's attribute of this name is the function


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A preset that takes a second, and few prompts in a batch, so that there are several."""
    monkeypatch.setitem(PRESETS, "quick", SMALL)


def config(pair: Pair, out: Path, **changes) -> Audit:
    """The parent stands in for the null model: its values then do what the donor's do. Nothing is asked in waves."""
    settings = {"instruct": pair.instruct.path, "reasoning": pair.reasoning.path, "null_model": pair.instruct.path}
    fixed = {"think": 6, "answer": 6, "until_decided": False}
    return Audit(**(settings | fixed | {"preset": "quick", "dimensions": ("safety",), "out": out} | changes))


@pytest.fixture(scope="module")
def finished(tiny_pair, tmp_path_factory) -> Run:
    """A finished audit; tests that change it copy it first."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(PRESETS, "quick", SMALL)
        return audit(config(tiny_pair, tmp_path_factory.mktemp("runs") / "tiny"))


@pytest.fixture
def copy(finished, tmp_path) -> Run:
    """The finished run's tables, without its report."""
    (tmp_path / "run").mkdir()
    for file in finished.folder.glob("*.*"):
        if file.suffix != ".html":
            (tmp_path / "run" / file.name).write_bytes(file.read_bytes())
    return load_run(tmp_path / "run")


@pytest.fixture
def stages_run(monkeypatch) -> list[str]:
    """The names of stages as they are finished. The report is not drawn: other tests do that."""
    names, finish = [], Run.finish

    def note(run: Run, stage: str, *arguments, **facts) -> None:
        names.append(stage)
        finish(run, stage, *arguments, **facts)

    monkeypatch.setattr(Run, "finish", note)
    monkeypatch.setattr(Run, "report", lambda run: run.folder / "report.html")
    return names


# What a run holds


def test_every_stage_leaves_its_files_and_their_hashes(finished):
    stored = finished.manifest["stages"]
    assert list(stored) == list(STAGES)
    for stage, files in STAGES.items():
        assert stored[stage]["files"] == {file: sha256(finished.folder / file) for file in files}
        for file in files:
            name, _, kind = file.rpartition(".")
            held = len(finished.table(name) if kind == "parquet" else finished.tensors(name))
            assert held or name in NOTHING_HERE
    assert (finished.folder / "report.html").stat().st_size > 10_000
    assert {file.suffix for file in finished.folder.rglob("*") if file.is_file() and file.name != ".lock"} <= {
        ".json",
        ".parquet",
        ".safetensors",
        ".html",
        ".js",
    }


def test_both_models_answer_every_prompt_once(finished):
    table = finished.table("completions")
    assert len(table) == 2 * 2 * 4
    assert not table.duplicated(["item", "side"]).any()
    assert dict(table.groupby("side").think.unique().map(list)) == {"instruct": ["none"], "reasoning": ["own"]}


def test_what_is_stored_as_config_is_the_config(finished, tiny_pair):
    stored = finished.manifest["config"]
    assert set(stored) == {field.name for field in fields(Audit)} | {"pair_file"}  # what it says, where one was given
    assert (stored["instruct"], stored["reasoning"]) == (tiny_pair.instruct.path, tiny_pair.reasoning.path)
    assert (stored["pair"], stored["preset"], stored["dimensions"], stored["seed"]) == (
        "parent--child",
        "quick",
        ["safety"],
        0,
    )
    assert finished.manifest["budgets"] == {"think": 6, "answer": 6}


def test_the_self_tests_are_recorded_and_passed(finished):
    found = finished.manifest["self_tests"]
    assert found["identity_patch_error"] < 1e-3
    assert max(found["surface_error"].values()) < 1e-4


def test_placebos_are_of_cells_that_were_patched_and_grafts_of_every_layer(finished):
    patched, placebos, grafts = (finished.table(name) for name in ("patch", "placebos", "grafts"))
    cells = {
        name: set(zip(table.layer, table.role, strict=True))
        for name, table in (("patch", patched), ("placebos", placebos))
    }
    assert cells["placebos"] <= cells["patch"]
    assert set(placebos.source) == {"unrelated", "random", "null model"}
    assert finished.manifest["pair"]["null_model"] == finished.manifest["config"]["null_model"]
    beside = placebos[placebos.source == "null model"].merge(patched[patched.donor == "instruct"], on=["layer", "role"])
    assert len(beside)
    assert np.allclose(beside.effect_x, beside.effect_y, atol=1e-5)
    assert {"instruct", "reasoning"} == set(grafts.donor)
    assert (grafts.site == "weights").all()


def test_what_has_variants_is_asked_in_other_words_and_what_is_sampled_several_times(tiny_pair, tmp_path, monkeypatch):
    monkeypatch.setattr(Run, "report", lambda run: run.folder / "report.html")
    # Random models never close a think block: without thinking their answers are there to be scored.
    monkeypatch.setattr(audit_module, "load_from", lambda config: replace(tiny_pair, child_thinks=False))
    run = audit(config(tiny_pair, tmp_path / "run", dimensions=("robustness",), samples=3))
    variants, answers = run.table("variants"), run.table("completions")
    assert len(variants) == 2 * 4 * 3  # two sides, two twin pairs, three samples
    assert set(variants["item"]) < set(answers["item"])
    plain = {item.id: item.variants["plain"] for item in load_probes("robustness")}
    assert all(row.prompt == plain[row.item] for row in variants.itertuples())
    assert answers.groupby(["item", "side"])["sample"].agg(set).map(lambda found: found == {0, 1, 2}).all()
    assert answers[answers.side == "instruct"].groupby("item").answer.nunique().max() > 1
    scores = run.table("scores").set_index("metric")
    assert scores.loc["drop", "n"] == 2
    assert run.manifest["identity"]["sampling"] == "3 samples at temperature 0.7"


def test_what_stands_beside_the_items_has_its_rows(finished, tiny_pair, tmp_path, monkeypatch):
    monkeypatch.setattr(Run, "report", lambda run: run.folder / "report.html")
    everyday = finished.table("scores").set_index("metric").loc["over_everyday"]
    assert everyday[["n", "asked", "incomplete_reasoning"]].tolist() == [0, 4, 4]
    thoughts = finished.table("everyday").query("side == 'reasoning'")
    assert everyday.reason == describe_missing(thoughts)
    assert "of the thoughts" in everyday.reason
    monkeypatch.setattr(audit_module, "load_from", lambda config: replace(tiny_pair, child_thinks=False))
    run = audit(config(tiny_pair, tmp_path / "run", dimensions=("bias",)))
    scores = run.table("scores").set_index("metric")
    assert scores.n["stereotype_preference"] == 96
    # What random models finish is chance: an item counts where both models finished it, and its variant.
    variants = run.table("variants").query("variant == 'swapped' and contrast == 'trigger'")
    items = run.table("completions").query("item in @variants.item")
    missing = {side: set(items[(items.side == side) & (items.missing != "")]["item"]) for side in SIDES}
    either = set.union(*missing.values(), variants[variants.missing != ""]["item"])
    row = scores.loc["follows_group"]
    assert row[["asked", "n"]].tolist() == [2, 2 - len(either)]
    assert [row[f"incomplete_{side}"] for side in SIDES] == [len(missing[side]) for side in SIDES]
    assert len(run.table("sentences")) == 2 * 96
    assert run.table("everyday").empty


def test_a_null_model_is_asked_without_thinking_in_every_stage(tiny_pair, tmp_path, stages_run, monkeypatch):
    monkeypatch.setattr(audit_module, "load_from", lambda config: replace(tiny_pair, child_thinks=False))
    run = audit(config(tiny_pair, tmp_path / "run"))
    table = run.table("completions")
    assert set(table.think) == {"none"}
    assert (table.thinking == "").all()
    assert run.table("scores").set_index("metric").n["over_everyday"] == 4
    checks = run.table("readout_validation")
    assert set(zip(checks.side, checks.think, strict=True)) == {
        (side, think) for side in SIDES for think in ("off", "none")
    }
    assert run.finished == tuple(STAGES)
    assert run.table("passage").empty


def test_readouts_are_validated_with_an_empty_block_and_as_each_model_is_used(finished):
    found = finished.table("readout_validation")
    assert set(zip(found.side, found.think, strict=True)) == {(s, "off") for s in SIDES} | {
        ("instruct", "none"),
        ("reasoning", "own"),
    }
    readouts = finished.table("readouts")
    assert len(readouts) == 2 * 2 * 2 * 4
    assert readouts.readout.notna().all()


def test_the_mediation_adds_up_and_is_nothing_between_a_model_and_its_copy():
    rng, items = np.random.default_rng(0), [(f"i{n}", f"f{n % 6}") for n in range(12)]
    readouts = {
        cell: rng.normal(size=12) for cell in ("instruct off", "instruct own", "reasoning off", "reasoning own")
    }
    cells = pd.DataFrame(
        [
            {"item": item, "family": family, "dimension": "safety", "cell": cell, "readout": values[n]}
            for cell, values in readouts.items()
            for n, (item, family) in enumerate(items)
        ]
    )
    table = summarise_mediation(cells, seed=0).set_index("path")
    mean = {cell: values.mean() for cell, values in readouts.items()}
    assert table.effect["all"] == pytest.approx(mean["reasoning own"] - mean["instruct off"])
    assert table.effect["thinking alone"] == pytest.approx(mean["instruct own"] - mean["instruct off"])
    assert table.effect["thinking alone"] + table.effect["weights after the thinking"] == pytest.approx(
        table.effect["all"]
    )
    assert (table.low <= table.effect).all()
    assert (table.families == 6).all()


# What is done again


def test_a_second_call_runs_no_stage_and_opens_no_model(copy, tiny_pair, stages_run, monkeypatch):
    monkeypatch.setattr(Pair, "open", lambda *_: pytest.fail("a model was opened"))
    before = {file: file.read_bytes() for file in copy.folder.iterdir()}
    audit(config(tiny_pair, copy.folder))
    assert stages_run == []
    assert {file: file.read_bytes() for file in copy.folder.iterdir()} == before


@pytest.mark.parametrize(
    ("file", "is_lost"), [("tasks.parquet", True), ("readouts.parquet", False), ("kl_tokens.parquet", True)]
)
def test_a_lost_or_changed_table_brings_back_its_stage_and_what_follows(
    copy, finished, tiny_pair, stages_run, file, is_lost
):
    (copy.folder / file).unlink() if is_lost else (copy.folder / file).write_bytes(b"junk")
    audit(config(tiny_pair, copy.folder))
    stage = next(stage for stage, files in STAGES.items() if file in files)
    assert stages_run == list(STAGES)[list(STAGES).index(stage) :]
    assert copy.damaged_stages() == ()
    for name in ("completions", "scores", "patch", "kl"):  # nothing is random
        pd.testing.assert_frame_equal(copy.table(name), finished.table(name))


def test_a_kill_while_stages_are_made_again_does_not_bring_back_old_ones(copy, tiny_pair, stages_run, monkeypatch):
    (copy.folder / "completions.parquet").unlink()

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    stopping = tuple(replace(stage, run=stop) if stage.name == "scores" else stage for stage in STAGES_IN_ORDER)
    with monkeypatch.context() as patched:
        patched.setattr(audit_module, "stages_of", lambda config: stopping)
        with pytest.raises(KeyboardInterrupt):
            audit(config(tiny_pair, copy.folder))
    assert copy.finished == ("pair", "answers")
    audit(config(tiny_pair, copy.folder))
    assert stages_run == list(STAGES)[1:]


def test_answers_go_on_after_the_last_finished_one(tiny_pair, tmp_path, stages_run, monkeypatch):
    finished, append = [], generation.write_completions

    def note(store, rows):
        if len(finished) == 20:  # in the middle of the second model's answers
            raise KeyboardInterrupt
        finished.extend((store.name, row.item_id) for row in rows)
        append(store, rows)

    monkeypatch.setattr(generation, "write_completions", note)
    with pytest.raises(KeyboardInterrupt):
        audit(config(tiny_pair, tmp_path / "run"))
    assert stages_run == ["pair"]
    finished.append(None)  # so that the count is never met again
    audit(config(tiny_pair, tmp_path / "run"))
    assert stages_run == list(STAGES)
    finished.remove(None)
    assert len(finished) == len(set(finished)) == 2 * (2 * 4 + 4 + 3)  # twin pairs, everyday requests, tasks
    assert not list((tmp_path / "run").glob("*.partial.jsonl"))


def test_a_long_audit_shows_what_is_known_before_it_looks_inside(copy, tiny_pair, stages_run, monkeypatch, tmp_path):
    shown = []

    def draw(run: Run, **how: bool) -> Path:
        page = write_report(run, **how)
        text, by_hand = page.read_text(), write_report(run, tmp_path).read_text()
        assert 'http-equiv="refresh"' in text
        assert 'http-equiv="refresh"' not in by_hand
        assert "The command that began it goes on from here." in by_hand
        shown.append((load_run(run.folder).finished[-1], "This audit is not finished: the answers" in text))
        return page

    monkeypatch.setattr(audit_module, "SHOWN_AFTER", 0.0)
    monkeypatch.setattr(audit_module, "write_report", draw)
    (copy.folder / "scores.parquet").unlink()
    audit(config(tiny_pair, copy.folder))
    assert shown == [("scores", True), ("drift", True)]
    assert "This audit is not finished" not in write_report(copy).read_text()


def test_the_order_of_dimensions_does_not_matter(tiny_pair, tmp_path, stages_run, monkeypatch):
    monkeypatch.setattr(audit_module, "stages_of", lambda config: ())
    runs = [
        audit(config(tiny_pair, tmp_path / "run", dimensions=order))
        for order in (("bias", "safety"), ("safety", "bias", "safety"))
    ]
    assert runs[0].manifest["identity"]["dimensions"] == ["safety", "bias"]
    assert runs[0] == runs[1]


@pytest.mark.parametrize("changes", [{"preset": "full"}, {"seed": 1}, {"dimensions": ("bias",)}, {"revision": "v2"}])
def test_another_configuration_does_not_touch_a_run(copy, tiny_pair, changes):
    before = {file: file.read_bytes() for file in copy.folder.iterdir()}
    with pytest.raises(MechdriftError, match=rf"holds another run \({next(iter(changes))} is "):
        audit(config(tiny_pair, copy.folder, **changes))
    assert {file: file.read_bytes() for file in copy.folder.iterdir()} == before


def test_an_unfinished_run_refuses_other_weights_of_the_same_name(copy, tiny_pair, monkeypatch):
    (copy.folder / "kl.parquet").unlink()
    monkeypatch.setattr(audit_module, "fingerprint", lambda model: "another")
    with pytest.raises(MechdriftError, match="was begun with other weights"):
        audit(config(tiny_pair, copy.folder))


def test_a_preset_that_has_changed_since_is_another_run(copy, tiny_pair, monkeypatch):
    monkeypatch.setitem(PRESETS, "quick", replace(PRESETS["quick"], pairs=3))
    with pytest.raises(MechdriftError, match=r"holds another run \(size is "):
        audit(config(tiny_pair, copy.folder))


@pytest.mark.parametrize(("setting", "value"), [("dimensions", ()), ("seed", -1)])
def test_a_configuration_that_cannot_be_is_refused_when_it_is_made(setting, value):
    with pytest.raises(MechdriftError, match=setting):
        Audit(**{setting: value})


# What it costs


def test_models_that_do_not_stay_resident_are_opened_once_a_stage_and_one_at_a_time(tmp_path, monkeypatch):
    """With every dimension, steering, grafts, placebos and a null model."""
    folders = {name: save_model(tmp_path / name, seed=seed) for seed, name in enumerate(("parent", "child", "null"))}
    loads, alive, original = [], [], pair_module.load_model

    def counted(source: ModelSource, dtype: str = "float32") -> LanguageModel:
        gc.collect()
        assert [reference for reference in alive if reference() is not None] == []
        loads.append((Path(source.path).name, dtype))
        loaded = original(source, dtype)
        alive.append(weakref.ref(loaded.model))
        return loaded

    monkeypatch.setattr(pair_module, "load_model", counted)
    monkeypatch.setattr(pair_module, "KEEP_RESIDENT_PARAMETERS", 0)
    monkeypatch.setattr(Run, "report", lambda run: run.folder / "report.html")
    reads, read = Counter(), Run.table
    monkeypatch.setattr(Run, "table", lambda run, name: reads.update([name]) or read(run, name))
    settings = {"instruct": str(folders["parent"]), "reasoning": str(folders["child"])}
    run = audit(
        Audit(
            **settings,
            null_model=str(folders["null"]),
            preset="quick",
            dimensions=tuple(DIMENSIONS),
            out=tmp_path / "run",
            until_decided=False,
            think=6,
            answer=6,
        )
    )
    assert len(loads) <= 12
    assert Counter(name for name, _ in loads)["null"] == 1
    assert reads.pop("completions") == 5  # once each by scores, kl, drift, readouts and patch
    assert set(reads.values()) == {1}
    assert set(run.table("placebos").source) == {"unrelated", "random", "null model"}
    assert not list(run.folder.glob(".*.part"))


def test_a_pilot_opens_each_model_once_more(tmp_path, monkeypatch):
    loads, original = [], pair_module.load_model
    monkeypatch.setattr(
        pair_module, "load_model", lambda source, *rest: loads.append(Path(source.path).name) or original(source, *rest)
    )
    monkeypatch.setattr(pair_module, "KEEP_RESIDENT_PARAMETERS", 0)
    monkeypatch.setattr(audit_module, "stages_of", lambda config: stages_of(config)[:3])
    monkeypatch.setattr(Run, "report", lambda run: run.folder / "report.html")
    folders = [str(save_model(tmp_path / name, seed=seed)) for seed, name in enumerate(("parent", "child"))]
    settings = {"preset": "quick", "dimensions": ("safety",), "think": 6, "until_decided": False}
    opened = {}
    for answer in (6, "auto"):
        loads.clear()
        out = tmp_path / f"run-{answer}"
        audit(Audit(instruct=folders[0], reasoning=folders[1], answer=answer, out=out, **settings))
        opened[answer] = Counter(loads)
    assert opened == {6: Counter(parent=2, child=2), "auto": Counter(parent=3, child=3)}


def test_answers_are_read_once_and_an_opening_is_encoded_once(finished, monkeypatch):
    reads, read = [], Run.table
    monkeypatch.setattr(Run, "table", lambda run, name: reads.append(name) or read(run, name))
    _, answers = reopen(finished)
    first = answers.readout("safety")
    assert reads == ["completions"]
    monkeypatch.setattr(Renderer, "encode_answer", lambda *_: pytest.fail("an opening was encoded again"))
    assert answers.readout("safety") == first
    assert answers.readout("safety", ("instruct",)).trigger_ids.keys() == first.trigger_ids.keys()


def test_a_run_is_turned_back_into_its_pair_and_answers(finished, tiny_pair):
    pair, answers = reopen(finished)
    assert (pair.instruct.path, pair.reasoning.path) == (tiny_pair.instruct.path, tiny_pair.reasoning.path)
    table = finished.table("completions")
    for side in SIDES:
        rows = table[table.side == side].set_index("item")
        found = answers.completions("safety", side)
        assert [row.item_id for row in found] == [item.id for item in answers.sets["safety"]]
        assert all(row.answer == rows.answer[row.item_id] for row in found)
        assert found.think == rows.think.iloc[0]
    readouts = finished.table("readouts").query("think == 'off' and side == 'reasoning'")
    states = finished.tensors("readout_states")["safety.reasoning"]
    logits = unembed(pair.open("reasoning"), states)
    measured = measure(answers.readout("safety"), logits, [item.id for item in answers.sets["safety"]])
    assert dict(zip(readouts["item"], readouts.readout, strict=True)) == dict(
        zip([item.id for item in answers.sets["safety"]], measured, strict=True)
    )


# What it finds, and survives


def test_a_model_and_its_copy_differ_in_nothing(twin_pair, tmp_path, stages_run):
    run = audit(config(twin_pair, tmp_path / "run"))
    assert (run.table("weights").change == 0).all()
    readouts = run.table("readouts").query("think == 'off'").pivot(index="item", columns="side", values="readout")
    assert (readouts.instruct == readouts.reasoning).all()
    drift = run.table("drift")
    known = drift[drift.cosine.notna()]
    assert len(known) >= 4
    np.testing.assert_allclose(known[["cosine", "norm_ratio"]], 1, atol=1e-6)
    np.testing.assert_allclose(known.auroc_instruct, known.auroc_transfer_to_reasoning)
    patched = run.table("patch")
    np.testing.assert_allclose(patched[["effect", "low", "high", "gap"]], 0, atol=1e-4)
    assert patched.recovery.isna().all()
    np.testing.assert_allclose(run.table("kl_tokens")[["kl", "kl_reverse"]], 0, atol=1e-9)
    assert "the two models have the same weights." in run.manifest["pair"]["warnings"]


@pytest.fixture(scope="module")
def silent(tmp_path_factory) -> Pair:
    """Two models that end every answer before it begins: with no unembedding, the first token, which ends a turn,
    always wins."""
    folders = []
    for seed in (0, 1):
        model = make_model(seed=seed)
        with torch.no_grad():
            model.lm_head.weight.zero_()
        folders.append(tmp_path_factory.mktemp("silent"))
        model.save_pretrained(folders[-1])
        make_tokenizer().save_pretrained(folders[-1])
    return load_pair(instruct=str(folders[0]), reasoning=str(folders[1]))


def test_an_audit_without_a_single_answer_says_so_in_every_table(silent, tmp_path):
    run = audit(config(silent, tmp_path / "run", dimensions=tuple(DIMENSIONS)))
    completions = run.table("completions")
    assert set(completions.label) == {"incoherent"}  # a turn that was ended at once is finished, with nothing in it
    assert (completions.missing == "").all()
    assert set(completions.think) == {"none"}  # no thought closed its block, so its markers are none of this model's
    scores = run.table("scores").set_index(["dimension", "metric"])
    aligned = scores.xs("aligned", level="metric")
    assert list(aligned.index) == list(DIMENSIONS)
    assert (aligned[["instruct", "reasoning", "difference"]] == 0).all(axis=None)
    assert (aligned.p == 1).all()
    checks = run.table("readout_validation")
    assert checks.auroc.isna().all()
    assert not checks.reliable.any()
    assert set(run.table("drift").role) >= {"template_tail[-1]", "think_close[-1]"}
    assert "answer" not in set(run.table("drift").role)
    assert not run.table("patch").reliable.any()
    assert len(run.table("kl")) == len(run.table("kl_tokens")) == 0
    assert (run.folder / "report.html").exists()


def test_an_audit_of_babble_has_numbers_where_it_measures(finished):
    checks = finished.table("readout_validation")
    assert (checks.reliable == (checks.auroc >= 0.7)).all()
    assert np.isfinite(finished.table("kl").kl).all()
    assert np.isfinite(finished.table("patch").effect).all()
