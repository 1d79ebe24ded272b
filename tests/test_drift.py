"""Oracles: equal models, models turned by a known angle, noise without a direction; scikit-learn; loops."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score
from torch import Tensor

from mechdrift.directions.dimensions import compare_dimensions
from mechdrift.directions.drift import compare_directions
from mechdrift.directions.families import family_halves
from mechdrift.directions.finders import FINDERS, find_directions, mean_difference
from mechdrift.records import Activations, MechdriftError, ProbeItem, ProbeSet
from mechdrift.statistics.geometry import linear_cka, principal_angles, principal_components, procrustes, unbiased_cka
from mechdrift.statistics.resampling import family_draws

FAMILIES, PAIRS, ROLES, D_MODEL = 12, 4, 6, 48


OTHER = {"trigger": "neutral", "neutral": "trigger"}


def probe_set() -> ProbeSet:
    items = [
        ProbeItem(
            id=f"{family}-{pair}-{contrast}",
            dimension="safety",
            family=f"family-{family:02d}",
            contrast=contrast,
            twin=f"{family}-{pair}-{OTHER[contrast]}",
            prompt="",
            aligned=(),
            misaligned=(),
        )
        for family in range(FAMILIES)
        for pair in range(PAIRS)
        for contrast in ("trigger", "neutral")
    ]
    return ProbeSet(name="planted", dimension="safety", items=tuple(items))


def noise(seed: int, roles: int = ROLES) -> Tensor:
    shape = (FAMILIES * PAIRS * 2, 2, roles, D_MODEL)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pair_of(instruct: Tensor, reasoning: Tensor) -> Activations:
    roles = tuple(f"template_tail[{-1 - role}]" for role in range(instruct.shape[2]))
    return Activations(
        probes=probe_set(),
        site="resid_pre",
        layers=(3, 7),
        roles=roles,
        think="off",
        instruct=instruct,
        reasoning=reasoning,
    )


def moved(activations: Tensor, size: float, angle: float = 0.0) -> Tensor:
    """Triggers moved by `size` in the plane of the first two axes, `angle` from the first."""
    result = activations.clone()
    result[::2, ..., 0] += size * np.cos(angle)
    result[::2, ..., 1] += size * np.sin(angle)
    return result


def compare(instruct: Tensor, reasoning: Tensor, **options: float) -> pd.DataFrame:
    return compare_directions(find_directions(pair_of(instruct, reasoning)), **options).frame


def test_identical_models_have_cosine_one_and_angle_zero():
    recorded = moved(noise(0), 2)
    frame = compare(recorded, recorded.clone())
    assert (frame.cosine == 1).all()
    assert (frame.angle_degrees == 0).all()
    assert (frame.norm_ratio == 1).all()
    assert frame[["cosine_low", "cosine_high", "cosine_over_ceiling"]].to_numpy() == pytest.approx(1, abs=1e-12)
    assert (frame.auroc_instruct == frame.auroc_transfer_to_reasoning).all()
    assert (frame.auroc_instruct == frame.auroc_reasoning).all()
    assert not frame.below_null.any()


def test_one_row_per_layer_and_role_in_order():
    activations = pair_of(moved(noise(0), 2), moved(noise(1), 2))
    frame = compare_directions(find_directions(activations)).frame
    cells = [(layer, role) for layer in activations.layers for role in activations.roles]
    assert list(zip(frame.layer, frame.role, strict=True)) == cells
    assert (frame.dimension == "safety").all()


@pytest.mark.parametrize("degrees", [10.0, 45.0, 90.0, 135.0])
def test_a_rotated_copy_shows_its_angle(degrees: float):
    """Every plane of neighbouring axes is turned, so that signal and noise turn by the same angle."""
    instruct, angle = moved(noise(0), 2), np.radians(degrees)
    turn = torch.tensor([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]], dtype=torch.float32)
    frame = compare(instruct, instruct @ torch.block_diag(*[turn] * (D_MODEL // 2)))
    assert frame.angle_degrees.to_numpy() == pytest.approx(degrees, abs=1e-3)
    assert (frame.cosine_low <= np.cos(angle) + 1e-6).all()
    assert (frame.cosine_high >= np.cos(angle) - 1e-6).all()
    assert frame.norm_ratio.to_numpy() == pytest.approx(1, abs=1e-5)
    assert frame.cosine_over_ceiling.to_numpy() == pytest.approx(np.cos(angle), abs=0.15)


def test_the_turned_signal_is_seen_through_independent_noise():
    """Noise lowers the cosine; the ratio to the ceiling undoes that, and the interval holds the lowered cosine."""
    truth = np.cos(0.6)
    frames = [compare(moved(noise(2 * s, 12), 2), moved(noise(2 * s + 1, 12), 2, angle=0.6), seed=s) for s in range(3)]
    frame = pd.concat(frames)
    expected = frame.cosine.mean()
    assert expected < truth - 0.2
    assert frame.cosine_over_ceiling.mean() == pytest.approx(truth, abs=0.05)
    assert (frame.cosine / frame.ceiling).mean() == pytest.approx(truth, abs=0.05)
    assert ((frame.cosine_low <= frame.cosine) & (frame.cosine <= frame.cosine_high)).all()
    assert ((frame.cosine_low <= expected) & (expected <= frame.cosine_high)).mean() > 0.8


def test_shared_noise_does_not_lift_the_ratio_above_the_truth():
    """Both models see the same prompts: `cosine / ceiling` exceeds one, the cosine of opposite halves does not."""
    shared = noise(0, 12)
    frame = compare(moved(shared, 2), moved(shared, 2, angle=0.6))
    assert (frame.cosine / frame.ceiling).mean() > 1
    assert frame.cosine_over_ceiling.mean() == pytest.approx(np.cos(0.6), abs=0.05)


def test_the_ceiling_is_the_cosine_of_the_same_direction_found_twice():
    frames = [compare(moved(noise(2 * s, 12), 2), moved(noise(2 * s + 1, 12), 2)) for s in range(3)]
    frame = pd.concat(frames)
    assert frame.ceiling.mean() == pytest.approx(frame.cosine.mean(), abs=0.05)


def test_the_interval_is_that_of_resampled_families():
    activations = pair_of(moved(noise(0, 1), 2), moved(noise(1, 1), 2))
    frame = compare_directions(find_directions(activations), draws=100, seed=3).frame
    blocks = np.arange(len(activations.probes)).reshape(FAMILIES, -1)
    angles = []
    for counts in family_draws(FAMILIES, 100, seed=3):
        items = np.repeat(blocks, counts, axis=0).reshape(-1)
        is_trigger = activations.is_trigger[items]
        u, v = (
            mean_difference(side[items][is_trigger, 0, 0], side[items][~is_trigger, 0, 0])
            for side in (activations.instruct, activations.reasoning)
        )
        angles.append(np.arccos((u @ v / u.norm() / v.norm()).item()))
    shifted = np.percentile(angles, [97.5, 2.5]) - np.median(angles) + np.arccos(frame.cosine[0])
    assert (frame.cosine_low[0], frame.cosine_high[0]) == pytest.approx(tuple(np.cos(shifted)), abs=1e-5)


def test_transfer_is_measured_on_families_the_direction_has_not_seen():
    activations = pair_of(moved(noise(0), 1.5), moved(noise(1), 1.5, angle=0.8))
    frame = compare_directions(find_directions(activations), seed=2).frame
    is_trigger = activations.is_trigger
    recorded = {side: activations.of(side)[:, 1, 2].double() for side in ("instruct", "reasoning")}
    columns = {
        "auroc_instruct": ("instruct", "instruct"),
        "auroc_transfer_to_reasoning": ("instruct", "reasoning"),
        "auroc_reasoning": ("reasoning", "reasoning"),
        "auroc_transfer_to_instruct": ("reasoning", "instruct"),
    }
    for column, (source, target) in columns.items():
        areas = []
        for half in family_halves(activations, splits=4, seed=2):
            for seen in (half, ~half):
                trigger, neutral = recorded[source][seen & is_trigger], recorded[source][seen & ~is_trigger]
                scores = recorded[target][~seen] @ mean_difference(trigger, neutral)
                areas.append(roc_auc_score(is_trigger[~seen], scores))
        assert frame[column][ROLES + 2] == pytest.approx(np.mean(areas))


def test_a_direction_kept_transfers_and_a_direction_turned_away_does_not():
    kept = compare(moved(noise(0), 3), moved(noise(1), 3))
    assert (kept.auroc_transfer_to_reasoning > 0.9).all()
    lost = compare(moved(noise(0), 3), moved(noise(1), 3, angle=np.pi / 2))
    assert (lost.auroc_instruct > 0.9).all()
    assert lost.auroc_transfer_to_reasoning.mean() == pytest.approx(0.5, abs=0.1)
    assert (lost.angle_degrees > 70).all()


def test_the_norm_ratio_says_how_much_of_the_difference_is_left():
    shared = noise(0) / 20
    frame = compare(moved(shared, 2), moved(shared, 1))
    assert frame.norm_ratio.to_numpy() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("size", [0, 3])
def test_noise_is_no_direction(size: float):
    """Also not where each family has a large difference of its own, in the same few dimensions, and none is shared."""
    own = size * noise(99, 40)[:FAMILIES].repeat_interleave(2 * PAIRS, dim=0)
    own[1::2] = 0
    own[..., 3:] = 0
    frame = compare(noise(0, 40) + own, moved(noise(1, 40), 4))
    assert (~frame.below_null_instruct).sum() <= stats.binom.ppf(0.999, len(frame), 0.05)
    assert not frame.below_null_reasoning.any()
    assert (frame.below_null == frame.below_null_instruct).all()
    assert (frame.cosine_over_ceiling.isna() == frame.below_null).all()


def test_where_a_model_has_no_direction_the_cosine_is_unknown():
    instruct, reasoning = moved(noise(0), 2), moved(noise(1), 2)
    instruct[:, 0, 1] = 0.1
    frame = compare(instruct, reasoning)
    empty = frame.iloc[1]
    assert empty[["cosine", "cosine_low", "cosine_high", "angle_degrees", "cosine_over_ceiling"]].isna().all()
    assert empty.below_null
    assert empty.ceiling == 0
    assert empty.auroc_instruct == 0.5
    assert frame.drop(index=1).notna().to_numpy().all()


def test_a_large_common_vector_changes_nothing():
    """Some dimensions of the residual stream are a thousand times larger than the rest, in every prompt."""
    instruct, reasoning = moved(noise(0), 2), moved(noise(1), 2)
    common = torch.zeros(D_MODEL)
    common[5] = 1024
    plain, shifted = compare(instruct, reasoning), compare(instruct + common, reasoning + common)
    pd.testing.assert_frame_equal(plain, shifted, atol=1e-3)


def test_the_order_of_prompts_changes_nothing():
    activations = pair_of(moved(noise(0), 2), moved(noise(1), 2))
    order = np.random.default_rng(0).permutation(len(activations.probes))
    shuffled = replace(
        activations,
        probes=replace(activations.probes, items=tuple(activations.probes.items[i] for i in order)),
        instruct=activations.instruct[order],
        reasoning=activations.reasoning[order],
    )
    here, there = (compare_directions(find_directions(a)).frame for a in (activations, shuffled))
    pd.testing.assert_frame_equal(here, there, atol=1e-6)


def test_families_of_one_class_can_be_compared():
    activations = pair_of(moved(noise(0), 3), moved(noise(1), 3))
    keep = [i for i, item in enumerate(activations.probes) if item.is_trigger == (item.family < "family-06")]
    lopsided = replace(
        activations,
        probes=replace(activations.probes, items=tuple(activations.probes.items[i] for i in keep)),
        instruct=activations.instruct[keep],
        reasoning=activations.reasoning[keep],
    )
    frame = compare_directions(find_directions(lopsided)).frame
    assert frame[["cosine_low", "cosine_high"]].notna().to_numpy().all()
    assert (frame.cosine > 0.5).all()
    assert not frame.below_null.any()


def test_another_finder_has_no_interval_but_everything_else(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(FINDERS, "medians", lambda a, b: a.median(dim=0).values - b.median(dim=0).values)
    activations = pair_of(moved(noise(0), 3), moved(noise(1), 3))
    frame = compare_directions(find_directions(activations, method="medians")).frame
    assert frame[["cosine_low", "cosine_high"]].isna().to_numpy().all()
    assert frame.drop(columns=["cosine_low", "cosine_high"]).notna().to_numpy().all()


@pytest.mark.parametrize("kind", ["noise of its own", "shared noise", "both"])
def test_a_rotated_copy_shows_its_angle_within_the_interval_at_the_nominal_rate(kind: str):
    """200 simulated pairs, one a cell: the direction turned by a known angle, 90 % intervals."""
    angle, common = 0.6, noise(0, 100)
    instruct, reasoning = {
        "noise of its own": (common, noise(1, 100)),
        "shared noise": (common, common),
        "both": ((common + noise(2, 100)) / np.sqrt(2), (common + noise(3, 100)) / np.sqrt(2)),
    }[kind]
    frame = compare(moved(instruct, 3), moved(reasoning, 3, angle), level=0.9)
    degrees = np.degrees(angle)
    held = (frame.angle_low <= degrees) & (degrees <= frame.angle_high)
    assert len(frame) == 200
    assert not frame.angle.isna().any()
    assert 0.85 <= held.mean() <= 0.95
    assert frame.angle.mean() == pytest.approx(degrees, abs=1.5)
    assert np.cos(np.radians(frame.angle_low)).to_numpy() == pytest.approx(frame.noiseless_high.to_numpy())
    assert np.cos(np.radians(frame.angle)).to_numpy() == pytest.approx(frame.noiseless_cosine.clip(upper=1).to_numpy())
    # of the noisy cosine's interval that cannot be said
    assert ((frame.cosine_low <= np.cos(angle)) & (np.cos(angle) <= frame.cosine_high)).mean() < (
        0.5 if kind != "shared noise" else 1
    )


def test_all_intervals_widen_with_the_level():
    activations = pair_of(moved(noise(0), 3), moved(noise(1), 3, 0.6))
    narrow, wide = (compare_directions(find_directions(activations), level=level).frame for level in (0.5, 0.99))
    for name in ("cosine", "angle", "noiseless", "did_along", "did_moved"):
        spans = [frame[f"{name}_high"] - frame[f"{name}_low"] for frame in (narrow, wide)]
        assert (spans[1] > 1.5 * spans[0]).all()
    with pytest.raises(MechdriftError, match="between 0 and 1"):
        compare_directions(find_directions(activations), level=95)


@pytest.mark.parametrize("more", [0.3, 3.0])
def test_a_null_child_shows_no_drift_beyond_the_nominal_error_rate(more: float):
    """The same model with noise added, little or much: its direction is where it was, and that is what is found."""
    instruct = moved(noise(0, 100), 4)
    frame = compare(instruct, instruct + more * noise(1, 100), level=0.9)
    assert (frame.p_no_drift <= 0.05).mean() <= stats.binom.ppf(0.99, len(frame), 0.05) / len(frame)
    assert (frame.p_no_drift <= 0.5).mean() == pytest.approx(0.5, abs=0.12)
    known = frame[~frame.below_null]
    assert len(known) > 100
    assert (known.angle_low == 0).mean() >= 0.9  # 0 is at the edge: one end of the interval only can miss it
    along = (frame.did_along_low <= 0) & (frame.did_along_high >= 0)
    assert 0.8 <= along.mean() <= 0.97  # percentiles of 12 families are a little short
    moved_alike = (frame.did_moved_low <= 0) & (frame.did_moved_high >= 0)
    assert 0.8 <= moved_alike.mean() <= 0.97


def test_the_difference_in_differences_leaves_out_what_moved_both_classes():
    """All items go on by 5; of the triggers' way ahead of the neutral items a quarter is lost."""
    before = noise(0, 50)
    instruct, reasoning = moved(before, 4), moved(before, 3)
    reasoning[..., :2] += torch.tensor([3.0, 4.0])
    frame = compare(instruct, reasoning)
    assert frame.did_along.mean() == pytest.approx(-0.25, abs=0.02)
    assert (frame.did_along_high < 0).all()
    assert frame.did_along.between(frame.did_along_low, frame.did_along_high).all()
    assert (frame.shift_along_trigger - frame.shift_along_neutral).mean() == pytest.approx(-0.25, abs=0.05)
    unit = instruct.double().std(dim=0, correction=0).norm(dim=-1).reshape(-1)
    assert frame.moved_neutral.to_numpy() == pytest.approx(5 / unit.numpy())
    assert frame.moved_trigger.to_numpy() == pytest.approx(np.hypot(2, 4) / unit.numpy())
    assert frame.did_moved.to_numpy() == pytest.approx((frame.moved_trigger - frame.moved_neutral).to_numpy())


