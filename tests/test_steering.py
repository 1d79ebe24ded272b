"""Steering back against plain forward passes, on a planted pair, and its controls against their definitions."""

import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_model, make_tokenizer
from test_capture import load, make_probes, own_answers, pair_of, render_all
from test_selection import directions_of, planted

from mechdrift.activations.batching import pad
from mechdrift.activations.prompts import render_probes
from mechdrift.activations.readouts import make_readout
from mechdrift.directions.finders import find_in
from mechdrift.hooks import edit
from mechdrift.probes.rendering import Renderer
from mechdrift.records import MechdriftError
from mechdrift.steering.asked import items_of
from mechdrift.steering.controls import CONTROLS, Setting, permute_labels, settings, with_controls, wrong_layer
from mechdrift.steering.curves import steer_back
from mechdrift.steering.edits import ablate, role_mask, steer
from mechdrift.steering.selection import select_direction
from mechdrift.steering.trials import solution_log_probability

ROLES = ("template_tail[-1]", "think_close[-1]")


@torch.no_grad()
def naive(pair, side, probes, edits_of, think, answers=None) -> tuple[np.ndarray, torch.Tensor]:
    """Readouts and logits, each prompt alone."""
    loaded, readout = pair.open(side), make_readout(Renderer(make_tokenizer()), probes)
    logits = []
    for prompt in render_probes(pair, probes, think, answers):
        with edit(edits_of(loaded, prompt)):
            logits.append(loaded.model(torch.tensor([prompt.ids]), use_cache=False).logits[0, prompt.readout_position])
    return np.array([readout.of(row, item.id) for row, item in zip(logits, probes, strict=True)]), torch.stack(logits)


def kl(p, q):
    p, q = p.double().log_softmax(-1), q.double().log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1).mean().item()


@pytest.mark.parametrize(("think", "roles"), [("off", None), ("own", ("think", "think_close"))])
def test_every_row_is_what_plain_passes_give(tiny_pair, think, roles):
    probes = make_probes(12)
    answers = own_answers(probes, "reasoning", first=60) if think == "own" else None
    directions = directions_of(tiny_pair, probes, think, answers, ROLES)
    selection = select_direction(tiny_pair, directions, pairs=1, answers=answers)
    _, role = selection.closest
    found = steer_back(
        tiny_pair,
        directions,
        selection,
        layers=(1,),
        strengths=(1.0, -2.0),
        controls=1,
        pairs=3,
        answers=answers,
        roles=roles,
    )
    asked = items_of(probes, selection.families["test"], 3, 0)
    is_trigger = np.array([item.is_trigger for item in asked])
    vectors = with_controls(directions.activations, selection, role, 1, 0)
    base = {side: naive(tiny_pair, side, asked, lambda *_: {}, think, answers) for side in ("instruct", "reasoning")}
    for arm, side, strengths in (("ablate", "instruct", (1.0,)), ("add", "reasoning", (1.0, -2.0))):
        tried = list(settings(vectors, selection.layers, (1,), 4, strengths, adding=arm == "add"))
        assert [setting.vector for setting in tried] == ["direction", "random", "permuted", "wrong layer"] * len(
            strengths
        )
        for setting in tried:

            def edits_of(loaded, prompt, setting=setting, arm=arm):
                if arm == "ablate":
                    return ablate(loaded, setting.tensor)
                where = None if roles is None else role_mask([prompt], pad([prompt.ids], 0), roles)
                return steer(loaded, setting.tensor, setting.place, where=where)

            readouts, logits = naive(tiny_pair, side, asked, edits_of, think, answers)
            row = (
                found.frame[
                    (found.frame.arm == arm)
                    & (found.frame.vector == setting.vector)
                    & (found.frame.layer == setting.layer)
                    & (found.frame.strength == setting.strength)
                ]
                .set_index("measure")
                .estimate
            )
            before, before_logits = base[side]
            expected = {
                "trigger": readouts[is_trigger].mean(),
                "neutral": readouts[~is_trigger].mean(),
                "trigger_change": (readouts - before)[is_trigger].mean(),
                "neutral_change": (readouts - before)[~is_trigger].mean(),
                "kl": kl(before_logits[~is_trigger], logits[~is_trigger]),
            }
            for measure, value in expected.items():
                assert row[measure] == pytest.approx(value, abs=3e-4), (arm, setting.vector, measure)
    other = found.frame[found.frame.vector == "other model"].set_index("measure").estimate
    assert other["trigger"] == pytest.approx(base["instruct"][0][is_trigger].mean(), abs=1e-4)
    assert other["kl"] == pytest.approx(
        kl(base["reasoning"][1][~is_trigger], base["instruct"][1][~is_trigger]), abs=1e-4
    )
    assert set(found.frame[found.frame.vector == "none"].measure) == {"trigger", "neutral"}


