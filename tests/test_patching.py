"""Patch grids against closed forms (pairs that differ in one place only) and against plain forward passes, one per
cell."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import FAMILIES, make_model, make_tokenizer
from test_capture import make_probes, pair_of, render_all
from torch.testing import assert_close

from mechdrift.activations.batching import pad
from mechdrift.activations.readouts import make_readout
from mechdrift.patching import passes, replay
from mechdrift.patching.cells import Cells, Group
from mechdrift.patching.grid import patch
from mechdrift.patching.replay import run_model, sweep_layers
from mechdrift.probes.rendering import Renderer
from mechdrift.probes.roles import role_span
from mechdrift.records import MechdriftError, PatchGrid

LAYERS = 4
ROLES = ("system", "user", "template_tail[-1]", "think_close")
EVERY_FAMILY = pytest.mark.parametrize("family", FAMILIES)
TIGHT = {"rtol": 0, "atol": 1e-4}


def blocks_of(model):
    return model.gpt_neox.layers if hasattr(model, "gpt_neox") else model.model.layers


def models_that_differ_in(layers, family: str = "llama") -> tuple:
    """Two models with the same parameters everywhere but in some blocks."""
    first, second = make_model(family, seed=0), make_model(family, seed=0)
    third = make_model(family, seed=1)
    for layer in layers:
        blocks_of(second)[layer].load_state_dict(blocks_of(third)[layer].state_dict())
    return first, second


@contextmanager
def replaced_input(block, start: int, stop: int, values: torch.Tensor):
    """Plain PyTorch, apart from mechdrift's hooks: the block gets other values at some positions."""

    def put(_, args, kwargs):
        hidden = (args[0] if args else kwargs["hidden_states"]).clone()
        hidden[:, start:stop] = values[:, start:stop]
        return ((hidden, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": hidden})

    handle = block.register_forward_pre_hook(put, with_kwargs=True)
    yield
    handle.remove()


@torch.no_grad()
def naive_grid(donor, recipient, probes, roles) -> np.ndarray:
    """`[prompt, layer, role]`: each prompt alone, one full forward pass per cell, readout from the whole model's
    logits."""
    readout = make_readout(Renderer(make_tokenizer()), probes)
    effect = np.empty((len(probes), LAYERS, len(roles)))
    for i, prompt in enumerate(render_all(probes)):
        ids = torch.tensor([prompt.ids])
        states = donor(ids, output_hidden_states=True).hidden_states
        before = readout.of(recipient(ids).logits[0, -1], prompt.item_id)
        for layer, role in np.ndindex(LAYERS, len(roles)):
            with replaced_input(blocks_of(recipient)[layer], *role_span(prompt, roles[role]), states[layer]):
                effect[i, layer, role] = readout.of(recipient(ids).logits[0, -1], prompt.item_id) - before
    return effect


# The engines against plain forward passes.


@EVERY_FAMILY
def test_replay_gives_the_numbers_of_one_forward_pass_per_cell(family):
    donor, recipient, probes, roles = (
        make_model(family, 0),
        make_model(family, 1),
        make_probes(2),
        ("user", "think_close"),
    )
    grid = patch(pair_of(donor, recipient), probes, roles=roles, engine="replay")
    expected = naive_grid(donor, recipient, probes, roles)
    assert np.abs(expected).max() > 0.01  # a test about nothing would pass
    np.testing.assert_allclose(grid.effect, expected, atol=1e-4)


@EVERY_FAMILY
def test_both_engines_agree_however_the_staircase_is_split(family, monkeypatch):
    pair, probes = (
        pair_of(make_model(family, 0), make_model(family, 1)),
        make_probes(5),
    )  # 10 prompts: two batches, with padding
    forward = patch(pair, probes, roles=ROLES, engine="forward")
    climb, climbs = replay._climb, []

    def watched(run, groups, cells, donated):
        climbs.append((len(groups), len(cells.layers), len(cells.layers) * sum(group.suffix for group in groups)))
        return climb(run, groups, cells, donated)

    monkeypatch.setattr(replay, "_climb", watched)
    for cap in (1, 150, 1500):  # one copy at a time; a long suffix takes its layers apart; a few groups together
        monkeypatch.setattr(replay, "TOKENS_AT_ONCE", cap)
        climbs.clear()
        np.testing.assert_allclose(patch(pair, probes, roles=ROLES, engine="replay").effect, forward.effect, atol=1e-4)
        assert all(size <= cap or groups == layers == 1 for groups, layers, size in climbs)
        assert max(groups for groups, _, _ in climbs) > 1 or cap == 1
    assert {layers for _, layers, _ in climbs} == {1, LAYERS}  # one layer: the self-test


def test_chosen_layers_come_out_ascending_whatever_their_order(tiny_pair):
    probes = make_probes(2)
    everything = patch(tiny_pair, probes, roles=("user",))
    chosen = patch(tiny_pair, probes, roles=("user",), layers=(3, 1, 3))
    assert chosen.layers == (1, 3)
    np.testing.assert_allclose(chosen.effect, everything.effect[:, [1, 3]], atol=1e-5)


def test_the_other_direction_swaps_donor_and_recipient(tiny_pair):
    probes = make_probes(2)
    there = patch(tiny_pair, probes, roles=("user",))
    back = patch(tiny_pair, probes, roles=("user",), donor="reasoning", recipient="instruct")
    np.testing.assert_allclose(back.recipient_readout, there.donor_readout, atol=1e-5)
    np.testing.assert_allclose(back.donor_readout, there.recipient_readout, atol=1e-5)
    models = [tiny_pair.open(side).model for side in ("reasoning", "instruct")]
    np.testing.assert_allclose(back.effect, naive_grid(*models, probes, ("user",)), atol=1e-4)


@torch.inference_mode()
def test_the_staircase_does_no_more_work_than_it_promises():
    """Layer l carries l + 1 copies of each suffix, so that a grid of L layers costs (L + 1) / 2 passes over the
    suffixes, not L."""
    pair, prompts = pair_of(make_model(), make_model()), [p.ids for p in render_all(make_probes(2))]
    loaded = pair.open("reasoning")
    run = run_model(loaded, pad(prompts, 0, side="left"))
    tokens = []
    for block in loaded.structure.blocks:
        block.register_forward_pre_hook(lambda _, args: tokens.append(args[0].shape[0] * args[0].shape[1]))
    groups = [
        Group(prompt=row, start=run.width - suffix, stop=run.width, end=run.width)
        for row in range(4)
        for suffix in (1, 2, 7)
    ]
    cells = Cells(site="resid_pre", layers=tuple(range(LAYERS)))
    sweep_layers(run, groups, cells, lambda layer, group: run.residual[layer][group.prompt, group.start :])
    assert tokens == [len(prompts) * 10 * (layer + 1) for layer in range(LAYERS)]


# Closed forms.


def test_a_model_patched_with_itself_does_not_change(twin_pair):
    for engine in ("replay", "forward"):
        grid = patch(twin_pair, make_probes(4), engine=engine)
        assert np.abs(grid.effect).max() <= 1e-5
        assert grid.identity_error <= 1e-5
        assert np.abs(grid.gap).max() <= 1e-5
        assert np.isnan(grid.recovery).all()  # nothing changed, so there is nothing to recover


@EVERY_FAMILY
@pytest.mark.parametrize("layer", [1, 3])
@torch.inference_mode()
def test_all_positions_of_the_donor_give_its_logits_when_the_rest_is_shared(family, layer):
    """The models differ below `layer` only: with the donor's whole residual stream put in there, the recipient *is* the
    donor."""
    donor, recipient = models_that_differ_in(range(layer), family)
    prompts = render_all(make_probes(3))
    pair, batch = pair_of(donor, recipient), pad([prompt.ids for prompt in prompts], 0, side="left")
    donated, run = run_model(pair.open("instruct"), batch).residual, run_model(pair.open("reasoning"), batch)
    groups = [
        Group(prompt=row, start=offset, stop=run.width, end=run.width) for row, offset in enumerate(batch.offsets)
    ]
    cells = Cells(site="resid_pre", layers=(layer,))
    final = sweep_layers(run, groups, cells, lambda at, group: donated[at][group.prompt, group.start :])
    logits = pair.open("reasoning").structure.unembed(final[:, 0, 0])
    for i, prompt in enumerate(prompts):
        ids = torch.tensor([prompt.ids])
        theirs, ours = donor(ids, use_cache=False).logits[0, -1], recipient(ids, use_cache=False).logits[0, -1]
        assert_close(logits[i], theirs, **TIGHT)
        assert (theirs - ours).abs().max() > 0.01  # the two models do differ


@pytest.mark.parametrize("engine", ["replay", "forward"])
def test_patches_below_the_first_difference_change_nothing(engine):
    """The models differ from block 2 on: what enters blocks 0 to 2 is the same in both, what enters block 3 is not."""
    pair = pair_of(*models_that_differ_in((2, 3)))
    grid = patch(pair, make_probes(3), roles=ROLES, engine=engine)
    assert np.abs(grid.effect[:, :3]).max() <= 1e-5
    assert np.abs(grid.effect[:, 3]).max() > 0.01
    assert np.abs(grid.gap).max() > 0.01


@pytest.mark.parametrize("engine", ["replay", "forward"])
def test_a_change_of_one_token_recovers_in_full_at_its_role_and_nowhere_else(engine):
    """The models differ in the embedding of a sign that ends the user's text: at layer 0 the whole change passes
    there."""
    donor, recipient, probes = make_model(), make_model(), make_probes(4)
    donor.model.embed_tokens.weight.data[make_tokenizer().encode("!?")] += 1
    grid = patch(
        pair_of(donor, recipient),
        probes,
        roles=("system", "user", "user[-1]", "user[0]", "template_tail"),
        engine=engine,
    )
    column = {role: grid.effect[:, :, i] for i, role in enumerate(grid.roles)}
    assert np.abs(grid.gap).min() > 0.001
    for role in ("user", "user[-1]"):
        np.testing.assert_allclose(column[role][:, 0], grid.gap, atol=1e-5)
    for role in ("system", "user[0]", "template_tail[-3]", "template_tail[-1]"):
        np.testing.assert_allclose(column[role][:, 0], 0, atol=1e-5)
    np.testing.assert_allclose(column["system"], 0, atol=1e-5)  # causal: nothing before the sign ever sees it


def test_the_last_blocks_output_at_the_readout_position_is_all_that_the_readout_sees():
    """The models share the final norm and the unembedding."""
    pair = pair_of(*models_that_differ_in((0, 2)))
    grid = patch(pair, make_probes(3), site="resid_post", layers=(LAYERS - 1,), roles=("think_close[-1]", "user"))
    np.testing.assert_allclose(grid.effect[:, 0, 0], grid.gap, atol=1e-5)
    np.testing.assert_allclose(grid.effect[:, 0, 1], 0, atol=1e-5)


@pytest.mark.parametrize("site", ["attn_out", "mlp_out", "z"])
def test_components_are_patched_where_the_change_is(site):
    """The models differ in one module of block 3; at the readout position its output is the whole change, no other site
    is."""
    donor, recipient = make_model(), make_model()
    changed = {"attn_out": "self_attn", "mlp_out": "mlp", "z": "self_attn"}[site]
    getattr(donor.model.layers[3], changed).load_state_dict(
        getattr(make_model(seed=1).model.layers[3], changed).state_dict()
    )
    if site == "z":  # upstream of the output projection, which therefore has to be shared
        donor.model.layers[3].self_attn.o_proj.load_state_dict(recipient.model.layers[3].self_attn.o_proj.state_dict())
    grid = patch(pair_of(donor, recipient), make_probes(3), site=site, roles=("think_close[-1]",))
    assert np.abs(grid.gap).max() > 0.001
    # The recipient's own MLP stands behind the patched attention, as the donor's does: they are the same.
    np.testing.assert_allclose(grid.effect[:, 3, 0], grid.gap, atol=1e-5)
    np.testing.assert_allclose(grid.effect[:, :3, 0], 0, atol=1e-5)


# Nothing is left behind, and nothing fails in silence.


@torch.inference_mode()
def test_a_sweep_changes_none_of_the_values_it_was_given(tiny_pair):
    batch = pad([prompt.ids for prompt in render_all(make_probes(3))], 0, side="left")
    run = run_model(tiny_pair.open("reasoning"), batch)
    kept = [(part.residual[layer], part.residual[layer].clone()) for part in (run,) for layer in range(LAYERS)]
    kept += [(tensor, tensor.clone()) for part in run.attended for tensor in (part.keys, part.values)]
    groups = [Group(prompt=row, start=run.width - 6, stop=run.width - 2, end=run.width) for row in range(6)]
    values = torch.randn(4, 32)
    donated, cells = values.clone(), Cells(site="resid_pre", layers=tuple(range(LAYERS)))
    for _ in range(2):
        found = sweep_layers(run, groups, cells, lambda *_: donated)
        assert torch.equal(found, sweep_layers(run, groups, cells, lambda *_: donated))
        assert torch.equal(donated, values)
        assert all(torch.equal(now, before) for now, before in kept)


@torch.no_grad()
def test_patching_leaves_the_models_as_they_were():
    models, ids = models_that_differ_in((1,)), torch.arange(40, 60)[None]
    before = [model(ids).logits for model in models]
    for engine in ("replay", "forward"):
        patch(pair_of(*models), make_probes(1), roles=("user",), engine=engine)
    for model, logits in zip(models, before, strict=True):
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
        assert torch.equal(model(ids).logits, logits)


def test_a_sweep_that_changes_a_model_patched_with_itself_is_stopped(tiny_pair, monkeypatch):
    """The planted fault: too large by half."""
    monkeypatch.setattr(passes, "sweep_layers", lambda *args: 1.5 * sweep_layers(*args))
    with pytest.raises(MechdriftError, match="identity self-test failed") as error:
        patch(tiny_pair, make_probes(2), roles=("user",))
    assert str(error.value).endswith(".")
    assert patch(tiny_pair, make_probes(2), roles=("user",), engine="forward").identity_error <= 1e-5


@pytest.mark.parametrize("side", ["instruct", "reasoning"])
def test_damaged_weights_are_named_by_model_layer_and_role(side):
    broken = make_model(seed=1)
    broken.model.layers[1].mlp.down_proj.weight.data[3, 4] = float("nan")
    models = {"instruct": make_model(), "reasoning": make_model()} | {side: broken}
    with pytest.raises(MechdriftError, match=f"{side} model .* layer 2, role system, item"):
        patch(pair_of(**models), make_probes(2), roles=("user",))
    with pytest.raises(
        MechdriftError, match=f"{side} model .* layer 3, role system, item"
    ):  # seen at the end, if nowhere before
        patch(pair_of(**models), make_probes(2), roles=("user",), layers=(0, 1))


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ({"engine": "quick"}, "unknown engine"),
        ({"site": "stream"}, "unknown site"),
        ({"roles": ("me",)}, "unknown role"),
        ({"roles": ("think",)}, "no role 'think'"),
        ({"layers": (1, 4)}, "no layer 4"),
        ({"think": "none", "roles": ("think_open",)}, "no role 'think_open'"),
        ({"think": "own"}, "give its completions"),
        ({"source": "aunt"}, "unknown source"),
    ],
)
def test_patch_refuses_what_does_not_exist_in_one_sentence(tiny_pair, argument, says):
    with pytest.raises(MechdriftError, match=says) as error:
        patch(tiny_pair, make_probes(1), **argument)
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)


# What the record says.


def test_recovery_is_a_ratio_of_means_and_missing_within_noise(tiny_pair):
    grid: PatchGrid = patch(tiny_pair, make_probes(4), roles=("user", "template_tail[-1]"))
    donor = grid.recipient_readout + np.linspace(1, 2, 8)
    np.testing.assert_allclose(replace(grid, donor_readout=donor).recovery, grid.effect.mean(0) / 1.5)
    noisy = grid.recipient_readout + np.array([-1, -1, 1, 1, -1, -1, 1, 1])  # the sign changes from family to family
    assert np.isnan(replace(grid, donor_readout=noisy).recovery).all()


def test_the_frame_holds_every_cell_once(tiny_pair):
    grid = patch(tiny_pair, make_probes(2), roles=("user", "template_tail[-1]"))
    table = grid.frame.set_index(["item", "layer", "role"])
    assert table.index.is_unique
    assert len(table) == grid.effect.size
    assert table.effect["1-t", 2, "user"] == grid.effect[2, 2, 0]
    assert table.donor_readout["1-t", 2, "user"] == grid.donor_readout[2]
