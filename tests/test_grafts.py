"""Grafts against models whose parameters were really exchanged, and against closed forms."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from conftest import FAMILIES, make_model, make_tokenizer
from test_capture import make_probes, pair_of, render_all
from test_patching import LAYERS, blocks_of, models_that_differ_in
from transformers import GPT2Config, GPT2LMHeadModel

from mechdrift.activations.readouts import make_readout
from mechdrift.pairs.pair import Pair
from mechdrift.patching.grafts import graft
from mechdrift.patching.grid import patch
from mechdrift.patching.swaps import swapped
from mechdrift.probes.rendering import Renderer
from mechdrift.records import MechdriftError

EVERY_FAMILY = pytest.mark.parametrize("family", FAMILIES)
OF_LLAMA = {
    "layer": "",
    "attn": "self_attn.",
    "mlp": "mlp.",
    "norms": "layernorm",
    "q": "q_proj",
    "k": "k_proj",
    "v": "v_proj",
    "o": "o_proj",
    "gate": "gate_proj",
    "up": "up_proj",
    "down": "down_proj",
}


@torch.no_grad()
def readouts(model, probes) -> np.ndarray:
    """Each prompt alone, from the whole model's logits."""
    readout = make_readout(Renderer(make_tokenizer()), probes)
    return np.array([readout.of(model(torch.tensor([p.ids])).logits[0, -1], p.item_id) for p in render_all(probes)])


@torch.no_grad()
def exchanged(recipient, donor, layers, part: str = "", share: float = 1.0):
    """A copy of the recipient with the donor's parameters, by plain PyTorch."""
    model = deepcopy(recipient)
    for layer in layers:
        theirs = dict(blocks_of(donor)[layer].named_parameters())
        for name, parameter in blocks_of(model)[layer].named_parameters():
            if part in name:
                parameter.copy_((1 - share) * parameter + share * theirs[name])
    return model


def windows_of(layer: int, windows: str, chosen=range(LAYERS)) -> range:
    following = min((other for other in chosen if other > layer), default=LAYERS)
    return {
        "each": range(layer, layer + 1),
        "to_next": range(layer, following),
        "up_to": range(layer + 1),
        "from": range(layer, LAYERS),
    }[windows]


@EVERY_FAMILY
@pytest.mark.parametrize("windows", ["each", "to_next", "up_to", "from"])
@pytest.mark.parametrize("engine", ["replay", "forward"])
def test_a_graft_is_the_model_with_the_donors_parameters(family, windows, engine):
    donor, recipient, probes, layers = (
        make_model(family, 1),
        make_model(family, 0),
        make_probes(5),
        (0, 2, 3),
    )  # 10 prompts: two batches
    grid = graft(pair_of(donor, recipient), probes, layers=layers, windows=windows, engine=engine)
    before = readouts(recipient, probes)
    for place, layer in enumerate(layers):
        expected = readouts(exchanged(recipient, donor, windows_of(layer, windows, layers)), probes) - before
        assert np.abs(expected).max() > 0.01
        np.testing.assert_allclose(grid.effect[:, place, 0], expected, atol=1e-4)
    np.testing.assert_allclose(grid.recipient_readout, before, atol=1e-4)
    np.testing.assert_allclose(grid.donor_readout, readouts(donor, probes), atol=1e-4)
    assert (grid.engine, grid.site, grid.roles) == (engine, "weights", ("layer",))


def test_a_mask_that_blocks_are_given_by_its_place_is_given_again():
    """As GPT-2 does. The prompts have several lengths, so that the mask counts."""
    models, probes = [], make_probes(2)
    for seed in (1, 0):
        torch.manual_seed(seed)
        model = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=258, initializer_range=0.1))
        models.append(model.eval())
    grids = [graft(pair_of(*models), probes, layers=(0,), engine=engine) for engine in ("replay", "forward")]
    assert np.abs(grids[1].effect).max() > 1e-3
    np.testing.assert_allclose(grids[0].effect, grids[1].effect, atol=1e-4)


@pytest.mark.parametrize("module", OF_LLAMA)
def test_every_module_by_its_name(module):
    donor, recipient, probes = make_model(seed=1), make_model(seed=0), make_probes(1)
    for layer in range(LAYERS):
        for block in (blocks_of(donor)[layer],):
            block.input_layernorm.weight.data += 0.3  # norms are all ones at first
            block.post_attention_layernorm.weight.data -= 0.2
    grid = graft(pair_of(donor, recipient), probes, modules=(module,), layers=(1, 3))
    before = readouts(recipient, probes)
    for place, layer in enumerate((1, 3)):
        expected = readouts(exchanged(recipient, donor, (layer,), OF_LLAMA[module]), probes) - before
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(grid.effect[:, place, 0], expected, atol=1e-4)


