"""Audits in waves: which items are asked when, what is decided, and what a stopped audit does."""

import hashlib
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mechdrift.audits import plan as plan_module
from mechdrift.audits.config import PRESETS, Audit, Size
from mechdrift.audits.pipeline import audit
from mechdrift.audits.plan import in_waves, plan_waves, sample_sets
from mechdrift.audits.stages import waves as waves_module
from mechdrift.audits.stages.order import stages_of
from mechdrift.behaviour import generation
from mechdrift.behaviour.dimensions.record import column
from mechdrift.behaviour.looks import FROM_LOOK, take_looks, with_looks
from mechdrift.behaviour.paired import pair_up
from mechdrift.behaviour.sampling import Budget
from mechdrift.probes.sets import load_probes
from mechdrift.records import DIMENSIONS, SIDES, MechdriftError
from mechdrift.report.waves import unfinished_said
from mechdrift.runs import load_run
from mechdrift.statistics.intervals import SHARE
from mechdrift.statistics.resampling import paired_bootstrap
from mechdrift.statistics.sequential import DRAWS, repeated_tail, sequential_p

# Of the items that the fixed design asked when the embedded pairs' table was made.
FIXED = {"quick": "24f51839ea7dd7a1", "standard": "89df11b49ea56883", "full": "a3b848a105dc5a30"}


def items_of(preset) -> str:
    sets = sample_sets(Audit(preset=preset, dimensions=tuple(DIMENSIONS[:6])), PRESETS[preset])
    ids = " ".join(item.id for probes in sets.values() for item in probes)
    return hashlib.sha256(ids.encode()).hexdigest()[:16]


def with_more_families(name):
    """A set with as many families again behind its own."""
    probes = load_probes(name)
    more = [replace(item, id=f"{item.id}+", twin=f"{item.twin}+", family=f"{item.family}+") for item in probes.items]
    return replace(probes, items=(*probes.items, *more))


@pytest.mark.parametrize("preset", PRESETS)
def test_the_fixed_design_asks_what_it_always_asked(preset):
    assert items_of(preset) == FIXED[preset]


@pytest.mark.parametrize("preset", PRESETS)
def test_families_that_are_written_behind_the_others_leave_the_fixed_design_as_it_is(preset, monkeypatch):
    monkeypatch.setattr(plan_module, "load_probes", with_more_families)
    assert items_of(preset) == FIXED[preset]


def test_waves_are_a_partition_the_same_by_seed():
    families = [f"f{i}" for i in range(10)]
    waves = in_waves(families, seed=1)
    assert [len(wave) for wave in waves] == [3, 3, 2, 2]
    assert sorted(name for wave in waves for name in wave) == sorted(families)
    assert waves == in_waves(families, seed=1) != in_waves(families, seed=2)


def test_a_set_with_fewer_families_than_waves_has_one_family_a_wave():
    assert in_waves(["a"], seed=0) == [["a"]]
    assert [len(wave) for wave in in_waves(["a", "b", "c"], seed=0)] == [1, 1, 1]


def test_waves_together_are_the_whole_set_with_twins():
    waves = plan_waves(Audit(preset="full"), PRESETS["full"])
    parts = [item.id for wave in range(4) for item in waves.part("bias", wave)]
    assert sorted(parts) == sorted(item.id for item in load_probes("bias"))
    assert len(parts) == len(set(parts))
    first = waves.until({"bias": 1})["bias"]
    assert first == waves.part("bias", 0)
    assert {item.twin for item in first} == {item.id for item in first}


def test_a_quick_audit_asks_one_pair_a_family_while_families_suffice():
    probes = plan_waves(Audit(preset="quick"), replace(PRESETS["quick"], most=16)).sets["safety"]
    assert len(probes) == 2 * len(probes.families) == 32


@pytest.mark.parametrize("margin", [0.0, -0.1, 1.0, 15.0, float("nan")])
def test_a_margin_that_is_no_share_is_refused_in_one_sentence(margin):
    with pytest.raises(MechdriftError, match="margin should be a share of answers between 0 and 1") as error:
        Audit(margin=margin)
    assert str(error.value).count(". ") == 0


# What is decided


NAMES = ("safety", "bias")
SETS = {name: load_probes(name).first_families(16) for name in NAMES}
WAVES_OF = {name: in_waves(probes.families, seed=0) for name, probes in SETS.items()}


