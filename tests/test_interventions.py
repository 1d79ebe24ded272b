"""Edits against closed forms and plain PyTorch; the weight form against the run-time form, for every family."""

import copy

import pytest
import torch
from conftest import FAMILIES, make_model
from test_capture import load, make_probes, render_all
from test_hooks import hooks_of
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from mechdrift.activations.batching import pad
from mechdrift.hooks import edit, record
from mechdrift.probes.roles import role_span
from mechdrift.records import MechdriftError
from mechdrift.steering.edits import ablate, role_mask, steer
from mechdrift.steering.weights import orthogonalise

D_MODEL, LAYERS = 32, 4
IDS = torch.arange(40, 80)[None]
EVERY_FAMILY = pytest.mark.parametrize("family", FAMILIES)
WEIGHT_FAMILIES = pytest.mark.parametrize(
    "family", [family for family in FAMILIES if family != "gemma3_text"] + ["gpt2"]
)


def make(family: str):
    if family != "gpt2":
        return make_model(family)
    torch.manual_seed(0)
    config = GPT2Config(n_embd=D_MODEL, n_layer=LAYERS, n_head=4, vocab_size=258, bos_token_id=1, eos_token_id=0)
    return GPT2LMHeadModel(config).eval()


def random_vectors(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, D_MODEL, generator=torch.Generator().manual_seed(seed))


