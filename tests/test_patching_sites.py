"""Every site, single heads, windows and directions: the fast engine against forward passes, and both against closed
forms."""

import numpy as np
import pytest
import torch
from conftest import FAMILIES, make_model, make_tokenizer
from test_capture import load, make_probes, pair_of, render_all
from test_patching import LAYERS, blocks_of, models_that_differ_in
from torch.testing import assert_close

from mechdrift.activations.batching import pad
from mechdrift.activations.recording import standard_sites
from mechdrift.hooks import record
from mechdrift.patching import checks, passes
from mechdrift.patching.cells import Cells, Group
from mechdrift.patching.grid import patch
from mechdrift.patching.naive import forward_layers
from mechdrift.patching.replay import run_model, sweep_layers
from mechdrift.probes.roles import role_span
from mechdrift.records import MechdriftError

EVERY_FAMILY = pytest.mark.parametrize("family", FAMILIES)


def site_cells(loaded) -> list[Cells]:
    """Every site this model has, heads one by one, windows, and directions."""
    layers, units = tuple(range(LAYERS)), torch.randn(LAYERS, 32, generator=torch.Generator().manual_seed(0))
    units = units / units.norm(dim=1, keepdim=True)
    return [
        *(Cells(site=site, layers=layers) for site in standard_sites(loaded)),
        Cells(site="z", layers=(0, 2, 3), heads=(0, 1, 3), n_heads=4),
        *(
            Cells(site=site, layers=(1, 3), windows=windows)
            for site in ("resid_pre", "mlp_out")
            for windows in ("up_to", "from")
        ),
        Cells(site="z", layers=(0, 2), heads=(1, 2), n_heads=4, windows="up_to"),
        *(Cells(site="resid_post", layers=layers, units=units, part=part) for part in ("along", "across")),
    ]


@EVERY_FAMILY
@pytest.mark.parametrize("side", ["left", "right"])
@torch.inference_mode()
def test_replay_gives_the_states_of_forward_passes_at_every_site_whatever_the_padding(family, side):
    donor, loaded = load(make_model(family, 0)), load(make_model(family, 1))
    prompts = [prompt.ids for prompt in render_all(make_probes(2))]
    batch = pad(prompts, 0, side=side)
    groups = [
        Group(prompt=row, start=offset + first, stop=offset + stop, end=offset + len(ids))
        for row, (ids, offset) in enumerate(zip(prompts, batch.offsets, strict=True))
        for first, stop in ((20, 43), (len(ids) - 9, len(ids) - 7), (len(ids) - 1, len(ids)))
    ]
    run = run_model(loaded, batch)
    for cells in site_cells(loaded):
        points = {layer: donor.structure.hook_point(cells.site, layer) for layer in range(LAYERS)}
        with record(points) as seen:
            donor.model.base_model(**batch.forward_arguments(donor.device), use_cache=False)

        def donated(layer, group, seen=seen):
            return seen[layer][group.prompt, group.start : group.stop]

        replayed, expected = (
            f(*of, groups, cells, donated) for f, of in ((sweep_layers, (run,)), (forward_layers, (loaded, batch)))
        )
        assert replayed.shape == (len(groups), len(cells.layers), max(1, len(cells.heads)), 32)
        assert_close(replayed, expected, rtol=0, atol=1e-4)
        alone = torch.stack([run.hidden[group.prompt, group.end - 1] for group in groups])
        assert (expected - alone[:, None, None]).abs().max() > 0.01  # something was patched


@EVERY_FAMILY
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@torch.inference_mode()
def test_replay_goes_through_the_models_own_attention_too(family, attention):
    """Eager attention is each model's own function, on copies of the prefix; SDPA is the shared product."""
    loaded = load(make_model(family, 1, attn_implementation=attention))
    assert loaded.model.config._attn_implementation == attention
    assert checks.why_not_replayable(loaded) == ""


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "gpt_neox"])
@pytest.mark.parametrize("engine", ["replay", "forward"])
def test_the_stream_between_attention_and_mlp_carries_all_that_changed_before_it(family, engine):
    """The models share everything after the attention of block 2, so at the readout position the whole change stands in
    its `resid_mid`; half of it is added past the MLP, which a patch of the norm's input alone would miss."""
    donor, recipient = models_that_differ_in((0, 1), family)
    blocks_of(donor)[2].self_attn.load_state_dict(blocks_of(make_model(family, seed=1))[2].self_attn.state_dict())
    donor_blocks, own_blocks = blocks_of(donor), blocks_of(recipient)
    donor_blocks[3].load_state_dict(own_blocks[3].state_dict())
    with torch.no_grad():  # the last block reads nothing of other positions
        for block in (donor_blocks[3], own_blocks[3]):
            block.self_attn.o_proj.weight.zero_()
    grid = patch(
        pair_of(donor, recipient),
        make_probes(3),
        site="resid_mid",
        roles=("think_close[-1]",),
        layers=(1, 2, 3),
        engine=engine,
    )
    assert np.abs(grid.gap).min() > 0.001
    np.testing.assert_allclose(grid.effect[:, 1:, 0], np.repeat(grid.gap[:, None], 2, 1), atol=1e-4)
    assert np.abs(grid.effect[:, 0, 0] - grid.gap).max() > 0.001  # block 2's attention comes later