@pytest.fixture(scope="module")
def eroded():
    """The planted model, a child that no longer writes the direction, and the parent's selected direction."""
    parent, _ = planted()
    child = copy.deepcopy(parent)
    child.model.layers[2].self_attn.o_proj.weight.data.zero_()
    pair = pair_of(parent, child)
    directions = directions_of(pair, make_probes(16), roles=ROLES)
    return pair, directions, select_direction(pair, directions, screen=4)


def test_the_parents_direction_brings_the_behaviour_back_and_its_controls_do_not(eroded):
    found = steer_back(*eroded, strengths=(0.25, 1.0), tasks=3)
    recovery = (
        found.recovery[found.recovery.strength == 1].groupby("vector").recovery.apply(lambda part: part.abs().max())
    )
    assert recovery["direction"] == pytest.approx(1, abs=0.05)
    assert recovery["random"] < 0.4
    kept = found.of("ablate", "trigger_change").set_index("vector").estimate
    assert kept["direction"] == pytest.approx(
        -found.of("add", "trigger").set_index("vector").estimate["other model"], rel=0.1
    )
    assert kept[["random"]].abs().max() < 0.3 * abs(kept["direction"])
    cosines = found.of("add", "kl").set_index("vector").cosine
    assert cosines["direction"].tolist() == pytest.approx([1, 1])
    assert cosines["random"].abs().max() < 0.5
    # Here all families hold the same direction, in different amounts: a permuted vector lies along it, and the table
    # says so.
    assert cosines["permuted"].abs().min() > 0.9
    over = found.of("add", "trigger_over_random").set_index("strength")
    assert (over.low > 0).all()
    tasks = found.of("add", "task_change")
    assert len(tasks) == 2 * 6
    assert (tasks.n == 3).all()
    assert found.facts["eligible"]


def test_numbers_stand_beside_their_intervals_and_counts(eroded):
    frame = steer_back(*eroded, strengths=(1.0,), controls=1, pairs=2).frame
    assert frame.columns.tolist() == [
        "arm",
        "side",
        "vector",
        "draw",
        "layer",
        "place",
        "strength",
        "cosine",
        "measure",
        "estimate",
        "low",
        "high",
        "n",
        "families",
    ]
    assert (frame.n == 2).all()
    assert ((frame.low <= frame.estimate + 1e-9) & (frame.estimate <= frame.high + 1e-9)).all()
    assert set(frame.vector) == {"none", "other model", "direction", *CONTROLS}


def test_without_an_eligible_candidate_the_closest_is_steered_with_and_that_is_said(eroded):
    pair, directions, _ = eroded
    selection = select_direction(pair, directions, screen=2, kl_at_most=-1)
    found = steer_back(pair, directions, selection, strengths=(1.0,), controls=0, pairs=1)
    assert not found.facts["eligible"]
    assert (found.facts["layer"], found.facts["role"]) == selection.closest
    nothing = replace(selection, frame=selection.frame.assign(bypass=np.nan), reason="no candidate is eligible.")
    with pytest.raises(MechdriftError, match="nothing to steer with"):
        steer_back(pair, directions, nothing)
    with pytest.raises(MechdriftError, match="no direction at layer 77"):
        steer_back(pair, directions, selection, layers=(77,))


def test_harmless_items_of_their_own_serve_kl_and_nothing_else(eroded):
    pair, directions, selection = eroded
    asked = items_of(make_probes(16), selection.families["test"], 2, 0)
    arguments = {"strengths": (1.0,), "controls": 1, "pairs": 2}
    plain = steer_back(pair, directions, selection, **arguments)
    same = steer_back(pair, directions, selection, harmless=asked.where("neutral"), **arguments)
    pd.testing.assert_frame_equal(plain.frame, same.frame, atol=1e-4)
    other = steer_back(pair, directions, selection, harmless=make_probes(5).where("trigger"), **arguments)
    assert (other.frame[other.frame.measure == "kl"].n == 5).all()
    assert np.allclose(other.of("add", "trigger").estimate, plain.of("add", "trigger").estimate, atol=1e-4)


# The controls.


def test_controls_are_as_long_as_the_direction_and_come_again_with_their_seed(eroded):
    _, directions, selection = eroded
    role = selection.closest[1]
    first, again, other = (with_controls(directions.activations, selection, role, 2, seed) for seed in (0, 0, 1))
    assert set(first) == {("direction", 0), ("random", 0), ("random", 1), ("permuted", 0), ("permuted", 1)}
    for key, vectors in first.items():
        assert torch.equal(vectors, again[key])
        lengths = first["direction", 0].norm(dim=-1)
        assert torch.allclose(vectors.norm(dim=-1), lengths, rtol=1e-4)
    assert not torch.equal(first["random", 0], first["random", 1])
    assert not torch.equal(first["random", 0], other["random", 0])


