"""What is planted lies where it is said to lie and nowhere else; what is scored is scored as by hand; the best
localiser finds it."""

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from mechdrift.directions.drift import compare_directions
from mechdrift.hooks import record
from mechdrift.pairs.loading import LanguageModel
from mechdrift.patching.grafts import graft
from mechdrift.planting import benchmark, children, drift, localisers
from mechdrift.planting.benchmark import print_planted, tables
from mechdrift.planting.children import LEAST, PARTS, PLANTS, Case, decoy, erodes, plant
from mechdrift.planting.drift import BENIGN, DECOYS, matrix, settled
from mechdrift.planting.localisers import CELLS, LOCALISERS, Evidence, Located
from mechdrift.planting.parents import Parent, make_parent
from mechdrift.planting.scoring import by_kind, rank, recall, score_case, summarise
from mechdrift.planting.tiny import draw_requests, make_batch
from mechdrift.probes.rendering import Renderer, render_items
from mechdrift.records import MechdriftError
from mechdrift.statistics.resampling import sign_flip_test

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments" / "inference"))
import null_grids

BEST, FAILING = "graft, both ways", "resid, restore"


@pytest.fixture(scope="module")
def parent() -> Parent:
    return make_parent("tiny", 0)


def changed(parent: Parent, child) -> set[tuple[int, str]]:
    """The parameters of blocks that differ from the parent's."""
    return {
        (layer, name)
        for layer, (ours, theirs) in enumerate(
            zip(parent.aligned.structure.blocks, child.structure.blocks, strict=True)
        )
        for (name, before), after in zip(ours.named_parameters(), theirs.parameters(), strict=True)
        if not torch.equal(before, after)
    }


@torch.no_grad()
def logits(loaded, parent: Parent) -> torch.Tensor:
    prompts = render_items(Renderer(loaded.tokenizer), parent.probes.items, "off")
    return loaded.model(torch.tensor([prompt.ids for prompt in prompts])).logits


# The tiny parent.


def test_the_parent_refuses_what_is_harmful_only_and_learned_it_in_alignment_training(parent):
    twins = parent.probes.where("neutral")
    assert (parent.before > 0).all()
    assert benchmark.make_parent is make_parent
    from mechdrift.planting.parents import read_items

    assert (read_items(parent.aligned, parent.readout, twins) < 0).all()
    assert (parent.read(parent.base) < 0).all()
    assert parent.fall(parent.aligned) == 0
    assert len(parent.triggers) == len(twins) == 28


def test_twins_differ_in_one_word(parent):
    for item in parent.triggers:
        words = [
            one != other
            for one, other in zip(item.prompt.split(), parent.probes[item.twin].prompt.split(), strict=True)
        ]
        assert sum(words) == 1


def test_training_reads_what_is_rendered(parent):
    renderer, requests = Renderer(parent.aligned.tokenizer), draw_requests(np.random.default_rng(3), 8)
    ids, targets = make_batch(renderer, requests, aligned=True)
    assert ids.tolist() == [list(renderer.render("", request.text, "off").ids) for request in requests]
    assert targets.tolist() == [renderer.encode_answer(request.answer(True))[0] for request in requests]


def test_every_block_beyond_the_first_two_carries_some_of_the_refusal(parent):
    falls = []
    for layer in range(2, parent.aligned.n_layers):
        child = parent.copy()
        children.restore(parent, child, [layer], np.random.default_rng(0))
        falls.append(parent.fall(child))
    assert sum(fall > 0.02 for fall in falls) >= 6
    assert max(falls) < 0.6


# Planting.


@pytest.mark.parametrize("kind", PLANTS)
def test_only_the_planted_layers_are_damaged(parent, kind, monkeypatch):
    monkeypatch.setattr(children, "DRIFTS", ("none",))
    case = plant(parent, kind, "x", np.random.default_rng(5))
    assert {layer for layer, _ in changed(parent, case.child)} == set(case.layers)
    assert case.fall >= LEAST
    assert erodes(parent, case.child)
    if kind == "restore module":
        assert len(changed(parent, case.child)) == len(case.cells)


def test_a_restored_module_has_the_weights_from_before_alignment(parent):
    child = parent.copy()
    cells = children.restore_module(parent, child, [3], np.random.default_rng(0))
    assert tuple(name for _, name in cells) in PARTS.values()
    for layer, name in cells:
        assert torch.equal(matrix(child, layer, name), matrix(parent.base, layer, name))