def test_one_head_is_named_by_role_and_head_and_all_of_them_are_the_site():
    """Block 3 differs in its values only, so that each head's z is its own change; the last norm makes a sum out of it
    no more."""
    pair = pair_of(*models_that_differ_in((3,)))
    grid = patch(pair, make_probes(2), site="z", heads="all", roles=("user[-1]", "think_close[-1]"), layers=(2, 3))
    assert grid.roles == tuple(f"{role}.h{head}" for role in ("user[-1]", "think_close[-1]") for head in range(4))
    chosen = patch(pair, make_probes(2), site="z", heads=[2, 0], roles=("think_close[-1]",), layers=(3,))
    assert chosen.roles == ("think_close[-1].h2", "think_close[-1].h0")
    np.testing.assert_allclose(chosen.effect[:, 0], grid.effect[:, 1, [6, 4]], atol=1e-5)
    assert np.abs(grid.effect[:, 0]).max() == 0  # the same below block 3
    assert np.abs(grid.effect[:, 1, 4:]).max() > 0.001


def test_a_window_of_all_layers_is_the_donor_and_windows_meet_their_ends():
    """Components of all layers, at all positions that are read, from equal embeddings: the recipient becomes the
    donor."""
    donor, recipient = models_that_differ_in((0, 1, 2, 3))
    for first, second in zip(
        blocks_of(donor), blocks_of(recipient), strict=True
    ):  # what feeds the components is patched, not read
        second.load_state_dict({name: value.clone() for name, value in second.state_dict().items()})
        first.mlp.load_state_dict(second.mlp.state_dict())
    pair, roles = pair_of(donor, recipient), ("think_close[-1]",)
    up_to = patch(pair, make_probes(2), site="attn_out", roles=roles, windows="up_to")
    since = patch(pair, make_probes(2), site="attn_out", roles=roles, windows="from")
    each = patch(pair, make_probes(2), site="attn_out", roles=roles)
    assert np.abs(up_to.gap).max() > 0.001
    np.testing.assert_allclose(up_to.effect[:, 3, 0], up_to.gap, atol=1e-4)
    np.testing.assert_allclose(since.effect[:, 0, 0], since.gap, atol=1e-4)
    np.testing.assert_allclose(up_to.effect[:, 0], each.effect[:, 0], atol=1e-4)
    np.testing.assert_allclose(since.effect[:, 3], each.effect[:, 3], atol=1e-4)
    assert up_to.windows == "up_to"


def test_the_parts_along_and_across_a_direction_are_linear_pieces_of_the_patch():
    """Along a direction that holds the whole difference the patch is complete, across it it is nothing, and the other
    way round."""
    donor, recipient, probes = make_model(), make_model(), make_probes(3)
    direction = torch.randn(32, generator=torch.Generator().manual_seed(1))
    donor.model.embed_tokens.weight.data[make_tokenizer().encode("!?")] += direction
    other = direction.flip(0) - (direction.flip(0) @ direction) / (direction @ direction) * direction
    pair, common = pair_of(donor, recipient), {"probes": probes, "roles": ("user[-1]",), "layers": (0,)}
    whole = patch(pair, **common).effect
    assert np.abs(whole).max() > 0.01
    np.testing.assert_allclose(patch(pair, **common, along=direction).effect, whole, atol=1e-4)
    np.testing.assert_allclose(patch(pair, **common, across=direction).effect, 0, atol=1e-4)
    np.testing.assert_allclose(patch(pair, **common, along=other.expand(LAYERS, 32)).effect, 0, atol=1e-4)
    np.testing.assert_allclose(patch(pair, **common, across=other).effect, whole, atol=1e-4)