def test_permuting_exchanges_the_classes_of_half_the_families_and_of_no_others(tiny_pair):
    activations = directions_of(tiny_pair, make_probes(10), roles=ROLES).activations
    permuted = permute_labels(activations, seed=0)
    changed = {
        old.family for old, new in zip(activations.probes, permuted.probes, strict=True) if old.contrast != new.contrast
    }
    assert len(changed) == 5
    everything = np.ones((1, 20), dtype=bool)
    differences = activations.instruct[::2].double() - activations.instruct[1::2].double()
    signs = torch.tensor(
        [-1.0 if item.family in changed else 1.0 for item in activations.probes.where("trigger")]
    ).double()
    expected = (signs[:, None, None, None] * differences).mean(0)
    torch.testing.assert_close(find_in(permuted, "instruct", everything, "mean_difference")[0], expected)
    lone = tuple(replace(item, family=f"{item.family} {item.contrast}") for item in activations.probes)
    single = permute_labels(replace(activations, probes=replace(activations.probes, items=lone)), seed=1)
    assert sum(item.is_trigger for item in single.probes) == 10
    assert [item.contrast for item in single.probes] != [item.contrast for item in lone]


@pytest.mark.parametrize(
    ("layer", "known", "away"), [(2, range(8), 6), (6, range(8), 2), (3, (0, 3, 6), 6), (5, (5,), 5)]
)
def test_the_wrong_layer_is_half_the_network_away(layer, known, away):
    assert wrong_layer(layer, 8, tuple(known)) == away


def test_settings_name_where_they_act_and_carry_their_strength():
    direction = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [0.0, 0.0]])
    vectors = {("direction", 0): direction, ("random", 0): -direction}
    adding = list(settings(vectors, (0, 1, 2, 3), (0,), 4, (1.0, 0.5), adding=True))
    assert [(s.vector, s.layer, s.place, s.strength, round(s.cosine, 5)) for s in adding] == [
        (name, 0, place, strength, cosine)
        for strength in (1.0, 0.5)
        for name, place, cosine in (("direction", 0, 1), ("random", 0, -1), ("wrong layer", 2, 1))
    ]
    assert torch.equal(adding[5].tensor, 0.5 * direction[0])
    ablating = list(settings(vectors, (0, 1, 2, 3), (0,), 4, (1.0,), adding=False))
    assert torch.equal(ablating[2].tensor, direction[2])
    assert ablating[2].cosine == pytest.approx(0.5**0.5)
    assert [s.vector for s in settings(vectors, (0, 3, 1, 2), (0,), 4, (1.0,), adding=True)][2:] == ["wrong layer"]
    with pytest.raises(MechdriftError, match="no direction at layer 3"):
        list(settings(vectors, (0, 1, 2, 3), (3,), 4, (1.0,), adding=True))
    lone = {key: value[:1] for key, value in vectors.items()}  # one layer is known: no other is wrong
    assert [s.vector for s in settings(lone, (1,), (1,), 4, (1.0,), adding=True)] == ["direction", "random"]


# The price.


@pytest.mark.parametrize("roles", [None, ("think",)])
@torch.no_grad()
def test_log_probability_of_solutions_is_hugging_faces_loss(roles):
    loaded = load(make_model())
    rendered = [
        replace(prompt, item_id=str(i))
        for i, prompt in enumerate(
            render_all(make_probes(3), think="own", thinking=(70, 71, 72, 73), answer=(80, 81, 82))
        )
    ]
    setting = Setting(vector="direction", draw=0, layer=1, place=1, strength=1.0, cosine=1.0, tensor=2 * torch.ones(32))
    for tried in (None, setting):
        found = solution_log_probability(loaded, rendered, tried, roles)
        for value, prompt in zip(found, rendered, strict=True):
            ids = torch.tensor([prompt.ids])
            labels = torch.full_like(ids, -100)
            for role in ("think", "answer"):
                labels[0, slice(*prompt.roles[role])] = ids[0, slice(*prompt.roles[role])]
            where = None if roles is None else role_mask([prompt], pad([prompt.ids], 0), roles)
            with edit(steer(loaded, setting.tensor, 1, where=where) if tried else {}):
                assert value == pytest.approx(-loaded.model(ids, labels=labels).loss.item(), abs=1e-4)
    assert solution_log_probability(loaded, []).shape == (0,)
