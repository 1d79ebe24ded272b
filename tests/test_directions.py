"""Oracles: the mean difference by hand, a direction planted in noise, models that are the same."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf
from sklearn.decomposition import TruncatedSVD
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from mechdrift.directions.cones import direction_cones
from mechdrift.directions.families import family_contrasts, family_halves, twin_rows
from mechdrift.directions.finders import FINDERS, at_roles, find_directions, lda, logistic, mean_difference, pca
from mechdrift.records import Activations, MechdriftError, ProbeItem, ProbeSet

FAMILIES, PAIRS, LAYERS, ROLES, D_MODEL = 8, 6, 3, 2, 64


OTHER = {"trigger": "neutral", "neutral": "trigger"}


def probe_set(families: int = FAMILIES, pairs: int = PAIRS) -> ProbeSet:
    """Items `trigger, neutral, trigger, ...`, twins side by side."""
    items = [
        ProbeItem(
            id=f"{family}-{pair}-{contrast}",
            dimension="safety",
            family=f"family-{family}",
            contrast=contrast,
            twin=f"{family}-{pair}-{OTHER[contrast]}",
            prompt="",
            aligned=(),
            misaligned=(),
        )
        for family in range(families)
        for pair in range(pairs)
        for contrast in ("trigger", "neutral")
    ]
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
        probes=probes,
        site="resid_pre",
        layers=(0, 4, 8),
        roles=("user", "answer"),
        think="off",
        instruct=sides[0],
        reasoning=sides[1],
    )
    return activations, truth


def test_what_is_kept_of_one_role_is_what_would_be_found_there():
    activations, _ = planted()
    alone = replace(
        activations,
        roles=("answer",),
        instruct=activations.instruct[:, :, 1:],
        reasoning=activations.reasoning[:, :, 1:],
    )
    kept, found = at_roles(find_directions(activations), "answer"), find_directions(alone)
    for name in ("instruct", "reasoning", "norm_instruct", "norm_reasoning", "split_instruct", "split_reasoning"):
        assert torch.equal(getattr(kept, name), getattr(found, name))
    assert torch.equal(kept.activations.reasoning, alone.reasoning)
    assert kept.activations.instruct.untyped_storage().nbytes() == alone.instruct.nbytes


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
        activations,
        probes=replace(activations.probes, items=tuple(items)),
        instruct=activations.instruct[keep],
        reasoning=activations.reasoning[keep],
    )
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
        activations,
        probes=activations.probes.where("trigger"),
        instruct=activations.instruct[::2],
        reasoning=activations.reasoning[::2],
    )
    with pytest.raises(MechdriftError, match="48 trigger and 0 neutral items in 8 families"):
        find_directions(triggers)


def test_an_unknown_method_is_answered_with_the_known_ones():
    with pytest.raises(MechdriftError, match="mean_difference"):
        find_directions(planted()[0], method="magic")


EVERY_METHOD = pytest.mark.parametrize("method", FINDERS)


def cosines(a: Tensor, b: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=-1)


@EVERY_METHOD
def test_every_finder_finds_the_planted_direction_where_it_is_and_nowhere_else(method: str):
    activations, truth = planted()
    activations.instruct[:, 0] = torch.randn(
        activations.instruct[:, 0].shape, generator=torch.Generator().manual_seed(9)
    )
    directions = find_directions(activations, method=method, splits=2)
    found = cosines(directions.instruct, truth)
    assert (found[1:] >= 0.95).all()
    assert (found[0].abs() < 0.5).all()
    assert directions.norm_instruct[1:].numpy() == pytest.approx(8, abs=1)
    assert directions.instruct.norm(dim=-1).numpy() == pytest.approx(1)
    assert directions.instruct.dtype == torch.float32


@pytest.mark.parametrize("method", ["logistic", "lda"])
def test_unequal_noise_hides_the_direction_less_from_finders_that_whiten(method: str):
    """A few dimensions a thousand times noisier in variance than the rest, as in real residual streams."""
    activations, truth = planted(size=6)
    loud = torch.ones(D_MODEL)
    loud[:3] = 30
    common = activations.instruct.mean(dim=0)
    uneven = replace(activations, instruct=(activations.instruct - common) * loud + common)
    found = cosines(find_directions(uneven, method=method, splits=1).instruct, truth * loud)
    quiet = cosines(find_directions(uneven, method=method, splits=1).instruct[..., 3:], truth[..., 3:])
    plain = cosines(find_directions(uneven, splits=1).instruct, truth)
    assert found.isfinite().all()
    assert quiet.mean() > 0.85
    assert plain.abs().mean() < 0.6


def test_every_finder_treats_each_cell_by_itself():
    activations, _ = planted()
    trigger, neutral = (activations.instruct[:, 0][start::2].double() for start in (0, 1))
    for finder in FINDERS.values():
        alone = torch.stack([finder(trigger[:, role], neutral[:, role]) for role in range(ROLES)])
        torch.testing.assert_close(finder(trigger, neutral), alone)
        assert alone.dtype == torch.float64


def test_pca_is_the_first_component_of_the_differences_and_points_to_the_triggers():
    activations, _ = planted(size=3)
    trigger, neutral = (activations.instruct[start::2, 1, 1].double() for start in (0, 1))
    expected = torch.from_numpy(TruncatedSVD(1, algorithm="arpack").fit((trigger - neutral).numpy()).components_[0])
    assert cosines(pca(trigger, neutral), expected).abs().item() == pytest.approx(1)
    difference = mean_difference(trigger, neutral)
    assert (pca(trigger, neutral) @ difference) > 0
    assert torch.allclose(pca(neutral, trigger), -pca(trigger, neutral))


def test_pca_pairs_twins_in_whatever_order_they_stand():
    """Twins share a large topic of their own: with the wrong partners it does not cancel, and hides the direction."""
    activations, truth = planted()
    topics = 20 * torch.randn(FAMILIES * PAIRS, 1, 1, D_MODEL, generator=torch.Generator().manual_seed(3))
    recorded = activations.instruct + topics.repeat_interleave(2, dim=0)
    order = np.random.default_rng(0).permutation(len(recorded))
    shuffled = replace(
        activations,
        probes=replace(activations.probes, items=tuple(activations.probes.items[i] for i in order)),
        instruct=recorded[order],
        reasoning=activations.reasoning[order],
    )
    assert (cosines(find_directions(shuffled, method="pca", splits=1).instruct, truth) > 0.95).all()
    wrong = pca(recorded[::2].double(), recorded[1::2].roll(1, dims=0).double())
    assert (cosines(wrong, truth) < 0.6).all()


def test_twins_are_found_by_their_ids():
    activations, _ = planted()
    rows = twin_rows(activations)
    assert rows.tolist() == [index + 1 - 2 * (index % 2) for index in range(len(rows))]
    kept = replace(activations, probes=replace(activations.probes, items=activations.probes.items[:3]))
    assert twin_rows(kept).tolist() == [1, 0, -1]


def test_without_twins_there_is_no_paired_finder():
    activations, _ = planted()
    single = tuple(replace(item, twin="") for item in activations.probes)
    with pytest.raises(MechdriftError, match=r"twin pairs .*use one of mean_difference"):
        find_directions(replace(activations, probes=replace(activations.probes, items=single)), method="pca")


def test_logistic_is_that_of_scikit_learn_in_all_dimensions():
    activations, _ = planted(size=3)
    trigger, neutral = (activations.instruct[start::2, 1, 1].double() for start in (0, 1))
    both = torch.cat([trigger, neutral]).numpy()
    centred = both - both.mean(axis=0)
    fit = LogisticRegression(C=0.01, tol=1e-8, max_iter=1000).fit(
        centred / np.sqrt((centred**2).mean()), [1] * 48 + [0] * 48
    )
    assert cosines(logistic(trigger, neutral), torch.from_numpy(fit.coef_[0])).item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("width", [8, 64])
def test_lda_is_the_mean_difference_whitened_by_ledoit_and_wolf(width: int):
    """`width` dimensions, fewer and more than items."""
    generator = np.random.default_rng(0)
    trigger, neutral = generator.normal(size=(2, 15, width)) * np.linspace(0.2, 5, width)
    covariance, _ = ledoit_wolf(
        np.concatenate([trigger - trigger.mean(0), neutral - neutral.mean(0)]), assume_centered=True
    )
    expected = np.linalg.solve(covariance, trigger.mean(0) - neutral.mean(0))
    found = lda(torch.from_numpy(trigger), torch.from_numpy(neutral))
    assert cosines(found, torch.from_numpy(expected)).item() == pytest.approx(1)


@EVERY_METHOD
def test_without_a_difference_no_finder_finds_a_direction(method: str):
    activations, _ = planted()
    activations.instruct[:, 0, 1] = 0.25
    directions = find_directions(activations, method=method, splits=2)
    assert (directions.instruct[0, 1] == 0).all()
    assert directions.instruct.isfinite().all()
    cones = direction_cones(directions, draws=4)
    assert cones[(cones.side == "instruct") & (cones.layer == 0) & (cones.role == "answer")].cone_90.isna().all()
    assert cones.cone_90.isna().sum() == 1


def noisy(rank: int, size: float, cells: int, seed: int = 0) -> Activations:
    """One direction, the first axis, in many cells with noise of their own in `rank` dimensions; 16 families of two
    pairs."""
    probes, generator = probe_set(families=16, pairs=2), torch.Generator().manual_seed(seed)
    recorded = torch.zeros(2, len(probes), 1, cells, D_MODEL)
    recorded[..., :rank] = torch.randn(2, len(probes), 1, cells, rank, generator=generator)
    recorded[:, ::2, ..., 0] += size
    return Activations(
        probes=probes,
        site="resid_pre",
        layers=(0,),
        roles=tuple(f"answer[{cell}]" for cell in range(cells)),
        think="off",
        instruct=recorded[0],
        reasoning=recorded[1],
    )


@pytest.mark.parametrize("rank", [4, 16])
def test_the_cone_holds_the_true_direction_as_often_as_it_says(rank: int):
    directions = find_directions(noisy(rank, size=8, cells=200), splits=1)
    cones = direction_cones(directions)
    truth = np.degrees(np.arccos(torch.cat([directions.instruct[0, :, 0], directions.reasoning[0, :, 0]]).numpy()))
    assert 0.85 <= (truth <= cones.cone_90).mean() <= 0.95
    assert (cones.cone_median < cones.cone_90).all()
    assert cones.stability.between(0.9, 1).all()


def test_cones_are_those_of_resampled_families():
    directions = find_directions(planted(size=2)[0], splits=1)
    cones = direction_cones(directions, draws=50, seed=4).set_index(["side", "layer", "role"])
    sums, contrasts = family_contrasts(directions.activations, 50, seed=4)
    drawn = torch.nn.functional.normalize(
        torch.from_numpy(contrasts @ sums) @ directions.activations.reasoning[:, 1, 0].double(), dim=-1
    )
    angles = torch.rad2deg(torch.arccos(drawn @ directions.reasoning[1, 0].double()))
    row = cones.loc[("reasoning", 4, "user")]
    assert row.cone_median == pytest.approx(angles.quantile(0.5).item(), abs=1e-3)
    assert row.cone_90 == pytest.approx(angles.quantile(0.9).item(), abs=1e-3)
    pairs = (drawn @ drawn.T)[*torch.triu_indices(50, 50, 1)]
    assert row.stability == pytest.approx(pairs.mean().item(), abs=1e-6)
    assert row.draws == 50


def test_a_finder_that_is_run_anew_gives_the_same_cones(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(FINDERS, "again", mean_difference)
    activations = planted(size=2)[0]
    fast, slow = (
        direction_cones(find_directions(activations, method=method, splits=1), draws=30)
        for method in ("mean_difference", "again")
    )
    columns = ["cone_median", "cone_90", "stability", "draws"]
    assert fast[columns].to_numpy() == pytest.approx(slow[columns].to_numpy(), abs=1e-3)


@EVERY_METHOD
def test_more_noise_makes_wider_cones_for_every_finder(method: str):
    wide, narrow = (
        direction_cones(find_directions(planted(size)[0], method=method, splits=1), draws=12) for size in (3, 12)
    )
    assert (wide.cone_90 > narrow.cone_90).all()
    assert (wide.stability < narrow.stability).all()
    assert list(narrow.columns) == [
        "dimension",
        "method",
        "side",
        "layer",
        "role",
        "cone_median",
        "cone_90",
        "stability",
        "draws",
    ]
    assert len(narrow) == 2 * LAYERS * ROLES


def test_wide_models_are_fitted_in_the_space_of_their_items():
    """A fit in 2,048 dimensions would take seconds a cell; the items span 32."""
    generator = torch.Generator().manual_seed(0)
    trigger, neutral = torch.randn(2, 16, 8, 2048, generator=generator, dtype=torch.float64)
    for finder in FINDERS.values():
        assert finder(trigger + 1, neutral).shape == (8, 2048)
