"""Oracles: the mean difference by hand, a direction planted in noise, models that are the same."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from mechdrift.directions import FINDERS, family_halves, find_directions, mean_difference
from mechdrift.records import Activations, MechdriftError, ProbeItem, ProbeSet

FAMILIES, PAIRS, LAYERS, ROLES, D_MODEL = 8, 6, 3, 2, 64


def probe_set(families: int = FAMILIES, pairs: int = PAIRS) -> ProbeSet:
    """Items `trigger, neutral, trigger, ...`, twins side by side."""
    items = [
        ProbeItem(
            id=f"{family}-{pair}-{contrast}", dimension="safety", family=f"family-{family}", contrast=contrast,
            twin="", prompt="", aligned=(), misaligned=(),
        )
        for family in range(families) for pair in range(pairs) for contrast in ("trigger", "neutral")
    ]  # fmt: skip
    return ProbeSet(name="planted", dimension="safety", items=tuple(items))


def planted(size: float = 8.0, seed: int = 0) -> tuple[Activations, Tensor]:
    """Unit noise around a large common vector; triggers are moved along a unit vector of their layer and role."""
    generator = torch.Generator().manual_seed(seed)
    probes = probe_set()
    shape = (len(probes), LAYERS, ROLES, D_MODEL)
    truth = torch.nn.functional.normalize(torch.randn(LAYERS, ROLES, D_MODEL, generator=generator), dim=-1)
    is_trigger = torch.tensor([item.is_trigger for item in probes])[:, None, None, None]
    common = 50 * torch.randn(LAYERS, ROLES, D_MODEL, generator=generator)
    sides = [common + torch.randn(shape, generator=generator) + size * truth * is_trigger for _ in range(2)]
    activations = Activations(
        probes=probes, site="resid_pre", layers=(0, 4, 8), roles=("user", "answer"), think="off",
        instruct=sides[0], reasoning=sides[1],
    )  # fmt: skip
    return activations, truth


def test_mean_difference_by_hand():
    trigger, neutral = torch.tensor([[1.0, 4.0], [3.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert mean_difference(trigger, neutral).tolist() == [2, 1]


def test_mean_difference_is_exact_beside_a_large_common_vector():
    """In float32 a running sum of a million small steps would drift away; the sum is taken in float64."""
    trigger, neutral = torch.full((1_000_000, 1), 1000.125), torch.full((1_000_000, 1), 1000.0)
    assert mean_difference(trigger, neutral).item() == pytest.approx(0.125, abs=1e-9)


def test_the_planted_direction_is_found():
    activations, truth = planted()
    directions = find_directions(activations)
    for side in ("instruct", "reasoning"):
        found = directions.of(side)
        assert found.norm(dim=-1).numpy() == pytest.approx(1)
        assert ((found * truth).sum(-1) >= 0.95).all()
        assert directions.frame[f"norm_{side}"].between(7.5, 9).all()
    assert directions.dimension == "safety"
    assert directions.layers == (0, 4, 8)


def test_halves_are_made_of_whole_families_and_are_the_same_for_both_models():
    activations, _ = planted()
    halves = family_halves(activations, splits=16, seed=0)
    for half in halves:
        first, second = (set(activations.families[mask]) for mask in (half, ~half))
        assert not first & second
        assert len(first) == len(second) == FAMILIES / 2
    assert len(np.unique(halves, axis=0)) > 8
    same = find_directions(replace(activations, reasoning=activations.instruct))
    assert torch.equal(same.split_instruct, same.split_reasoning)
    assert torch.equal(same.instruct, same.reasoning)


def test_split_directions_are_those_of_the_half_alone():
    activations, _ = planted()
    directions = find_directions(activations, splits=3, seed=5)
    assert directions.split_instruct.shape == (3, 2, LAYERS, ROLES, D_MODEL)
    assert directions.split_instruct.dtype == torch.float32
    is_trigger = activations.is_trigger
    for split, half in enumerate(family_halves(activations, splits=3, seed=5)):
        for index, mask in enumerate((half, ~half)):
            recorded = activations.reasoning.numpy().astype(float)
            vector = recorded[mask & is_trigger].mean(0) - recorded[mask & ~is_trigger].mean(0)
            expected = vector / np.linalg.norm(vector, axis=-1, keepdims=True)
            assert directions.split_reasoning[split, index].numpy() == pytest.approx(expected, abs=1e-6)


def test_each_half_holds_both_classes_also_where_families_hold_one():
    """Benchmarks often have families of harmful and families of harmless prompts."""
    activations, _ = planted()
    items = [item for item in activations.probes if item.is_trigger == (item.family < "family-4")]
    keep = [activations.probes.items.index(item) for item in items]
    lopsided = replace(
        activations, probes=replace(activations.probes, items=tuple(items)),
        instruct=activations.instruct[keep], reasoning=activations.reasoning[keep],
    )  # fmt: skip
    halves = family_halves(lopsided, splits=50, seed=0)
    assert (halves[:, lopsided.is_trigger].mean(axis=1) == 0.5).all()
    assert (halves[:, ~lopsided.is_trigger].mean(axis=1) == 0.5).all()


def test_no_difference_is_a_zero_vector_and_not_nan():
    activations, _ = planted()
    activations.instruct[:, 0, 1] = 0.1
    directions = find_directions(activations)
    assert (directions.instruct[0, 1] == 0).all()
    assert (directions.split_instruct[:, :, 0, 1] == 0).all()
    assert directions.norm_instruct[0, 1] == 0
    assert directions.instruct.isfinite().all()


def test_a_new_finder_needs_a_function_and_a_name(monkeypatch: pytest.MonkeyPatch):
    def medians(trigger: Tensor, neutral: Tensor) -> Tensor:
        return trigger.median(dim=0).values - neutral.median(dim=0).values

    monkeypatch.setitem(FINDERS, "medians", medians)
    activations, truth = planted()
    directions = find_directions(activations, method="medians")
    assert directions.method == "medians"
    assert ((directions.instruct * truth).sum(-1) > 0.9).all()


def test_nothing_given_is_changed():
    activations, _ = planted()
    before = activations.instruct.clone()
    find_directions(activations)
    assert torch.equal(activations.instruct, before)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_an_activation_that_is_no_number_is_named(bad: float):
    activations, _ = planted()
    activations.reasoning[5, 1, 0, 7] = bad
    with pytest.raises(MechdriftError, match=r"reasoning model's .* '0-2-neutral' at layer 4, role 'user'"):
        find_directions(activations)


def test_a_missing_class_is_named():
    activations, _ = planted()
    triggers = replace(
        activations, probes=activations.probes.where("trigger"),
        instruct=activations.instruct[::2], reasoning=activations.reasoning[::2],
    )  # fmt: skip
    with pytest.raises(MechdriftError, match="48 trigger and 0 neutral items in 8 families"):
        find_directions(triggers)


def test_an_unknown_method_is_answered_with_the_known_ones():
    with pytest.raises(MechdriftError, match="mean_difference"):
        find_directions(planted()[0], method="magic")