def with_biases(model):
    """Biases of random numbers: those of a fresh model are zeros, and an edit that forgets them would pass."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name)))
    return model


@torch.no_grad()
def logits(loaded, ids=IDS, **arguments) -> torch.Tensor:
    return loaded.model(ids, use_cache=False, **arguments).logits


@torch.no_grad()
def sites(loaded, *names: str) -> dict:
    points = {(site, layer): loaded.structure.hook_point(site, layer) for site in names for layer in range(LAYERS)}
    with record(points) as seen:
        loaded.model(IDS, use_cache=False)
    return seen


# Ablation.


@EVERY_FAMILY
def test_an_ablated_stream_holds_nothing_of_the_direction(family):
    loaded, r = load(make(family)), random_vectors()
    before = sites(loaded, "resid_post")
    with edit(ablate(loaded, r)):
        after = sites(loaded, "resid_pre", "resid_post")
    unit = r / r.norm()
    assert max((x @ unit).abs().max() for x in before.values()) > 0.1
    assert max((x @ unit).abs().max() for x in after.values()) < 1e-5
    assert hooks_of(loaded.model) == 0


def test_ablation_is_x_minus_r_r_x_at_the_chosen_place_only():
    loaded, r = load(make("llama")), random_vectors()
    before, unit = sites(loaded, "mlp_out", "resid_pre"), r / r.norm()
    with edit(ablate(loaded, 7 * r, sites=("mlp_out",), layers=(1,))):  # its length does not matter
        after = sites(loaded, "mlp_out", "resid_pre")
    x = before["mlp_out", 1]
    assert_close(after["mlp_out", 1], x - (x @ unit)[..., None] * unit, rtol=0, atol=1e-5)
    assert_close(after["resid_pre", 2] - before["resid_pre", 2], -(x @ unit)[..., None] * unit, rtol=0, atol=1e-5)
    assert_close(after["mlp_out", 0], before["mlp_out", 0], rtol=0, atol=0)


def test_each_row_of_a_batch_and_each_layer_may_have_a_direction_of_its_own():
    loaded, vectors = load(make("llama")), random_vectors(3)
    batch = IDS.repeat(3, 1)
    with edit(ablate(loaded, vectors)):
        together = logits(loaded, batch)
    for row, vector in enumerate(vectors):
        with edit(ablate(loaded, vector)):
            assert_close(together[row], logits(loaded)[0], rtol=0, atol=1e-4)
    assert (together[0] - together[1]).abs().max() > 0.01
    by_layer = {0: vectors[0], 2: vectors[1]}
    with pytest.raises(MechdriftError, match=r"no vector for layer 1: the dict holds \[0, 2\]"):
        ablate(loaded, by_layer, layers=(0, 1))
    assert ablate(loaded, by_layer, layers=(2,)).keys() == ablate(loaded, vectors[1], layers=(2,)).keys()
    with edit(ablate(loaded, by_layer)):
        both = logits(loaded)
    with edit(ablate(loaded, vectors[0], layers=(0,))), edit(ablate(loaded, vectors[1], layers=(2,))):
        assert_close(both, logits(loaded), rtol=0, atol=0)


def test_ablation_is_as_exact_in_bfloat16_as_the_numbers_allow():
    loaded, r = load(make("llama").to(torch.bfloat16)), random_vectors()
    with edit(ablate(loaded, r)):
        after = sites(loaded, "resid_pre")
    unit = (r / r.norm()).double()
    for x in after.values():
        assert x.dtype == torch.bfloat16
        assert ((x.double() @ unit).abs() <= 2**-8 * x.double().norm(dim=-1)).all()


# Steering.


@EVERY_FAMILY
def test_steering_adds_strength_times_the_vector_at_one_layer(family):
    loaded, v = load(make(family)), random_vectors()
    before = sites(loaded, "resid_pre")
    with edit(steer(loaded, v, 2, -1.5)):
        after = sites(loaded, "resid_pre")
    for layer in (0, 1):
        assert_close(after["resid_pre", layer], before["resid_pre", layer], rtol=0, atol=0)
    # A hook that records before the edit would see the old value: what the block reads is compared instead.
    copied = copy.deepcopy(loaded.model)

    def put(_, args, kwargs):
        if args:
            return (args[0] - 1.5 * v, *args[1:]), kwargs
        return args, kwargs | {"hidden_states": kwargs["hidden_states"] - 1.5 * v}

    load(copied).structure.blocks[2].register_forward_pre_hook(put, with_kwargs=True)
    with edit(steer(loaded, v, 2, -1.5)):
        assert_close(logits(loaded), copied(IDS, use_cache=False).logits, rtol=0, atol=1e-4)
    assert (logits(loaded) - copied(IDS, use_cache=False).logits).abs().max() > 0.01


def test_steering_several_layers_is_steering_them_one_within_the_other():
    loaded, v = load(make("llama")), random_vectors()
    with edit(steer(loaded, v, (1, 3))):
        both = logits(loaded)
    with edit(steer(loaded, v, 1)), edit(steer(loaded, v, 3)):
        assert_close(logits(loaded), both, rtol=0, atol=0)
    with edit(steer(loaded, {1: v, 3: v})):
        assert_close(logits(loaded), both, rtol=0, atol=0)
    with edit(steer(loaded, v, 1)), edit(steer(loaded, v, 1, -1)):  # at the same place they add up, too
        assert_close(logits(loaded), logits(load(loaded.model)), rtol=0, atol=1e-4)


@pytest.mark.parametrize("side", ["left", "right"])
def test_roles_are_edited_at_their_tokens_and_nowhere_else(side):
    loaded, v, prompts = load(make("llama")), random_vectors(), render_all(make_probes())
    batch = pad([prompt.ids for prompt in prompts], 0, side=side)
    mask = role_mask(prompts, batch, ("user", "think_close[-1]"))
    point = {0: loaded.structure.hook_point("resid_post", 0)}  # what block 1 is given, before and after the edit
    seen = []
    for edits in (
        {},
        steer(loaded, v, 1, where=mask),
        ablate(loaded, v, sites=("resid_pre",), layers=(1,), where=mask),
    ):
        with edit(edits), record({1: loaded.structure.hook_point("resid_pre", 1)} | point) as states, torch.no_grad():
            loaded.model.base_model(**batch.forward_arguments(loaded.device), use_cache=False)
        seen.append(states[1])
    plain, steered, ablated = seen
    for row, (prompt, offset) in enumerate(zip(prompts, batch.offsets, strict=True)):
        wanted = {offset + i for role in ("user", "think_close[-1]") for i in range(*role_span(prompt, role))}
        for position in range(offset, offset + len(prompt.ids)):
            x, inside = plain[row, position], position in wanted
            assert_close(steered[row, position], x + v * inside, rtol=0, atol=1e-5)
            assert_close(ablated[row, position], x - (x @ v) / (v @ v) * v * inside, rtol=0, atol=1e-5)


def test_edits_act_while_decoding_with_a_cache_as_they_do_without():
    loaded, v = load(make("llama")), random_vectors()
    for edits in (steer(loaded, v, 1, 3.0), ablate(loaded, v)):
        with edit(edits), torch.no_grad():
            cached = loaded.model.generate(IDS, max_new_tokens=6, do_sample=False, eos_token_id=None, pad_token_id=0)
            greedy = IDS
            for _ in range(6):
                greedy = torch.cat([greedy, logits(loaded, greedy)[:, -1:].argmax(-1)], dim=1)
        assert torch.equal(cached, greedy)


def test_only_what_the_model_writes_is_steered():
    """The prompt's tokens are left alone: the decoded ones are edited, as with a mask over the whole text at once."""
    loaded, v, written = load(make("llama")), 5 * random_vectors(), 5
    with edit(steer(loaded, v, 1, where="written")), torch.no_grad():
        out = loaded.model.generate(
            IDS,
            max_new_tokens=written,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
            output_logits=True,
            return_dict_in_generate=True,
        )
    mask = torch.zeros(out.sequences.shape, dtype=torch.bool)
    mask[:, IDS.shape[1] :] = True
    with edit(steer(loaded, v, 1, where=mask)):
        expected = logits(loaded, out.sequences)[0, IDS.shape[1] - 1 : -1]
    assert_close(torch.cat(out.logits), expected, rtol=0, atol=1e-4)
    assert (logits(loaded, out.sequences)[0, -2] - expected[-1]).abs().max() > 0.01


