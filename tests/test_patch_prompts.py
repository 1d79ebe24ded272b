"""Think modes and sources of patches: what each model reads, against plain forward passes over tokens put together by
hand."""

import numpy as np
import pytest
import torch
from conftest import make_model, make_tokenizer
from hypothesis import given
from hypothesis import strategies as st
from test_capture import make_probes, pair_of, render_all
from test_patching import LAYERS, blocks_of, replaced_input

from mechdrift.activations.readouts import make_readout
from mechdrift.patching.attribution import attribute
from mechdrift.patching.donors import randomised, render_prompts, source_prompts
from mechdrift.patching.grid import patch
from mechdrift.probes.rendering import Renderer
from mechdrift.probes.roles import role_span
from mechdrift.records import Completion, Completions, MechdriftError, ProbeSet

ENGINES = pytest.mark.parametrize("engine", ["replay", "forward"])


def completions(probes: ProbeSet, side: str, thinking: str) -> Completions:
    """Every item with thinking of its own, of different lengths; the first without any."""
    rows = []
    for index, item in enumerate(probes):
        ids = tuple(make_tokenizer().encode(thinking * index))
        rows.append(
            Completion(
                item_id=item.id,
                side=side,
                think="own",
                thinking=thinking * index,
                answer="",
                thinking_ids=ids,
                answer_ids=(),
                closed=True,
                finished=True,
            )
        )
    return Completions(side=side, think="own", rows=tuple(rows))


@pytest.fixture(scope="module")
def models():
    return make_model(seed=0), make_model(seed=1)


# Think modes.


@ENGINES
@pytest.mark.parametrize(("think", "side"), [("own", "reasoning"), ("donor", "instruct")])
@torch.no_grad()
def test_patches_after_either_models_thinking(models, engine, think, side):
    donor, recipient = models
    probes, pair = make_probes(2), pair_of(*models)
    answers = {
        name: completions(probes, name, text) for name, text in (("instruct", "hm. "), ("reasoning", "let me see; "))
    }
    grid = patch(pair, probes, roles=("user", "think_close"), think=think, answers=answers, engine=engine)
    readout, renderer = make_readout(Renderer(make_tokenizer()), probes), Renderer(make_tokenizer())
    for i, (item, row) in enumerate(zip(probes, answers[side].rows, strict=True)):
        prompt = renderer.render(item.id, item.prompt, think if row.thinking_ids else "off", thinking=row.thinking_ids)
        ids = torch.tensor([prompt.ids])
        states = donor(ids, output_hidden_states=True).hidden_states
        before = readout.of(recipient(ids).logits[0, -1], item.id)
        assert grid.recipient_readout[i] == pytest.approx(before, abs=1e-4)
        for layer, role in np.ndindex(LAYERS, 2):
            with replaced_input(blocks_of(recipient)[layer], *role_span(prompt, grid.roles[role]), states[layer]):
                after = readout.of(recipient(ids).logits[0, -1], item.id)
            assert grid.effect[i, layer, role] == pytest.approx(after - before, abs=1e-4)


def test_the_thinking_is_patched_in_quarters_by_default_where_all_prompts_have_some(models):
    probes = make_probes(3)
    answers = completions(probes, "reasoning", "think, ")
    some = ProbeSet(name="some", dimension="safety", items=probes.items[2:4])
    grid = patch(pair_of(*models), some, think="own", answers=answers)
    assert [role for role in grid.roles if role.startswith("think[")] == [
        "think[q1]",
        "think[q2]",
        "think[q3]",
        "think[q4]",
    ]
    assert "think[q1]" not in patch(pair_of(*models), probes, think="own", answers=answers, layers=(0,)).roles


def test_thinking_has_to_be_given_and_to_be_of_the_right_model(models):
    probes, pair = make_probes(1), pair_of(*models)
    theirs = completions(probes, "instruct", "hm")
    with pytest.raises(MechdriftError, match="the reasoning model's thinking before the answer"):
        patch(pair, probes, think="own", answers=theirs)
    with pytest.raises(MechdriftError, match="items have no answer"):
        patch(pair, make_probes(2), think="donor", answers=theirs)


# Sources.


