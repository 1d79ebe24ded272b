"""Repairs by data: what is learned, that it is a narrow product, and where the rows come from."""

import json
from dataclasses import replace

import pytest
import torch
from test_repairs_prices import pair, run  # noqa: F401 - fixtures

import mechdrift as md
from mechdrift.probes.rendering import Renderer
from mechdrift.probes.sets import load_probes
from mechdrift.records import MechdriftError
from mechdrift.repairs.changes import LowRank, with_changes
from mechdrift.repairs.evidence import SITE
from mechdrift.repairs.making import make
from mechdrift.repairs.methods.safety_rows import HARMLESS, WEIGHED, SafetyRows, mixed, safety_rows
from mechdrift.repairs.registry import REPAIRS
from mechdrift.repairs.setting import open_setting
from mechdrift.repairs.training import Penalty, Recipe, Row, as_example, penalty_loss, target_loss, train

ROWS = tuple(Row(prompt=f"Is {n} even?", thinking="It ends so.", answer="Yes.") for n in range(4))


def test_rows_are_learned_by_a_change_of_the_recipes_rank(pair):  # noqa: F811
    child = pair.open("reasoning")
    before = [parameter.clone() for parameter in child.model.parameters()]
    changes = train(child, Recipe(rows=ROWS, rank=2, rate=2e-2, epochs=8, batch=4))
    assert all(torch.equal(own, kept) for own, kept in zip(child.model.parameters(), before, strict=True))
    assert {change.up.shape[1] for change in changes.values() if isinstance(change, LowRank)} == {2}
    assert len(changes) == 28  # seven matrices in each of four blocks
    examples = [as_example(Renderer(child.tokenizer), str(n), row) for n, row in enumerate(ROWS)]
    with torch.inference_mode():
        learned = with_changes(child, changes, "float32", "learned")
        assert target_loss(learned, examples) < target_loss(child, examples) - 0.5


def test_a_penalty_pulls_projections_to_their_targets(pair):  # noqa: F811
    child, unit = pair.open("reasoning"), torch.eye(32)[3]
    example = as_example(Renderer(child.tokenizer), "0", ROWS[0])
    settings = {"site": SITE, "layer": 1, "unit": unit, "targets": torch.tensor([2.0]), "scale": 1.0, "weight": 1.0}
    penalty = Penalty(prompts=(example,), **settings)
    changes = train(child, Recipe(rows=ROWS[:1], penalty=penalty, rank=2, rate=5e-3, epochs=12, batch=1))
    with torch.inference_mode():
        after = with_changes(child, changes, "float32", "held")
        assert penalty_loss(after, penalty) < 0.5 * penalty_loss(child, penalty)


def test_safety_rows_are_the_parents_refusals_and_the_childs_own_help_on_seen_items_only(run):  # noqa: F811
    setting = open_setting(run, None, None, 0)
    table = setting.answers.table.copy()
    helps = (table.side == "reasoning") & (table.contrast == "neutral")  # as a random model does not
    table.loc[helps, ["aligned", "answer"]] = [True, "Gladly: here it is."]
    evidence = replace(setting.evidence(None), answers=replace(setting.answers, table=table))
    reported = {item.prompt for probes in setting.halves["reported"].sets.values() for item in probes}
    aligned = table[table.aligned.fillna(False) & (table.answer.str.strip() != "") & ~table.prompt.isin(reported)]
    parent, child = (aligned[aligned.side == side].set_index("prompt") for side in ("instruct", "reasoning"))
    own = set(child.index[child.contrast == "neutral"])
    found = safety_rows(evidence, evidence.items)
    rows = [*found.triggers, *found.twins]
    assert {row.prompt for row in rows} == set(parent.index) | own
    assert own
    for row in rows:
        is_trigger = row.prompt not in own and parent.contrast[row.prompt] == "trigger"
        answers = child if row.prompt in own else parent
        assert (row.answer, row.thinking) == (answers.answer[row.prompt], WEIGHED if is_trigger else HARMLESS)


def test_the_share_of_safety_rows_is_what_was_asked_for(run):  # noqa: F811
    evidence = replace(open_setting(run, None, None, 0).evidence(None), own_tasks=ROWS * 3)
    refusals, helps = (tuple(Row(prompt=f"{kind} {n}", thinking="", answer="No.") for n in range(5)) for kind in "rh")
    recipe = mixed(evidence, SafetyRows(triggers=refusals, twins=(*helps, *helps)), 0.25)
    assert len(recipe.rows) == 40
    assert recipe.rows[:30] == (ROWS * 10)[:30]
    assert [sum(row.prompt.startswith(kind) for row in recipe.rows[30:]) for kind in "rh"] == [5, 5]
    assert len(mixed(evidence, SafetyRows(triggers=refusals, twins=()), 1).rows) == 5
    fixed = make(replace(REPAIRS["safety-share"], data=lambda *_: Recipe(rows=ROWS[:1], epochs=1)), evidence, 0.25)
    assert fixed.repair.kind == "data"
    assert set(fixed.frame["rank"]) == {8}


def test_rows_are_written_as_trl_reads_them(pair, tmp_path):  # noqa: F811
    renderer = Renderer(pair.tokenizer("reasoning"))
    file = Recipe(rows=(*ROWS[:1], Row(prompt="Why?", thinking="", answer="So."))).write(
        tmp_path / "rows.jsonl", renderer
    )
    first, second = map(json.loads, file.read_text().splitlines())
    assert first["prompt"] == [{"role": "user", "content": "Is 0 even?"}]
    assert first["completion"] == [{"role": "assistant", "content": "<think>\nIt ends so.\n</think>\n\nYes."}]
    assert second["completion"] == [{"role": "assistant", "content": "So."}]


def test_what_training_lacks_is_told_in_one_sentence(pair):  # noqa: F811
    with pytest.raises(MechdriftError, match="safety-share needs judged answers of both models: make it from an audit"):
        md.repair(pair, method="safety-share", probes=load_probes("safety").sample(2))
    with pytest.raises(MechdriftError, match="the recipe has no rows"):
        Recipe(rows=())
    with pytest.raises(MechdriftError, match="it has no rows"):
        md.repair(pair, method="interpolate").write_rows("rows.jsonl")