def test_the_class_difference_in_the_other_model_is_measured_along_other_families():
    activations = pair_of(moved(noise(0), 3), 0.5 * moved(noise(1), 3, 0.4))
    row = compare_directions(find_directions(activations)).frame.iloc[ROLES + 2]
    a, b = (
        (side[::2, 1, 2] - side[1::2, 1, 2]).double().reshape(FAMILIES, PAIRS, -1).mean(dim=1).numpy()
        for side in (activations.instruct, activations.reasoning)
    )
    apart = [(f, g) for f in range(FAMILIES) for g in range(FAMILIES) if f != g]
    assert row.did_along == pytest.approx(
        sum((b[f] - a[f]) @ a[g] for f, g in apart) / sum(a[f] @ a[g] for f, g in apart)
    )


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_two_noisy_copies_of_one_model_drift_at_the_nominal_error_rate(scale: float):
    frame = compare(moved(noise(0, 100), 2), scale * moved(noise(1, 100), 2))
    assert (frame.p_no_drift <= 0.05).mean() == pytest.approx(0.05, abs=0.04)
    assert (frame.p_no_drift <= 0.5).mean() == pytest.approx(0.5, abs=0.1)
    turned = compare(moved(noise(0, 20), 4), moved(noise(1, 20), 4, angle=0.8))
    assert (turned.p_no_drift <= 0.05).mean() > 0.9


