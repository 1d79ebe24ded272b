"""Many settings in few passes give the numbers of one forward pass per setting and prompt, for every family."""

import pytest
import torch
from conftest import FAMILIES, make_model, make_tokenizer
from test_capture import load, make_probes, render_all
from test_interventions import random_vectors
from torch.testing import assert_close

from mechdrift.activations.batching import pad, reads_padding
from mechdrift.hooks import edit
from mechdrift.probes.rendering import Renderer
from mechdrift.steering import sweeps
from mechdrift.steering.edits import ablate, role_mask, steer
from mechdrift.steering.sweeps import Addition, ablated_states, first_order, steered_states

EVERY_FAMILY = pytest.mark.parametrize("family", FAMILIES)


@torch.no_grad()
def naive(loaded, rendered, edits_of) -> torch.Tensor:
    """`[prompt, d_model]`: each prompt alone, one plain forward pass under its edits."""
    states = []
    for prompt in rendered:
        with edit(edits_of(prompt)):
            hidden = loaded.model.base_model(torch.tensor([prompt.ids]), use_cache=False).last_hidden_state
        states.append(hidden[0, prompt.readout_position])
    return torch.stack(states)


def prompts_of(answers: bool):
    parts = {"answer": (50, 51, 52)} if answers else {}
    return render_all(make_probes(5), **parts)


@EVERY_FAMILY
def test_ablated_settings_are_those_of_one_pass_each(family, monkeypatch):
    monkeypatch.setattr(sweeps, "TOKENS_AT_ONCE", 200)  # several batches, of settings and of prompts
    loaded, rendered, directions = load(make_model(family)), prompts_of(answers=True), random_vectors(3)
    found = ablated_states(loaded, rendered, directions)
    assert found.shape == (3, len(rendered), 32)
    for states, direction in zip(found, directions, strict=True):
        assert_close(states, naive(loaded, rendered, lambda _, r=direction: ablate(loaded, r)), rtol=0, atol=1e-4)
    assert (found[0] - found[1]).abs().max() > 0.01


def test_prompts_that_share_no_beginning_are_ablated_too():
    loaded = load(make_model())
    renderer = Renderer(make_tokenizer("{{ messages[0]['content'] }} so"))
    rendered = [renderer.render(str(i), text, "none") for i, text in enumerate(("abc", "xy", "q"))]
    directions = random_vectors(2)
    found = ablated_states(loaded, rendered, directions)
    assert_close(found[1], naive(loaded, rendered, lambda _: ablate(loaded, directions[1])), rtol=0, atol=1e-4)
    alone = ablated_states(loaded, rendered[:1], directions)  # one prompt shares everything with itself
    assert_close(alone[:, 0], found[:, 0], rtol=0, atol=1e-4)


@EVERY_FAMILY
@pytest.mark.parametrize("roles", [None, ("user", "think_close")])
def test_steered_settings_are_those_of_one_pass_each(family, roles):
    loaded, rendered = load(make_model(family)), prompts_of(answers=roles is None)
    vectors = 3 * random_vectors(5)
    additions = [Addition(layer=layer, vector=vector) for layer, vector in zip((2, 0, 2, 3, 2), vectors, strict=True)]
    found = steered_states(loaded, rendered, additions, roles)
    for states, addition in zip(found, additions, strict=True):

        def edits_of(prompt, addition=addition):
            where = None if roles is None else role_mask([prompt], pad([prompt.ids], 0), roles)
            return steer(loaded, addition.vector, addition.layer, where=where)

        assert_close(states, naive(loaded, rendered, edits_of), rtol=0, atol=1e-4)
    assert (found[0] - found[2]).abs().max() > 0.01


def test_staircases_take_each_layer_once_and_every_setting():
    additions = [Addition(layer=layer, vector=torch.zeros(1)) for layer in (3, 1, 1, 2, 3, 1)]
    climbs = list(sweeps._climbs(additions))
    assert sorted(i for climb in climbs for i in climb) == list(range(6))
    assert [[additions[i].layer for i in climb] for climb in climbs] == [[1, 2, 3], [1, 3], [1]]


def test_the_shared_beginning_is_run_once_per_setting_and_the_lower_layers_once():
    loaded, rendered = load(make_model()), prompts_of(answers=False)[:4]
    assert not reads_padding(loaded)  # tried once per model
    tokens = []
    for block in loaded.structure.blocks:
        block.register_forward_pre_hook(lambda _, args: tokens.append(args[0].shape[0] * args[0].shape[1]))
    shared = sweeps._shared_start(rendered)
    ablated_states(loaded, rendered, random_vectors(3))
    longest = max(len(prompt.ids) for prompt in rendered)
    assert shared > 10
    assert sum(tokens) == 4 * (3 * shared + 3 * 4 * (longest - shared))
    tokens.clear()
    steered_states(loaded, rendered, [Addition(layer=3, vector=random_vectors()) for _ in range(2)])
    assert sum(tokens) == 4 * 4 * longest + 2 * sum(len(prompt.ids) for prompt in rendered)


@EVERY_FAMILY
def test_first_order_estimates_are_the_derivatives_of_the_exact_effects(family, monkeypatch):
    monkeypatch.setattr(sweeps, "TOKENS_WITH_GRADIENTS", 200)
    loaded, rendered, vectors = load(make_model(family).double()), prompts_of(answers=True), random_vectors(2, 3)
    layers, step = (1, 3), 2e-3  # larger would see the curvature, smaller the norms, which stay in float32

    def value(logits, item_id):
        return logits[5].double() - logits[9].double() * len(item_id)

    found = first_order(loaded, rendered, vectors, layers, value)

    def values(edits_of) -> torch.Tensor:
        states = naive(loaded, rendered, edits_of)
        return torch.stack(
            [value(row, prompt.item_id) for row, prompt in zip(loaded.structure.unembed(states), rendered, strict=True)]
        )

    def slope(edits_of) -> torch.Tensor:
        return ((values(lambda _: edits_of(step)) - values(lambda _: edits_of(-step))) / (2 * step)).float()

    def in_part(r, share):  # as much of the ablation as `share`
        return {
            point: lambda x, whole=whole: x + share * (whole(x) - x)
            for point, whole in ablate(loaded, r).items()
            if not _is_repeat(point)
        }

    later = {id(block) for block in loaded.structure.blocks[1:]}

    def _is_repeat(point):  # block inputs after the first are sums of writes that are edited already
        return id(point.module) in later and point.end == "input"

    added = slope(lambda share: steer(loaded, vectors[1, 2], layers[1], share))
    assert_close(found.added[:, 1, 2], added, rtol=1e-2, atol=1e-3)
    ablated = slope(lambda share: in_part(vectors[0, 1], share))
    assert_close(found.ablated[:, 0, 1], ablated, rtol=1e-2, atol=1e-3)
    assert added.abs().max() > 0.01
    assert ablated.abs().max() > 0.01