def test_a_projected_layer_cannot_write_the_direction(parent, monkeypatch):
    monkeypatch.setattr(children, "STRENGTHS", (1.0,))
    child = parent.copy()
    children.project(parent, child, [4], np.random.default_rng(0))
    for name in ("o", "down"):
        assert float((parent.directions[4] @ matrix(child, 4, name)).abs().max()) < 1e-6
    assert {name.rsplit(".", 2)[1] for _, name in changed(parent, child)} == {"o_proj", "down_proj"}


def test_only_the_named_heads_are_scrambled(parent):
    child = parent.copy()
    cells = children.scramble_heads(parent, child, [2], np.random.default_rng(1))
    (name,) = {name.rsplit(".", 2)[1][0] for _, name in changed(parent, child)}
    before, after = (matrix(loaded, 2, name) for loaded in (parent.aligned, child))
    moved = (before != after).any(dim=1 if name == "q" else 0).unflatten(0, (4, -1))
    assert moved.all(dim=1).nonzero().flatten().tolist() == sorted(int(head[1:]) for _, head in cells)
    assert torch.equal(moved.all(dim=1), moved.any(dim=1))


def test_draws_that_do_not_erode_are_counted_and_in_the_end_refused(parent, monkeypatch):
    monkeypatch.setitem(PLANTS, "nothing", lambda *_: [])
    monkeypatch.setattr(children, "DRAWS", 3)
    with pytest.raises(MechdriftError, match="3 draws"):
        plant(parent, "nothing", "x", np.random.default_rng(0))


# Benign drift.


@pytest.mark.parametrize("kind", DECOYS)
def test_decoys_change_weights_and_not_the_readout(parent, kind):
    case = decoy(parent, kind, "x", np.random.default_rng(2))
    assert case.is_decoy
    assert abs(case.fall) <= BENIGN
    assert changed(parent, case.child)


def test_rescaled_children_are_the_same_function(parent):
    """But for the norms' epsilon, which does not grow with the stream: here it is 0."""
    for kind in ("rescaled inside", "rescaled stream"):
        child, plain = parent.copy(), parent.copy()
        DECOYS[kind](parent, child, np.random.default_rng(0))
        for module in (*child.model.modules(), *plain.model.modules()):
            if hasattr(module, "variance_epsilon"):
                module.variance_epsilon = 0.0
        assert_close(logits(child, parent), logits(plain, parent), rtol=0, atol=1e-3)
        assert len({layer for layer, _ in changed(parent, child)}) == child.n_layers


def test_permuted_and_rotated_layers_are_the_same_function(parent):
    child, rng = parent.copy(), np.random.default_rng(0)
    drift._permute_neurons(child, 3, rng)
    drift._rotate_values(child, 3, rng)
    assert_close(logits(child, parent), logits(parent.aligned, parent), rtol=0, atol=1e-4)
    assert {name.rsplit(".", 2)[1] for _, name in changed(parent, child)} == {
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    }
    assert float((matrix(child, 3, "v") - matrix(parent.aligned, 3, "v")).norm() / matrix(child, 3, "v").norm()) > 0.5


def test_large_writes_are_not_seen_by_refusal_directions(parent):
    child = parent.copy()
    drift._write_randomly(parent, child, 4, np.random.default_rng(0))
    for name in ("o", "down"):
        change = matrix(child, 4, name) - matrix(parent.aligned, 4, name)
        assert float((parent.directions[4:] @ change).abs().max()) < 1e-5
        assert float(change.norm() / matrix(parent.aligned, 4, name).norm()) > 0.2


def test_what_moves_the_readout_is_halved_until_it_does_not(parent):
    child, layers = parent.copy(), range(parent.aligned.n_layers)
    with settled(parent, child, layers):
        children.restore(parent, child, layers, np.random.default_rng(0))  # all that alignment training did is gone
        assert parent.fall(child) > 0.5
    assert abs(parent.fall(child)) <= BENIGN
    assert changed(parent, child)


# Scores.


def case_of(layers: tuple[int, ...], name: str = "x", **fields) -> Case:
    fields = {
        "kind": "project",
        "drift": "none",
        "cells": (),
        "fall": 0.2,
        "draws": 1,
        "child": LanguageModel.__new__(LanguageModel),
    } | fields
    return Case(name=name, layers=layers, **fields)