@ENGINES
@pytest.mark.parametrize("sides", [("reasoning", "reasoning"), ("instruct", "reasoning")])
@torch.no_grad()
def test_a_twins_activations_are_put_in_role_by_role_aligned_at_their_ends(models, engine, sides):
    """Twins of different length: where the donor's text is shorter, the recipient keeps its first tokens' own
    values."""
    donor, recipient = (dict(zip(("instruct", "reasoning"), models, strict=True))[side] for side in sides)
    probes, pair = make_probes(3, ends=("!", " or not?")), pair_of(*models)
    grid = patch(
        pair, probes, donor=sides[0], recipient=sides[1], source="twin", roles=("user", "think_close"), engine=engine
    )
    rendered = {prompt.item_id: prompt for prompt in render_all(probes)}
    readout = make_readout(Renderer(make_tokenizer()), probes)
    for i, item in enumerate(probes):
        own, twin = rendered[item.id], rendered[item.twin]
        states = donor(torch.tensor([twin.ids]), output_hidden_states=True).hidden_states
        ids = torch.tensor([own.ids])
        before = readout.of(recipient(ids).logits[0, -1], item.id)
        assert grid.donor_readout[i] == pytest.approx(
            readout.of(donor(torch.tensor([twin.ids])).logits[0, -1], item.id), abs=1e-4
        )
        for layer, role in np.ndindex(LAYERS, 2):
            (start, stop), (first, last) = (role_span(prompt, grid.roles[role]) for prompt in (own, twin))
            width = min(stop - start, last - first)
            values = torch.zeros(1, len(own.ids), 32)
            values[:, stop - width : stop] = states[layer][:, last - width : last]
            with replaced_input(blocks_of(recipient)[layer], stop - width, stop, values):
                after = readout.of(recipient(ids).logits[0, -1], item.id)
            assert grid.effect[i, layer, role] == pytest.approx(after - before, abs=1e-4)


def test_within_one_model_twins_of_equal_length_swap_their_readouts_at_the_last_block(models):
    last = {"site": "resid_post", "roles": ("think_close[-1]",), "layers": (LAYERS - 1,)}
    grid = patch(pair_of(*models), make_probes(2), donor="reasoning", source="twin", **last)
    np.testing.assert_allclose(grid.effect[:, 0, 0], grid.gap, atol=1e-4)
    assert np.abs(grid.gap).max() > 1e-3
    assert grid.source == "twin"


def test_an_unrelated_prompt_is_of_another_family_and_the_same_contrast():
    probes = make_probes(5)
    rendered = render_all(probes)
    for item, other in zip(probes, source_prompts(probes, rendered, "unrelated"), strict=True):
        chosen = probes[other.item_id]
        assert (chosen.contrast, chosen.family == item.family) == (item.contrast, False)
    with pytest.raises(MechdriftError, match="needs two families"):
        source_prompts(make_probes(1), render_all(make_probes(1)), "unrelated")
    with pytest.raises(MechdriftError, match="has no twin"):
        source_prompts(probes.where("trigger"), render_all(probes.where("trigger")), "twin")


@ENGINES
def test_a_random_donor_is_as_long_as_the_real_one_and_drawn_again_the_same(models, engine):
    pair, probes, roles = pair_of(*models), make_probes(3), ("user", "think_close")
    grids = [patch(pair, probes, roles=roles, source="random", engine=engine) for _ in range(2)]
    np.testing.assert_array_equal(grids[0].effect, grids[1].effect)
    real = patch(pair, probes, roles=roles, engine=engine)
    assert np.abs(grids[0].effect[:, 1:]).min() > 0
    assert not np.allclose(grids[0].effect[:, 1:], real.effect[:, 1:], atol=1e-2)
    np.testing.assert_allclose(grids[0].gap, real.gap, atol=1e-6)
    other = patch(pair, probes, roles=roles, source="random", engine="forward" if engine == "replay" else "replay")
    np.testing.assert_allclose(grids[0].effect, other.effect, atol=1e-4)


@given(st.integers(1, 4), st.sampled_from([1, 2, 4]), st.floats(1e-3, 1e3))
def test_a_random_difference_keeps_the_length_of_every_head_at_every_position(span, parts, scale):
    generator = torch.Generator().manual_seed(span)
    own, given_ = torch.randn(span, 8, generator=generator), scale * torch.randn(span, 8, generator=generator)
    difference, wanted = (
        x.unflatten(1, (parts, -1)).norm(dim=2) for x in (randomised(own, given_, parts, "a") - own, given_ - own)
    )
    torch.testing.assert_close(difference, wanted, rtol=1e-3, atol=1e-3 * scale)
    assert not torch.equal(randomised(own, given_, parts, "a"), randomised(own, given_, parts, "b"))


def test_attribution_reads_the_same_prompts_as_patches(models):
    probes, pair = make_probes(2, ends=("!", " or not?")), pair_of(*models)
    options = {"source": "twin", "donor": "reasoning", "roles": ("user", "think_close")}
    estimate, exact = attribute(pair, probes, **options), patch(pair, probes, **options)
    np.testing.assert_allclose(estimate.gap, exact.gap, atol=1e-4)
    assert np.corrcoef(estimate.effect[:, -1].ravel(), exact.effect[:, -1].ravel())[0, 1] > 0.5


def test_rendering_falls_back_to_an_empty_block_for_a_model_that_did_not_think():
    probes, renderer = make_probes(1), Renderer(make_tokenizer())
    given_ = completions(probes, "instruct", "hm")
    first, second = render_prompts(renderer, probes, "donor", given_, "instruct", "reasoning")
    assert first.ids == render_all(probes)[0].ids
    assert "think" in second.roles
