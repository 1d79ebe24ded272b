"""Oracles: Hugging Face's hidden states of a tiny pair; a planted curve with a cliff; the same model twice."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from mechdrift.activations.capture import collect
from mechdrift.activations.one_model import SideActivations
from mechdrift.activations.prompts import render_probes
from mechdrift.directions import thinking
from mechdrift.directions.best_layer import best_layer
from mechdrift.directions.drift import compare_directions
from mechdrift.directions.finders import find_directions
from mechdrift.directions.thinking import (
    POSITIONS,
    READOUT_ROLE,
    TABLE_COLUMNS,
    along_thinking,
    closed_twins,
    plan_table,
    thinking_rows,
)
from mechdrift.probes.roles import role_span
from mechdrift.probes.sets import load_probes
from mechdrift.records import SIDES, Activations, Completion, Completions, Directions, MechdriftError, ProbeSet, Side


@pytest.fixture(scope="module")
def probes() -> ProbeSet:
    return load_probes("safety").sample(12)


def complete(item_id: str, seed: int, **changes) -> Completion:
    rng = np.random.default_rng(seed)
    row = {
        "item_id": item_id,
        "side": "reasoning",
        "think": "own",
        "thinking": "",
        "answer": "",
        "closed": True,
        "finished": True,
        "thinking_ids": tuple(map(int, rng.integers(70, 90, size=rng.integers(1, 12)))),
        "answer_ids": (72, 73, 74),
    }
    return Completion(**(row | changes))


@pytest.fixture(scope="module")
def answers(probes) -> Completions:
    return Completions(
        side="reasoning", think="own", rows=tuple(complete(item.id, seed) for seed, item in enumerate(probes))
    )


@pytest.fixture(scope="module")
def directions(tiny_pair, probes) -> Directions:
    return find_directions(collect(tiny_pair, probes, roles=("think_close[-1]",)), splits=2)


def with_rows(answers: Completions, **changed: Completion) -> Completions:
    return replace(answers, rows=tuple(changed.get(f"row{place}", row) for place, row in enumerate(answers)))


@pytest.mark.parametrize("side", ["instruct", "reasoning"])
def test_projections_are_those_of_the_hidden_states(tiny_pair, probes, answers, directions, side: Side):
    found = along_thinking(tiny_pair, probes, answers, directions, layer=2)
    unit = directions.instruct[2, 0].double().numpy()
    home = directions.activations.instruct[:, 2, 0].double().numpy() @ unit
    trigger, neutral = home[directions.activations.is_trigger].mean(), home[~directions.activations.is_trigger].mean()
    assert trigger - neutral == pytest.approx(float(directions.norm_instruct[2, 0]), rel=1e-5)
    loaded = tiny_pair.open(side)
    for place in (0, 5, 17):
        rendered = render_probes(tiny_pair, replace(probes, items=(probes.items[place],)), "own", answers)[0]
        with torch.inference_mode():
            hidden = (
                loaded.model(torch.tensor([rendered.ids]), output_hidden_states=True)
                .hidden_states[2][0]
                .double()
                .numpy()
            )
        expected = [
            (hidden[slice(*role_span(rendered, role))].mean(axis=0) @ unit - neutral) / (trigger - neutral)
            for role in POSITIONS
        ]
        assert getattr(found, side)[place] == pytest.approx(expected, abs=1e-4)


def test_the_same_model_twice_has_not_changed(twin_pair, probes, answers):
    directions = find_directions(collect(twin_pair, probes, roles=("think_close[-1]",)), splits=2)
    frame = along_thinking(twin_pair, probes, answers, directions, layer=2).frame
    assert (frame[frame.side == "change"][["projection", "low", "high"]] == 0).to_numpy().all()
    assert frame[frame.side != "change"].projection.abs().max() > 0


def planted(
    monkeypatch, probes: ProbeSet, curves: dict[str, np.ndarray], spread: float = 0.3, seed: int = 0
) -> Directions:
    """Directions along the first axis, of length 4.

    `collect_side` returns triggers on a curve of each side, neutral items at 0.
    """
    rng = np.random.default_rng(seed)
    is_trigger = np.array([item.is_trigger for item in probes])

    def fake(pair, kept: ProbeSet, side: Side, **asked) -> SideActivations:
        assert asked["layers"] == (7,)
        values = spread * rng.standard_normal((len(kept), 1, len(POSITIONS), 6))
        values[:, 0, :, 0] += 10 + 4 * np.array([item.is_trigger for item in kept])[:, None] * curves[side]
        sites = {"resid_pre": torch.from_numpy(values).float()}
        items = tuple(item.id for item in kept)
        return SideActivations(model=side, items=items, layers=(7,), roles=POSITIONS, n_heads=1, sites=sites)

    monkeypatch.setattr(thinking, "collect_side", fake)
    home = torch.zeros(len(probes), 1, 1, 6)
    home[..., 0] = 10 + 4.0 * torch.from_numpy(is_trigger)[:, None, None]
    recorded = Activations(
        probes=probes,
        site="resid_pre",
        layers=(7,),
        roles=("think_close[-1]",),
        think="off",
        instruct=home,
        reasoning=home,
    )
    return find_directions(recorded, splits=1)


def test_a_planted_cliff_is_found_with_its_size(monkeypatch, tiny_pair, probes, answers):
    flat, cliff = np.full(8, 0.8), np.array([0.5, 0.6, 0.9, 0.8, 0.7, 0.2, 0.2, 0.1])
    directions = planted(monkeypatch, probes, {"instruct": flat, "reasoning": cliff}, spread=0.1)
    frame = along_thinking(tiny_pair, probes, answers, directions, layer=7).frame
    table = frame[frame.contrast == "difference"].set_index(["side", "position"])
    assert table.loc["reasoning"].projection[list(POSITIONS)].to_numpy() == pytest.approx(cliff, abs=0.08)
    assert table.projection["reasoning", "cliff"] == pytest.approx(-0.7, abs=0.1)
    assert table.projection["reasoning", "fall"] == pytest.approx(-0.6, abs=0.1)
    assert table.high["reasoning", "fall"] < 0 < table.high["instruct", "fall"]
    assert table.projection["change", "think_close[-1]"] == pytest.approx(-0.6, abs=0.1)
    assert table.projection["change", "fall"] == pytest.approx(
        table.projection["reasoning", "fall"] - table.projection["instruct", "fall"]
    )
    neutral = frame[(frame.contrast == "neutral") & frame.position.isin(POSITIONS)]
    assert neutral.projection.to_numpy() == pytest.approx(0, abs=0.1)
    assert (frame.low <= frame.high).all()
    assert (frame.n == frame.contrast.map({"trigger": 12, "neutral": 12, "difference": 24})).all()


def test_intervals_hold_the_planted_values(monkeypatch, tiny_pair, probes, answers):
    held = []
    for seed in range(40):
        directions = planted(
            monkeypatch, probes, {"instruct": np.full(8, 0.8), "reasoning": np.full(8, 0.3)}, 2.0, seed
        )
        frame = along_thinking(tiny_pair, probes, answers, directions, layer=7, draws=200).frame
        frame = frame[(frame.contrast == "difference") & frame.position.isin(POSITIONS)]
        truth = frame.side.map({"instruct": 0.8, "reasoning": 0.3, "change": -0.5})
        held += list((frame.low <= truth) & (truth <= frame.high))
    assert 0.85 <= np.mean(held) <= 0.98


def test_what_was_not_thought_to_an_end_is_left_out_with_its_twin(probes, answers):
    first, second, third, fourth = (probes.items[place] for place in (0, 2, 4, 6))
    changed = with_rows(
        answers,
        row0=complete(first.id, 0, closed=False),
        row2=complete(second.id, 1, thinking_ids=()),
        row4=complete(third.id, 2, answer_ids=()),
    )
    changed = replace(changed, rows=tuple(row for row in changed if row.item_id != fourth.id))
    kept, left_out = closed_twins(probes, changed)
    gone = {name for item in (first, second, third, fourth) for name in (item.id, item.twin)}
    assert {item.id for item in kept} == {item.id for item in probes} - gone
    assert left_out == {"thinking not closed": 1, "no thinking": 1, "no answer": 2, "twin of one": len(gone) - 4}


def test_the_count_of_items_left_out_stands_in_every_row(tiny_pair, probes, answers, directions):
    changed = with_rows(answers, row0=complete(probes.items[0].id, 0, closed=False))
    found = along_thinking(tiny_pair, probes, changed, directions, layer=1)
    assert (found.frame.left_out == 2).all()
    assert found.instruct.shape == (len(probes) - 2, len(POSITIONS))
    assert found.left_out == {"thinking not closed": 1, "twin of one": 1}


def test_places_without_a_direction_and_sets_without_thinking_are_refused(tiny_pair, probes, answers, directions):
    with pytest.raises(MechdriftError, match="no direction at layer 9"):
        along_thinking(tiny_pair, probes, answers, directions, layer=9)
    nobody = replace(answers, rows=tuple(replace(row, closed=False) for row in answers))
    with pytest.raises(MechdriftError, match="larger budget"):
        along_thinking(tiny_pair, probes, nobody, directions, layer=1)


def test_an_audit_reads_at_the_layer_that_separates_best(tiny_pair, probes, answers, directions):
    drift = compare_directions(directions, draws=20).frame
    layer = best_layer(drift, READOUT_ROLE)
    found = along_thinking(tiny_pair, probes, answers, directions, layer)
    table = thinking_rows(found, drift)
    assert set(table.layer) == {layer}
    assert set(table.auroc) == {drift.set_index("layer").auroc_instruct[layer]}
    nobody = replace(answers, rows=tuple(replace(row, closed=False) for row in answers))
    assert list(table.columns) == list(TABLE_COLUMNS)
    reading = plan_table(probes, answers, directions, drift)
    assert reading is not None
    for side in SIDES:
        np.testing.assert_array_equal(reading.project_side(tiny_pair, side), getattr(found, side))
    assert plan_table(probes, nobody, directions, drift) is None


def test_the_best_layer_is_neither_deep_nor_noise():
    drift = pd.DataFrame(
        {
            "layer": range(10),
            "role": "think_close[-1]",
            "below_null_instruct": [True, *[False] * 9],
            "auroc_instruct": [1.0, 0.6, 0.9, 0.8, 0.9, 0.7, 0.7, 0.7, 1.0, 1.0],
            "cosine": [np.nan, *[0.9] * 9],
            "split_half_instruct": [0.9, 0.1, 0.5, 0.5, 0.6, 0.5, 0.5, 0.5, 0.9, 0.9],
        }
    )
    assert best_layer(drift, READOUT_ROLE) == 4
    assert best_layer(drift.assign(below_null_instruct=True, cosine=0.9), READOUT_ROLE) == 0
    assert best_layer(drift.assign(below_null_instruct=True), READOUT_ROLE) == 4
    assert best_layer(drift, "user") is None
    assert best_layer(drift.assign(cosine=np.nan), READOUT_ROLE) is None