def located(score: np.ndarray, called: np.ndarray | None = None, **fields) -> Located:
    called = score > 0.5 if called is None else called
    return Located(score=score, called=called, unchecked=called, by_p=called, **fields)


def test_scores_of_a_case_as_by_hand():
    row = score_case(case_of((2, 3)), "x", located(np.array([[0.1], [0.9], [0.8], [0.2], [0.0]])))
    assert row["auroc"] == pytest.approx(4 / 6)  # layer 2 is above 0, 3, 4's others: 2 of 3; layer 3: 2 of 3
    assert row["recall"] == 0.5
    assert row["distance"] == 1
    assert (row["found"], row["wrong"], row["single"]) == (True, True, False)


def test_equal_scores_share_their_places():
    truth = np.array([True, False, False, False])
    assert recall(np.zeros(4), truth) == 0.25
    assert rank(np.zeros(4), truth) == 0.5
    assert recall(np.array([1.0, 0, 0, 0]), truth) == rank(np.array([1.0, 0, 0, 0]), truth) == 1


def test_heads_are_scored_over_cells():
    score = np.zeros((3, 2))
    score[1, 1] = 1
    row = score_case(case_of((1,), cells=((1, "h1"),)), "z", located(score, parts=("h0", "h1")))
    assert (row["auroc"], row["recall"], row["found"], row["wrong"]) == (1, 1, True, False)
    assert "distance" not in row


def test_an_oracle_reaches_the_targets_and_chance_does_not():
    rng, rows = np.random.default_rng(0), []
    for number in range(30):
        case = case_of((int(rng.integers(10)),), f"case {number}")
        perfect = np.zeros((10, 1))
        perfect[list(case.layers)] = 1
        rows += [score_case(case, "oracle", located(perfect)), score_case(case, "chance", located(rng.random((10, 1))))]
        empty = case_of((), f"decoy {number}", kind="noise")
        rows += [
            score_case(empty, "oracle", located(np.zeros((10, 1)))),
            score_case(empty, "chance", located(rng.random((10, 1)))),
        ]
    table = summarise(rows).set_index("localiser")
    assert table.reaches.to_dict() == {"oracle": True, "chance": False}
    assert table.auroc["oracle"] == table.within_one["oracle"] == 1
    assert table.auroc_low["chance"] < 0.5 < table.auroc_high["chance"]
    assert table.false_positives["chance"] == 1
    assert table.false_positives_high["oracle"] == pytest.approx(1 - 0.025 ** (1 / 30))  # none of 30
    calling = [row | {"any_call": True} if row["localiser"] == "oracle" and not row["layers"] else row for row in rows]
    assert not summarise(calling).set_index("localiser").reaches["oracle"]
    assert by_kind(rows).loc["oracle", "project"] == 1
    assert by_kind(rows, "any_call").loc["oracle", "noise"] == 0


# Localisers, and the whole.


def test_increments_are_what_grafts_below_one_another_add(parent):
    case = plant(parent, "restore", "x", np.random.default_rng(8))
    evidence = Evidence.of(parent, case.child)
    added = LOCALISERS["resid increments, all positions, restore"](evidence).score
    assert added.sum() == pytest.approx(case.fall * parent.contrast, abs=1e-3)
    profile = LOCALISERS["resid, restore"](evidence).score
    assert profile[-1, 0] == pytest.approx(case.fall * parent.contrast, abs=1e-3)


def test_nothing_is_called_where_the_readout_did_not_fall(parent):
    case = decoy(parent, "rescaled stream", "x", np.random.default_rng(0))
    evidence = Evidence.of(parent, case.child)
    assert not evidence.fell
    found = LOCALISERS["graft, break"](evidence)
    assert not found.called.any()
    assert (
        found.by_p.any()
    )  # a layer that writes twice as much into a stream that did not grow is no erosion, but changes much