# The weight form.


@WEIGHT_FAMILIES
def test_weights_without_the_direction_are_ablation_at_run_time(family, tmp_path):
    loaded, r = load(with_biases(make(family))), random_vectors()
    original, plain = copy.deepcopy(loaded.model.state_dict()), logits(loaded)
    edited = orthogonalise(loaded, r)
    with edit(ablate(loaded, r)):
        assert_close(logits(edited), logits(loaded), rtol=0, atol=2e-4)
    assert (logits(edited) - plain).abs().max() > 0.05
    assert_close(logits(loaded), plain, rtol=0, atol=0)  # the model itself is as it was
    assert all(torch.equal(value, original[name]) for name, value in loaded.model.state_dict().items())
    edited.model.save_pretrained(tmp_path)
    assert_close(AutoModelForCausalLM.from_pretrained(tmp_path)(IDS).logits, logits(edited), rtol=0, atol=1e-5)


@pytest.mark.parametrize("tied", [True, False])
def test_the_unembedding_keeps_the_direction_also_where_it_was_tied(tied, tmp_path):
    loaded, r = load(make_model("llama", tie_word_embeddings=tied)), random_vectors()
    edited = orthogonalise(loaded, r)
    assert torch.equal(edited.model.lm_head.weight, loaded.model.lm_head.weight)
    assert (edited.model.get_input_embeddings().weight @ (r / r.norm())).abs().max() < 1e-5
    with edit(ablate(loaded, r)):
        assert_close(logits(edited), logits(loaded), rtol=0, atol=2e-4)
    edited.model.save_pretrained(tmp_path)
    assert_close(AutoModelForCausalLM.from_pretrained(tmp_path)(IDS).logits, logits(edited), rtol=0, atol=1e-5)


def test_where_a_norm_follows_the_weights_no_weight_form_is_claimed():
    with pytest.raises(MechdriftError, match="use ablate"):
        orthogonalise(load(make("gemma3_text")), random_vectors())


def test_a_way_into_the_stream_that_was_missed_is_noticed(monkeypatch):
    from mechdrift.steering import weights

    writers = weights._writers
    monkeypatch.setattr(weights, "_writers", lambda loaded: list(writers(loaded))[:-1])
    with pytest.raises(MechdriftError, match="other ways"):
        orthogonalise(load(make("llama")), random_vectors())


@pytest.mark.parametrize(
    ("edits", "says"),
    [
        (lambda loaded: ablate(loaded, torch.zeros(D_MODEL)), "no direction"),
        (lambda loaded: ablate(loaded, torch.full((D_MODEL,), torch.nan)), "NaN"),
        (lambda loaded: steer(loaded, torch.full((D_MODEL,), torch.inf), 0), "infinite"),
        (lambda loaded: steer(loaded, torch.ones(D_MODEL - 1), 0), r"\[32\]"),
        (lambda loaded: steer(loaded, torch.ones(D_MODEL)), "layer="),
        (lambda loaded: steer(loaded, torch.ones(D_MODEL), LAYERS), "layers 0 to 3"),
        (lambda loaded: ablate(loaded, {}), "nothing to edit"),
        (lambda loaded: ablate(loaded, torch.ones(D_MODEL), layers=()), "layers should be whole numbers from 0 to 3"),
        (lambda loaded: ablate(loaded, torch.ones(3, D_MODEL)), "3 vectors"),
        (lambda loaded: steer(loaded, torch.ones(D_MODEL), 0, where=torch.ones(1, 3, dtype=torch.bool)), "mask"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_sentence(edits, says):
    loaded = load(make("llama"))
    with pytest.raises(MechdriftError, match=says) as error, edit(edits(loaded)):
        logits(loaded, IDS.repeat(2, 1))
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)
    assert hooks_of(loaded.model) == 0