def test_an_exact_copy_has_not_drifted_at_all():
    recorded = moved(noise(0), 2)
    frame = compare(recorded, recorded.clone())
    assert (frame.p_no_drift == 1).all()
    assert frame[["cka", "cka_unbiased", "noiseless_cosine"]].to_numpy() == pytest.approx(1)
    assert frame[["principal_angle_smallest", "principal_angle_largest"]].to_numpy() == pytest.approx(0, abs=1e-5)
    assert frame.filter(like="shift").to_numpy() == pytest.approx(0, abs=1e-9)
    assert (frame.auroc_aligned_to_reasoning - frame.auroc_transfer_to_reasoning).abs().max() < 1e-9


def test_similarity_and_subspaces_are_those_of_the_helpers():
    activations = pair_of(moved(noise(0), 2), moved(noise(1), 2) + 0.5 * noise(0))
    row = compare_directions(find_directions(activations)).frame.iloc[ROLES + 2]
    x, y = (activations.of(side)[:, 1, 2].double().numpy() for side in ("instruct", "reasoning"))
    assert row.cka == pytest.approx(linear_cka(x, y))
    assert row.cka_unbiased == pytest.approx(unbiased_cka(x, y))
    spans = [principal_components(rows[::2] - rows[1::2], 4)[0] for rows in (x, y)]
    angles = principal_angles(*spans)
    assert (row.principal_angle_smallest, row.principal_angle_largest) == pytest.approx((angles[0], angles[-1]))