def judged(name: str, waves: int, falls: float, *, missing: float = 0.0, failed: float = 0.0) -> pd.DataFrame:
    """Judged answers to the first waves of a set: the parent's are all aligned, and of the child's, in every family,
    not these shares."""
    items = SETS[name].of_families([family for wave in WAVES_OF[name][:waves] for family in wave])
    rows = []
    for place, item in enumerate(items):
        for side in SIDES:
            is_lost = side == "reasoning" and (place // 2 % 3 + 0.5) / 3 < falls
            is_missing = side == "reasoning" and (place + 0.5) / len(items) < missing
            rows.append(
                {
                    "item": item.id,
                    "sample": 0,
                    "dimension": name,
                    "family": item.family,
                    "contrast": item.contrast,
                    "side": side,
                    "says": "yes",
                    "label": "compliance",
                    "closed": not is_missing,
                    "aligned": not is_lost,
                    "missing": "cut" if is_missing else "",
                    "think_tokens": 9,
                    "answer_tokens": 9,
                    "failed": side == "reasoning" and (place + 0.5) / len(items) < failed,
                }
            )
    return pd.DataFrame(rows)


def last_looks(*tables: pd.DataFrame, margin: float = 0.15) -> pd.DataFrame:
    looks = take_looks(pd.concat(tables), WAVES_OF, margin)
    return looks.drop_duplicates("dimension", keep="last").set_index("dimension")


def test_a_dimension_that_fell_is_decided_early_and_one_that_stayed_later():
    looks = take_looks(pd.concat([judged("safety", 4, 0.9), judged("bias", 4, 0.0)]), WAVES_OF, 0.3)
    words = {name: part.decision.tolist() for name, part in looks.groupby("dimension")}
    assert words["safety"][0] == "go on"  # four families cannot tell
    assert "changed" in words["safety"][1:3]
    assert words["bias"][-1] == "no change"
    assert looks.families.tolist()[:2] == [4, 4]


def test_decisions_stay_and_one_look_more_changes_no_earlier_one():
    tables = [judged("safety", waves, 0.9) for waves in (2, 3)]
    before, after = (take_looks(table, WAVES_OF, 0.15) for table in tables)
    pd.testing.assert_frame_equal(
        before.drop(columns=["p_holm", "decision"]), after.iloc[:2][before.columns.drop(["p_holm", "decision"])]
    )


def test_the_last_look_has_the_repeated_interval_and_the_sequential_p():
    table = judged("safety", 4, 0.4)
    found = last_looks(table).loc["safety"]
    items, before, after = pair_up(table[table.contrast == "trigger"], column("aligned"))
    tail = repeated_tail((0.25, 0.5, 0.75, 1.0), 3)
    change = paired_bootstrap(before, after, items.family.to_numpy(), bounds=SHARE, draws=DRAWS, tail=tail)
    assert (found.low, found.high) == (pytest.approx(change.low), pytest.approx(change.high))
    assert found.p == pytest.approx(sequential_p([np.full(4, -1 / 3)] * 4, (0.25, 0.5, 0.75, 1.0)))
    assert found.boundary == pytest.approx(2.0141, abs=1e-3)


def test_nothing_that_differs_is_no_evidence_and_undecided_with_few_families():
    found = last_looks(judged("safety", 4, 0.0), margin=0.05).loc["safety"]
    assert (found.p, found.decision) == (1.0, "undecided")


def test_where_all_is_missing_or_the_judge_failed_nothing_is_decided_and_the_reason_is_said():
    found = last_looks(judged("safety", 4, 0.9, missing=1.0), judged("bias", 2, 0.9, failed=0.5))
    assert found.decision.to_dict() == {"safety": "undecided", "bias": "go on"}
    assert "of the thoughts were cut" in found.reason["safety"]
    assert "the judge failed on" in found.reason["bias"]


def test_what_cannot_be_told_is_no_evidence_in_the_correction_of_looks_and_scores_alike():
    cut = judged("safety", 4, 0.9, missing=0.2)  # its own p is tiny, and nothing can be told of it
    table = pd.concat([cut, judged("bias", 2, 0.4)])
    looks = last_looks(table)
    assert looks.reason["safety"]
    assert looks.p["safety"] < looks.p["bias"] < 0.5
    assert looks.p_holm["bias"] == pytest.approx(2 * looks.p["bias"])
    scores = pd.DataFrame({"dimension": NAMES, "headline": True} | dict.fromkeys(FROM_LOOK[:-3], 0.5))
    shown = with_looks(scores.assign(decision="", wave=0, margin=0.0), take_looks(table, WAVES_OF, 0.15))
    assert shown.p_holm.tolist() == looks.p_holm[list(NAMES)].tolist()


def test_one_family_decides_nothing():
    families = {"safety": [[SETS["safety"].families[0]]]}
    part = judged("safety", 4, 0.9)
    looks = take_looks(part[part.family == families["safety"][0][0]], families, 0.15)
    assert looks.decision.tolist() == ["undecided"]
    assert np.isnan(looks.low[0])


def test_scores_carry_the_last_look():
    table = pd.concat([judged("safety", 2, 0.9), judged("bias", 4, 0.0)])
    looks = take_looks(table, WAVES_OF, 0.3)
    scores = pd.DataFrame(
        {"dimension": [*NAMES, "safety", "reasoning"], "headline": [True, True, False, True]}
        | {name: 0.5 for name in FROM_LOOK if name not in ("decision", "wave")}
    ).assign(decision="", wave=0)
    found = with_looks(scores, looks)
    assert found.decision.tolist() == [looks[looks.dimension == n].decision.iloc[-1] for n in NAMES] + ["", ""]
    assert found.wave.tolist() == [2, 4, 0, 0]
    assert found.low[2] == 0.5


# What an audit does


@pytest.fixture
def settings(tiny_pair, tmp_path, monkeypatch) -> Audit:
    """Eight families of two dimensions in four waves; both models answer at once. The stages up to the scores alone."""
    size = Size(pairs=8, variants=2, tasks=2, patched=2, kl=2, thinking=2, steered=0, budget=Budget(think=4, answer=4))
    monkeypatch.setitem(PRESETS, "quick", size)
    pipeline = sys.modules["mechdrift.audits.pipeline"]
    monkeypatch.setattr(pipeline, "load_from", lambda config: replace(tiny_pair, child_thinks=False))
    monkeypatch.setattr(pipeline, "stages_of", lambda config: stages_of(config)[:4])
    models = {"instruct": tiny_pair.instruct.path, "reasoning": tiny_pair.reasoning.path}
    return Audit(**models, preset="quick", dimensions=NAMES, think=4, answer=4, margin=0.5, out=tmp_path / "run")


def test_a_stopped_audit_has_a_page_that_refreshes_and_goes_on_at_its_wave(settings, monkeypatch):
    asked, append, write = [], generation.write_completions, waves_module.write_report

    def note(store, rows):
        asked.extend((store.name, row.item_id) for row in rows)
        append(store, rows)

    def stop(run, **how):
        write(run, **how)
        raise KeyboardInterrupt

    monkeypatch.setattr(generation, "write_completions", note)
    with monkeypatch.context() as patched:
        patched.setattr(waves_module, "write_report", stop)
        with pytest.raises(KeyboardInterrupt):
            audit(settings)
    run = load_run(settings.out)
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert '<meta http-equiv="refresh"' in page
    assert "1 wave asked, 0 of 2 dimensions decided. Next it asks safety and stereotypes and bias." in page
    first = run.table("waves")
    assert len(asked) == 2 * 2 * 4
    with pytest.raises(MechdriftError, match="holds another run"):
        audit(replace(settings, margin=0.2))
    pages = []  # the first wave's is looked at above; drawing the others' would take most of this test's time
    monkeypatch.setattr(waves_module, "write_report", lambda run, **how: pages.append(run))
    run = audit(settings)
    assert len(pages) == run.table("waves").wave.max()
    assert len(asked) == len(set(asked))  # nothing is asked twice
    found = run.table("waves")
    assert found.wave.max() > 1
    pd.testing.assert_frame_equal(found.iloc[:2][["boundary", "low", "high"]], first[["boundary", "low", "high"]])
    scores = run.table("scores").query("headline").set_index("dimension")
    asked_waves = run.manifest["waves"]["asked"]
    assert scores.wave[[*NAMES]].to_dict() == asked_waves
    families = {name: 2 * waves for name, waves in asked_waves.items()}
    assert {name: facts["families"] for name, facts in run.manifest["probes"].items()} == families
    judged_families = run.table("completions").groupby("dimension").family.nunique().to_dict()
    assert judged_families == families


def test_embedded_pairs_keep_the_fixed_design_and_others_ask_until_decided(tiny_pair):
    assert plan_module.is_until_decided(Audit(), tiny_pair)
    assert not plan_module.is_until_decided(Audit(until_decided=False), tiny_pair)
    embedded = replace(tiny_pair, name="smollm2-sft")
    assert not plan_module.is_until_decided(Audit(), embedded)
    assert plan_module.is_until_decided(Audit(until_decided=True), embedded)


def test_a_running_page_tells_what_is_decided_from_what_stays_open():
    looks = pd.DataFrame(
        {
            "dimension": ["safety", "bias", "ethics"],
            "wave": [2, 4, 4],
            "decision": ["changed", "undecided", "no change"],
        }
    )
    assert "4 waves asked, 2 of 3 dimensions decided, 1 undecided with all families. Next it looks" in unfinished_said(
        looks
    )