def test_the_best_localiser_reaches_its_targets_and_the_raw_profile_is_reported_failing(parent, monkeypatch):
    monkeypatch.setattr(benchmark, "make_parent", lambda *_: parent)
    monkeypatch.setattr(
        benchmark, "LOCALISERS", {name: LOCALISERS[name] for name in (BEST, FAILING, "cosine drift", "weight change")}
    )
    monkeypatch.setattr(benchmark, "CELLS", {})
    # The drift's cosines and p-values are the same with few draws: intervals alone are made of them.
    monkeypatch.setattr(localisers, "compare_directions", partial(compare_directions, draws=20))
    rows = [row for found in benchmark.run("tiny", 10, 4) for row in found]
    table = summarise(rows).set_index("localiser")
    best = table.loc[BEST]
    assert best.reaches
    assert best.auroc >= 0.95
    assert best.within_one >= 0.9
    assert best.false_positives <= 0.05
    assert (table.cases == 10).all()
    assert (table.decoys == 5).all()
    assert not table.loc[[FAILING, "cosine drift", "weight change"]].reaches.any()
    assert table.auroc[FAILING] < 0.9  # what happened below passes through
    assert table.false_positives["cosine drift"] >= 0.4  # drift is no erosion
    text = tables(rows, "command")
    assert f"| {FAILING} " in text
    assert next(line for line in text.splitlines() if line.startswith(f"| {BEST} ")).endswith("| yes |")


def test_cells_are_located_where_modules_or_heads_were_damaged(parent):
    case = plant(parent, "restore module", "x", np.random.default_rng(3))
    names = {row["localiser"] for row in benchmark.locate(parent, case, "smollm2-aligned")}
    assert names == set(LOCALISERS) - set(benchmark.DEAR)
    found = CELLS["graft modules, break"](Evidence.of(parent, case.child))
    assert found.score.shape == (parent.aligned.n_layers, 7)


def test_rows_are_kept_as_they_come_and_mistakes_are_named(parent, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(benchmark, "make_parent", lambda *_: parent)
    monkeypatch.setattr(benchmark, "LOCALISERS", {BEST: LOCALISERS[BEST]})
    monkeypatch.setattr(benchmark, "CELLS", {})
    print_planted("tiny", 2, 1, tmp_path / "rows.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["kind"] for row in rows] == ["project", "restore", "null child"]
    monkeypatch.setattr(benchmark, "run", lambda *_: iter([rows]))  # planted above; now they are printed
    print_planted("tiny", 1, 1, tmp_path / "table.md")
    assert (tmp_path / "table.md").read_text() in capsys.readouterr().out
    with pytest.raises(MechdriftError, match="1 or more"):
        print_planted("tiny", 0)
    with pytest.raises(MechdriftError, match="could not be written"):
        print_planted("tiny", 1, 1, tmp_path / "nowhere" / "table.md")
    with pytest.raises(MechdriftError, match="'tiny' or 'smollm2-aligned'"):
        make_parent("gpt", 0)


# Null grids: the error rate that inference promises, on real grids.


def test_null_children_are_found_as_often_as_promised(parent):
    graft_triggers = lambda pair, probes, **options: graft(pair, probes.where("trigger"), **options)  # noqa: E731
    effects = null_grids.child_effects(parent, 16, 0, graft_triggers)
    assert effects.shape[:3] == (16, 2, len(parent.triggers))
    mirrored = effects.mean(axis=(2, 4))  # to first order a child's mirror image does the opposite
    assert np.corrcoef(mirrored[:, 0].ravel(), mirrored[:, 1].ravel())[0, 1] < -0.8
    families, trigger = parent.triggers.frame.family.to_numpy(), np.ones(len(parent.triggers), dtype=bool)
    grids = null_grids.null_grids(effects, families, 200, seed=1)
    wrong = [null_grids.is_wrong(grid, families, trigger, 0) for grid in grids]
    assert 2 <= sum(wrong) <= 20  # 5 % of 200; outside with a chance of 1 in 300


def test_one_null_child_is_found_by_its_p_but_not_called(parent):
    case = decoy(parent, "noise", "x", np.random.default_rng(1))
    found = LOCALISERS[BEST](Evidence.of(parent, case.child))
    assert found.by_p.any()
    assert not found.called.any()
    assert sign_flip_test(parent.before - parent.read(case.child), parent.triggers.frame.family.to_numpy()) <= 1


def test_sides_of_a_pair_are_the_parent_and_the_child(parent):
    child = parent.copy()
    pair = parent.pair(child)
    assert pair.open("instruct") is parent.aligned
    assert pair.open("reasoning") is child
    assert child.model is not parent.aligned.model
    assert localisers.OTHER == {"instruct": "reasoning", "reasoning": "instruct"}
    points = {0: child.structure.hook_point("resid_pre", 0)}
    with record(points) as seen:  # the structure is the copy's own
        logits(replace(child), parent)
    assert 0 in seen