def test_shares_interpolate_and_name_their_columns():
    donor, recipient, probes = make_model(seed=1), make_model(seed=0), make_probes(1)
    grid = graft(pair_of(donor, recipient), probes, modules=("mlp", "attn"), shares=(0, 0.5, 1), layers=(2,))
    assert grid.roles == ("mlp@0", "mlp@0.5", "mlp@1", "attn@0", "attn@0.5", "attn@1")
    half = readouts(exchanged(recipient, donor, (2,), "mlp.", 0.5), probes) - readouts(recipient, probes)
    np.testing.assert_allclose(grid.effect[:, 0, 1], half, atol=1e-4)
    np.testing.assert_allclose(grid.effect[:, 0, [0, 3]], 0, atol=1e-6)


@pytest.mark.parametrize("engine", ["replay", "forward"])
def test_only_the_layer_that_was_changed_lights_up(engine):
    """Where patches of the residual stream stay lit above the change, a graft is lit at it, and there it is the whole
    gap."""
    pair, probes = pair_of(*models_that_differ_in((1,))), make_probes(3)
    grafted, patched = graft(pair, probes, engine=engine), patch(pair, probes, roles=("all",), engine=engine)
    assert np.abs(grafted.gap).max() > 0.01
    np.testing.assert_allclose(grafted.effect[:, 1, 0], grafted.gap, atol=1e-5)
    np.testing.assert_allclose(grafted.effect[:, [0, 2, 3], 0], 0, atol=1e-6)
    np.testing.assert_allclose(patched.effect[:, 2:, 0], np.stack([grafted.gap] * 2, axis=1), atol=1e-4)


def test_all_blocks_up_to_the_last_are_the_donor_where_the_rest_is_shared():
    """And the whole-prompt patch of layer l is the graft of all blocks below it."""
    pair, probes = pair_of(*models_that_differ_in((0, 2, 3))), make_probes(3)
    grid = graft(pair, probes, windows="up_to")
    np.testing.assert_allclose(grid.effect[:, -1, 0], grid.gap, atol=1e-4)
    np.testing.assert_allclose(patch(pair, probes, roles=("all",)).effect[:, 1:, 0], grid.effect[:, :-1, 0], atol=1e-4)


def test_the_recipient_is_itself_again_bit_for_bit(tiny_pair):
    before = {name: value.clone() for name, value in tiny_pair.open("reasoning").model.state_dict().items()}
    graft(tiny_pair, make_probes(1), modules=("mlp", "layer"), shares=(0.3, 1), windows="from")
    after = tiny_pair.open("reasoning").model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_parameters_come_back_also_after_an_error():
    block, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    own = block.weight.clone()
    inside = []

    def fail() -> None:
        with swapped(block, {"weight": other.weight}, 0.5):
            inside.append(block.weight.clone())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not torch.equal(inside[0], own)
    assert torch.equal(block.weight, own)


def test_a_donor_that_is_let_go_of_is_grafted_from_files(monkeypatch):
    pair, probes = pair_of(make_model(seed=1), make_model(seed=0)), make_probes(1)
    expected = graft(pair, probes, modules=("layer", "o")).effect
    monkeypatch.setattr(Pair, "keeps", lambda *_: False)
    monkeypatch.setattr(Pair, "open", lambda self, side: self.models[side].loaded["float32"])
    np.testing.assert_array_equal(graft(pair, probes, modules=("layer", "o")).effect, expected)


@pytest.mark.parametrize(
    ("family", "argument", "says"),
    [
        ("llama", {"modules": "qkv"}, "has no separate module 'qkv': use one of .*gate"),
        ("gpt_neox", {"modules": ("q",)}, "qkv"),
        ("llama", {"modules": "brain"}, "unknown module 'brain'"),
        ("llama", {"windows": "some"}, "unknown windows"),
        ("llama", {"layers": (7,)}, "no layer 7"),
        ("llama", {"think": "own"}, "give its completions"),
        ("llama", {"shares": ()}, "one or more"),
        ("llama", {"shares": (float("nan"),)}, "finite"),
    ],
)
def test_graft_refuses_what_does_not_exist_in_one_sentence(family, argument, says):
    with pytest.raises(MechdriftError, match=says) as error:
        graft(pair_of(make_model(family, 0), make_model(family, 1)), make_probes(1), **argument)
    assert str(error.value).endswith(".")
