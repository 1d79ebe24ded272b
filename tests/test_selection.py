"""Selection against one plain forward pass per candidate, on planted truth, and at its edges."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_model, make_tokenizer
from test_capture import make_probes, own_answers, pair_of

from mechdrift.activations.capture import collect
from mechdrift.activations.prompts import render_probes
from mechdrift.activations.readouts import make_readout
from mechdrift.directions.finders import find_directions
from mechdrift.hooks import edit
from mechdrift.probes.rendering import Renderer
from mechdrift.records import MechdriftError
from mechdrift.steering import selection as selection_module
from mechdrift.steering.asked import items_of, next_token_kl, split_families
from mechdrift.steering.edits import ablate, steer
from mechdrift.steering.selection import select_direction

ROLES = ("template_tail[-1]", "think_close[-1]", "user")
LAYERS = 4


def directions_of(pair, probes, think="off", answers=None, roles=ROLES):
    return find_directions(collect(pair, probes, roles=roles, think=think, answers=answers), splits=1)


@torch.no_grad()
def naive_scores(pair, probes, selection, think, answers) -> pd.DataFrame:
    """Bypass, induce and KL of every candidate below the last fifth: one prompt, one candidate, one pass."""
    loaded, readout = pair.open("instruct"), make_readout(Renderer(make_tokenizer()), probes)
    rendered = render_probes(pair, probes, think, answers)

    def run(edits, prompt):
        with edit(edits):
            logits = loaded.model(torch.tensor([prompt.ids[: prompt.readout_position + 1]]), use_cache=False).logits[
                0, -1
            ]
        return logits, readout.of(logits, prompt.item_id)

    pairs = list(zip(probes, rendered, strict=True))
    triggers, neutrals = ([prompt for item, prompt in pairs if item.is_trigger == wanted] for wanted in (True, False))
    rows = []
    for layer in range(int(0.8 * LAYERS)):
        for role in selection.roles:
            w = selection.vector_at(layer, role)
            if not w.any():
                continue
            kl = []
            for prompt in neutrals:
                p, q = (run(edits, prompt)[0].double().log_softmax(-1) for edits in ({}, ablate(loaded, w)))
                kl.append((p.exp() * (p - q)).sum().item())
            rows.append(
                {
                    "layer": layer,
                    "role": role,
                    "kl": np.mean(kl),
                    "bypass": np.mean([run(ablate(loaded, w), prompt)[1] for prompt in triggers]),
                    "induce": np.mean([run(steer(loaded, w, layer), prompt)[1] for prompt in neutrals]),
                }
            )
    return pd.DataFrame(rows)


@pytest.mark.parametrize("think", ["off", "own"])
def test_scores_are_those_of_one_pass_per_candidate(tiny_pair, think):
    probes = make_probes(12)
    answers = own_answers(probes, "reasoning", first=60) if think == "own" else None
    directions = directions_of(tiny_pair, probes, think, answers)
    found = select_direction(tiny_pair, directions, pairs=2, answers=answers)
    asked = items_of(probes, found.families["validate"], 2, seed=0)
    assert not {item.family for item in asked} & set(found.families["find"])
    expected = naive_scores(tiny_pair, asked, found, think, answers)
    run = found.frame[found.frame.bypass.notna()].reset_index(drop=True)
    pd.testing.assert_frame_equal(run[["layer", "role"]], expected[["layer", "role"]])
    for score in ("bypass", "induce", "kl"):
        np.testing.assert_allclose(run[score], expected[score], atol=2e-4)
        assert expected[score].std() > 1e-3
    assert (found.n_trigger, found.n_neutral) == (2, 2)
    assert set(found.frame[found.frame.bypass.isna()].why) == {"too deep", "no direction"}


def test_candidates_come_from_the_items_of_the_finding_families_only(tiny_pair):
    probes = make_probes(8)
    directions = directions_of(tiny_pair, probes)
    found = select_direction(tiny_pair, directions, pairs=1)
    recorded, kept = (
        directions.activations.instruct.double(),
        np.isin(directions.activations.families, found.families["find"]),
    )
    trigger = torch.from_numpy(kept & directions.activations.is_trigger)
    neutral = torch.from_numpy(kept & ~directions.activations.is_trigger)
    torch.testing.assert_close(found.vectors, (recorded[trigger].mean(0) - recorded[neutral].mean(0)).float())


def planted(write_at: int = 2, n_layers: int = 8):
    """A model in which one attention layer reads the trigger's sign and writes `r`, which the unembedding reads as
    "No".

    Queries and keys of that layer are zero, so it averages over all tokens before. All else is noise, which carries the
    sign along, too, but nothing that matters for the answer.
    """
    model = make_model("llama", num_hidden_layers=n_layers, tie_word_embeddings=False)
    ids = {text: make_tokenizer().encode(text, add_special_tokens=False)[0] for text in ("!", "?", "N", "Y")}
    plane = torch.linalg.qr(torch.randn(32, 2, generator=torch.Generator().manual_seed(3)))[0]
    u, r = plane.T
    with torch.no_grad():
        for block in model.model.layers:
            for module in (block.self_attn.o_proj, block.mlp.down_proj):
                module.weight.copy_(0.1 * (module.weight - plane @ (plane.T @ module.weight)))
        embedding, attention = model.model.embed_tokens.weight, model.model.layers[write_at].self_attn
        embedding -= embedding @ plane @ plane.T
        embedding[ids["!"]] = embedding[ids["?"]] + 4 * u
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj):
            projection.weight.zero_()
        attention.v_proj.weight[0], attention.o_proj.weight[:, 0] = u, 60 * r
        model.lm_head.weight[ids["N"]], model.lm_head.weight[ids["Y"]] = 2 * r, -2 * r
    return model, r


def test_selection_picks_a_planted_layer():
    model, r = planted(write_at=2)
    pair, probes = pair_of(model, model), make_probes(16)
    found = select_direction(pair, directions_of(pair, probes, roles=("template_tail", "think_close[-1]")))
    assert found.layer in (3, 4, 5)  # written by layer 2, and the last fifth is left out
    assert torch.cosine_similarity(found.vector, r, dim=0).abs() > 0.95
    row = found.frame[found.frame.chosen].iloc[0]
    assert row.bypass < found.baseline_trigger - 1
    assert row.induce > found.baseline_neutral + 1
    assert row.kl < 0.1
    before = found.frame[(found.frame.layer <= 2) & found.frame.bypass.notna()]
    assert len(before)
    assert (before.bypass > row.bypass + 1).all()
    ranks = found.frame["rank"].dropna().sort_values().tolist()
    assert ranks == [*range(1, len(ranks) + 1)]
    assert found.runners_up["rank"].tolist() == ranks[1:6]


def test_a_screen_runs_the_most_promising_and_changes_none_of_their_numbers():
    model, _ = planted()
    pair = pair_of(model, model)
    directions = directions_of(pair, make_probes(16), roles=("template_tail[-1]", "think_close[-1]"))
    whole, screened = (select_direction(pair, directions, screen=screen) for screen in (None, 3))
    run = screened.frame.bypass.notna()
    assert run.sum() == screened.screen == 3
    np.testing.assert_allclose(
        screened.frame[run][["bypass", "induce", "kl"]], whole.frame[run][["bypass", "induce", "kl"]], atol=1e-4
    )
    assert (screened.frame.why == "not promising").sum() == whole.frame.bypass.notna().sum() - 3
    assert (screened.frame[run].layer >= 3).all()  # the estimates see what matters


def test_harmless_items_of_their_own_are_what_kl_is_measured_on(tiny_pair):
    probes, directions = make_probes(12), directions_of(tiny_pair, make_probes(12))
    neutral = items_of(probes, split_families(probes, 0)["validate"], 2, 0).where("neutral")
    default = select_direction(tiny_pair, directions, pairs=2)
    same = select_direction(tiny_pair, directions, pairs=2, harmless=neutral)
    other = select_direction(tiny_pair, directions, pairs=2, harmless=replace(neutral, items=neutral.items[:1]))
    np.testing.assert_allclose(same.frame.kl, default.frame.kl, atol=1e-6)
    np.testing.assert_allclose(other.frame.bypass, default.frame.bypass, atol=1e-4)
    assert np.nanmax(np.abs(other.frame.kl - default.frame.kl)) > 1e-4
    assert (default.n_harmless, other.n_harmless) == (2, 1)


def test_where_nothing_is_eligible_the_record_says_so(tiny_pair):
    found = select_direction(tiny_pair, directions_of(tiny_pair, make_probes(8)), pairs=1, kl_at_most=-1.0)
    assert (found.layer, found.role, found.vector) == (None, None, None)
    assert "no candidate is eligible" in found.reason
    assert not found.frame.eligible.any()
    assert found.runners_up.empty
    run = found.frame[found.frame.bypass.notna()]
    halfway = (found.baseline_trigger + found.baseline_neutral) / 2
    useful = run[(run.induce >= found.induce_at_least) & (run.bypass <= halfway)]
    best = useful.loc[useful.kl.idxmin()] if len(useful) else run.loc[run.bypass.idxmin()]
    assert found.closest == (best.layer, best.role)


def test_models_that_are_the_same_everywhere_have_nothing_to_select(tiny_pair):
    probes = make_probes(8)
    directions = directions_of(tiny_pair, probes, roles=("template_tail[-1]",))
    flat = replace(directions.activations, instruct=torch.ones_like(directions.activations.instruct))
    found = select_direction(tiny_pair, replace(directions, activations=flat), pairs=1)
    assert found.closest is None
    assert set(found.frame.why) == {"no direction"}
    assert "4 no direction" in found.reason


def test_the_rules_are_applied_one_by_one():
    rows = {  # bypass, induce, kl, why
        "best": (-3.0, 0.5, 0.05, ""),
        "second": (-2.0, 0.0, 0.1, ""),
        "wild": (-9.0, 2.0, 0.2, "changes harmless answers"),
        "weak": (-8.0, -0.1, 0.01, "does not induce"),
        "broken": (np.nan, 1.0, 0.01, "not finite"),
        "infinite": (-np.inf, 1.0, 0.01, "not finite"),
        "deep": (np.nan, np.nan, np.nan, "too deep"),
    }
    frame = pd.DataFrame(
        {
            "role": list(rows),
            "layer": 0,
            "norm": 1.0,
            "separation": 1.0,
            "bypass_estimate": 0.0,
            "induce_estimate": 0.0,
            "bypass": [row[0] for row in rows.values()],
            "induce": [row[1] for row in rows.values()],
            "kl": [row[2] for row in rows.values()],
            "why": ["too deep" if name == "deep" else "" for name in rows],
        }
    )
    judged = selection_module._judge(frame, 0.0, 0.1).set_index("role")
    assert judged.why.to_dict() == {name: row[3] for name, row in rows.items()}
    assert judged[judged.chosen].index.tolist() == ["best"]
    assert judged["rank"].dropna().to_dict() == {"best": 1, "second": 2}


def test_kl_of_next_tokens_is_the_sum_over_the_vocabulary():
    before, after = torch.randn(2, 3, 11, generator=torch.Generator().manual_seed(0))
    p, q = (torch.softmax(x.double(), -1).numpy() for x in (before, after))
    np.testing.assert_allclose(next_token_kl(before, after), (p * np.log(p / q)).sum(-1))
    assert (next_token_kl(before, before) == 0).all()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_families_are_parted_without_overlap_and_each_part_has_both_classes(seed):
    probes = make_probes(9)
    lone = tuple(replace(item, family=f"{item.family} {item.contrast}", twin="") for item in make_probes(8))
    for items in (probes.items, lone, (*probes.items, *(replace(item, id=f"x{item.id}") for item in lone))):
        chosen = replace(probes, items=tuple(items))
        parts = split_families(chosen, seed)
        assert sorted(name for part in parts.values() for name in part) == sorted(set(chosen.families))
        for part in parts.values():
            assert {item.is_trigger for item in chosen if item.family in part} == {True, False}
        assert len(parts["find"]) >= len(parts["validate"]) >= len(parts["test"])
        assert parts == split_families(chosen, seed)
    assert split_families(probes, seed) != split_families(probes, seed + 10)


def test_items_without_twins_are_sampled_too():
    items = tuple(replace(item, twin="") for item in make_probes(9))
    chosen = items_of(replace(make_probes(9), items=items), tuple(f"family {i}" for i in range(5)), 3, seed=0)
    assert len(chosen.where("trigger")) == len(chosen.where("neutral")) == 3
    assert {item.family for item in chosen} <= {f"family {i}" for i in range(5)}


def test_what_cannot_be_selected_is_refused_in_one_sentence(tiny_pair):
    probes = make_probes(8)
    directions = directions_of(tiny_pair, probes)
    for change, says in (
        ({"site": "mlp_out"}, "resid_pre"),
        ({"activations": replace(directions.activations, think="own")}, "answers="),
    ):
        with pytest.raises(MechdriftError, match=says) as error:
            select_direction(tiny_pair, replace(directions, **change))
        assert "\n" not in str(error.value)
    with pytest.raises(MechdriftError, match="take more items"):
        split_families(make_probes(1), 0)
    with pytest.raises(MechdriftError, match="no candidate at layer 9"):
        select_direction(tiny_pair, directions, pairs=1).vector_at(9, "user")