def test_the_class_means_moves_are_measured_in_the_instruct_models_difference():
    """Triggers go half of the way back and aside by a quarter, neutral items only on."""
    shared = noise(0) / 1000
    reasoning = moved(shared, 4)
    reasoning[::2, ..., 0] -= 2
    reasoning[::2, ..., 1] += 1
    reasoning[1::2, ..., 0] += 0.4
    frame = compare(moved(shared, 4), reasoning)
    expected = {"along_trigger": -0.5, "across_trigger": 0.25, "along_neutral": 0.1, "across_neutral": 0}
    for name, value in expected.items():
        assert frame[f"shift_{name}"].to_numpy() == pytest.approx(value, abs=1e-3)


def turn(angle: float = 2.6) -> Tensor:
    """Every plane of neighbouring axes turned."""
    plane = torch.tensor([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]], dtype=torch.float32)
    return torch.block_diag(*[plane] * (D_MODEL // 2))


def test_alignment_undoes_a_rotation_of_the_whole_space():
    """Items vary in a few dimensions that the neutral ones show: what rotates those is found from them alone."""
    varied = noise(0)
    varied[..., 8:] *= 0.05
    instruct = moved(varied, 3)
    frame = compare(instruct, instruct @ turn())
    assert (frame.auroc_transfer_to_reasoning < 0.2).all()
    for side in ("reasoning", "instruct"):
        assert frame[f"auroc_aligned_to_{side}"].to_numpy() == pytest.approx(frame.auroc_instruct.to_numpy(), abs=0.03)
    assert frame.cka.to_numpy() == pytest.approx(1, abs=1e-5)


def test_alignment_does_not_undo_a_direction_that_turned_by_itself():
    frame = compare(moved(noise(0), 3), moved(noise(0), 3, angle=np.pi / 2))
    assert frame.auroc_aligned_to_reasoning.mean() == pytest.approx(frame.auroc_transfer_to_reasoning.mean(), abs=0.05)


def test_the_aligned_transfer_is_that_of_turned_directions():
    activations = pair_of(moved(noise(0), 2), moved(noise(1), 2, angle=0.8) + noise(0))
    frame = compare_directions(find_directions(activations), seed=2).frame
    is_trigger = activations.is_trigger
    recorded = {side: activations.of(side)[:, 1, 2].double() for side in ("instruct", "reasoning")}
    for source, target in (("instruct", "reasoning"), ("reasoning", "instruct")):
        areas = []
        for half in family_halves(activations, splits=4, seed=2):
            for seen in (half, ~half):
                fitted = [recorded[side][seen & ~is_trigger].numpy() for side in (source, target)]
                turned = procrustes(*(rows - rows.mean(axis=0) for rows in fitted))
                direction = mean_difference(
                    recorded[source][seen & is_trigger], recorded[source][seen & ~is_trigger]
                ).numpy()
                areas.append(roc_auc_score(is_trigger[~seen], recorded[target][~seen].numpy() @ (direction @ turned)))
        assert frame[f"auroc_aligned_to_{target}"][ROLES + 2] == pytest.approx(np.mean(areas), abs=1e-9)


def test_without_twins_only_the_subspaces_are_unknown():
    activations = pair_of(moved(noise(0), 2), moved(noise(1), 2))
    single = replace(activations.probes, items=tuple(replace(item, twin="") for item in activations.probes))
    frame = compare_directions(find_directions(replace(activations, probes=single))).frame
    angles = ["principal_angle_smallest", "principal_angle_largest"]
    assert frame[angles].isna().to_numpy().all()
    assert frame.drop(columns=angles).notna().to_numpy().all()


def of_dimension(dimension: str, instruct: Tensor, reasoning: Tensor, method: str = "mean_difference"):
    activations = pair_of(instruct, reasoning)
    return find_directions(
        replace(activations, probes=replace(activations.probes, dimension=dimension)), method=method, splits=1
    )


def test_dimensions_are_compared_in_each_model_and_across():
    """Safety and toxicity share a direction in the instruct model; in the reasoning model toxicity turned by a right
    angle."""
    quiet = [noise(seed) / 10 for seed in range(4)]
    safety = of_dimension("safety", moved(quiet[0], 2), moved(quiet[1], 2))
    toxicity = of_dimension("toxicity", moved(quiet[2], 2), moved(quiet[3], 2, angle=np.pi / 2))
    frame = compare_dimensions([safety, toxicity, replace(safety, dimension="bias")])
    assert len(frame) == 3 * 2 * ROLES
    pair = frame[(frame["first"] == "safety") & (frame["second"] == "toxicity")]
    expected = {"instruct": 1, "reasoning": 0, "instruct_to_reasoning": 0, "reasoning_to_instruct": 1, "change": -1}
    for name, value in expected.items():
        assert pair[name].to_numpy() == pytest.approx(value, abs=0.06)
    assert (pair.change_high < -0.8).all()
    assert pair.change.between(pair.change_low, pair.change_high).all()
    itself = frame[(frame["first"] == "safety") & (frame["second"] == "bias")]
    assert itself[["instruct", "reasoning"]].to_numpy() == pytest.approx(1)


def test_where_dimensions_relate_as_before_no_change_is_claimed():
    found = [
        of_dimension(name, moved(noise(2 * i, 50), 3), moved(noise(2 * i + 1, 50), 3))
        for i, name in enumerate(("safety", "privacy"))
    ]
    frame = compare_dimensions(found)
    assert len(frame) == 100
    assert ((frame.change_low <= 0) & (frame.change_high >= 0)).mean() >= 0.85


def test_where_a_model_has_no_direction_no_dimension_is_like_it():
    instruct = moved(noise(0), 2)
    instruct[:, 0, 1] = 0.1
    found = [
        of_dimension("safety", instruct, moved(noise(1), 2)),
        of_dimension("bias", moved(noise(2), 2), moved(noise(3), 2)),
    ]
    frame = compare_dimensions(found)
    empty = frame.iloc[1]
    assert empty[["instruct", "instruct_to_reasoning", "change", "change_low", "change_high"]].isna().all()
    assert empty[["reasoning", "reasoning_to_instruct"]].notna().all()
    assert frame.drop(index=1).notna().to_numpy().all()


def test_dimensions_are_compared_where_both_have_directions():
    safety = of_dimension("safety", moved(noise(0), 2), moved(noise(1), 2))
    part = replace(
        safety.activations,
        layers=(7,),
        roles=safety.roles[:2],
        instruct=safety.activations.instruct[:, 1:, :2],
        reasoning=safety.activations.reasoning[:, 1:, :2],
    )
    fewer = replace(find_directions(part, method="pca", splits=1), dimension="ethics")
    frame = compare_dimensions([safety, fewer])
    assert frame.layer.tolist() == [7, 7]
    assert frame.role.tolist() == list(safety.roles[:2])
    assert (frame.instruct > 0.5).all()
    assert frame.change_low.isna().all()
    with pytest.raises(MechdriftError, match="two at a time"):
        compare_dimensions([safety])