def test_every_position_has_a_column_named_by_its_role(tiny_pair):
    probes = make_probes(1)
    (prompt, _), grid = render_all(probes), patch(tiny_pair, probes, roles="every_position", layers=(1, 3))
    assert len(grid.roles) == len(prompt.ids)
    spans = [role_span(prompt, role) for role in grid.roles]
    assert spans == [(i, i + 1) for i in range(len(prompt.ids))]
    some = ("user[1]", "template_tail[-2]", "think_close[-1]")
    places = [role_span(prompt, role)[0] for role in some]
    np.testing.assert_allclose(
        grid.effect[:, :, places], patch(tiny_pair, probes, roles=some, layers=(1, 3)).effect, atol=1e-5
    )
    with pytest.raises(MechdriftError, match="needs prompts of equal length"):
        patch(tiny_pair, make_probes(2), roles="every_position")


# What stands before a grid.


def shifting(model):
    """A block that looks at other positions outside its attention, so that no replay can know what it saw."""
    mlp = blocks_of(model)[1].mlp
    mlp.register_forward_hook(lambda _, args, out: out + out.roll(1, dims=1))
    return model


def test_a_model_that_cannot_be_replayed_is_patched_by_forward_passes_and_says_so():
    pair = pair_of(make_model(), shifting(make_model(seed=1)))
    with pytest.warns(UserWarning, match="cannot be replayed exactly .* one forward pass per cell"):
        grid = patch(pair, make_probes(1), roles=("user[-1]",))
    assert grid.engine == "forward"
    assert grid.identity_error <= 1e-5
    with pytest.raises(MechdriftError, match=r"cannot be replayed exactly .*: use engine='forward'"):
        patch(pair, make_probes(1), roles=("user[-1]",), engine="replay")
    assert patch(pair_of(make_model(), make_model(seed=1)), make_probes(1), roles=("user[-1]",)).engine == "replay"


def test_attention_that_is_not_seen_cannot_be_replayed(monkeypatch):
    model = make_model()
    monkeypatch.setattr(blocks_of(model)[1].self_attn, "forward", lambda hidden_states, **_: (hidden_states, None))
    assert "3 attentions were seen in 4 blocks" in checks.why_not_replayable(load(model))


def test_a_last_block_that_is_not_what_is_read_stops_the_grid(tiny_pair, monkeypatch):
    """The planted fault: the states of the last block's cells come out too large, those of others do not."""

    def faulty(run, groups, cells, donated):
        return sweep_layers(run, groups, cells, donated) * (1.5 if cells.site == "resid_post" else 1)

    monkeypatch.setattr(passes, "sweep_layers", faulty)
    with pytest.raises(MechdriftError, match=r"last-block test failed: .* layer 3"):
        patch(tiny_pair, make_probes(1), roles=("user",))


def test_tokens_that_mean_something_else_to_the_other_model_stop_the_grid():
    pair = pair_of(make_model(), make_model(seed=1))
    other = make_tokenizer()
    renamed = {"e": "é"}
    original = other.convert_ids_to_tokens
    other.convert_ids_to_tokens = lambda ids: [renamed.get(token, token) for token in original(ids)]
    pair.models["instruct"].tokenizer = other
    with pytest.raises(MechdriftError, match="is 'é' to the instruct model and 'e' to the reasoning model"):
        patch(pair, make_probes(1), roles=("user",))
    renamed = {"<|im_start|>": "<|start|>"}
    with pytest.warns(UserWarning, match=r"<\|start\|> and <\|im_start\|>"):
        patch(pair, make_probes(1), roles=("user",))


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ({"heads": "all"}, "use site='z'"),
        ({"site": "z", "heads": "some"}, "unknown heads"),
        ({"site": "z", "heads": [4]}, "no head 4"),
        ({"windows": "to"}, "unknown windows"),
        ({"along": torch.ones(32), "across": torch.ones(32)}, "not both"),
        ({"along": torch.ones(31)}, r"the shape \[31\]"),
        ({"site": "z", "across": torch.ones(32)}, "for site 'z'"),
    ],
)
def test_patch_refuses_cells_that_do_not_exist_in_one_sentence(tiny_pair, argument, says):
    with pytest.raises(MechdriftError, match=says) as error:
        patch(tiny_pair, make_probes(1), **argument)
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)
