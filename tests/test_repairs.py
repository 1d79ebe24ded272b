"""Repairs against closed forms, against plain peft and transformers, and against a loss that was planted."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_model, make_tokenizer
from peft import PeftModel
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

import mechdrift as md
from mechdrift.activations.readouts import make_readout, readout_logits
from mechdrift.pairs.loading import ModelSource
from mechdrift.pairs.pair import Pair
from mechdrift.probes.rendering import Renderer, render_items
from mechdrift.probes.sets import load_probes
from mechdrift.records import MechdriftError
from mechdrift.repairs.changes import LowRank, dense, factorise, layer_of, parameters_by_place, size
from mechdrift.repairs.evidence import Costs, Evidence
from mechdrift.repairs.making import make
from mechdrift.repairs.methods.projection import cosines_of
from mechdrift.repairs.registry import REPAIRS

PLANTED, RANK = 2, 3
PROMPT = "Why is the sky blue?"


def lora(model, seed: int, size: float, layers=range(4), rank: int = RANK):
    """A low-rank change of all linear layers of some blocks, in place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in layers:
            for module in model.model.layers[layer].modules():
                if isinstance(module, torch.nn.Linear):
                    up, down = (
                        torch.randn(shape, generator=generator)
                        for shape in ((module.out_features, rank), (rank, module.in_features))
                    )
                    change = up @ down
                    module.weight += size * change / change.norm() * module.weight.norm()
    return model


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Pair:
    """A base; a parent that was trained from it; a child that lost most in block 2, and drifted a little elsewhere."""
    folder = tmp_path_factory.mktemp("repairs")
    models = {"base": make_model()}
    models["parent"] = lora(make_model(), 1, 0.2)
    models["child"] = lora(lora(lora(make_model(), 1, 0.2), 2, 0.01), 3, 1.0, layers=[PLANTED])
    for name, model in models.items():
        model.save_pretrained(folder / name)
        make_tokenizer().save_pretrained(folder / name)
    sources = {name: ModelSource(name=name, path=str(folder / name)) for name in models}
    return Pair(name="planted", instruct=sources["parent"], reasoning=sources["child"])


@pytest.fixture(scope="module")
def evidence(pair) -> Evidence:
    base = replace(pair.instruct, name="base", path=pair.instruct.path.replace("parent", "base"))
    sets = {name: load_probes(name).sample(6) for name in ("safety", "ethics")}
    return Evidence(pair=pair, sets=sets, base=base)


def weights(pair, side) -> dict[str, torch.Tensor]:
    return {place: value.detach().double() for place, value in parameters_by_place(pair.open(side)).items()}


def repaired(evidence, method, strength) -> dict[str, torch.Tensor]:
    opened = make(REPAIRS[method], evidence, strength).open()
    return {place: value.detach().double() for place, value in parameters_by_place(opened).items()}


# Changes.


def test_a_narrow_product_is_found_as_one_and_nothing_else_is():
    generator = torch.Generator().manual_seed(0)
    up, down = torch.randn(96, 5, generator=generator), torch.randn(5, 128, generator=generator)
    found = factorise(up @ down)
    assert isinstance(found, LowRank)
    assert found.up.shape[1] == 5
    assert_close(dense(found), up @ down, atol=1e-4, rtol=1e-4)
    assert size(found) == pytest.approx(float((up @ down).norm()), rel=1e-4)
    whole = torch.randn(96, 128, generator=generator)
    assert factorise(whole) is whole


def test_a_childs_change_has_the_rank_that_it_was_trained_with(evidence):
    ranks = {place: evidence.change[place].up.shape[1] for place in evidence.change}
    assert set(ranks.values()) == {RANK, 2 * RANK}
    assert {layer_of(place) for place, rank in ranks.items() if rank == 2 * RANK} == {PLANTED}


# Methods against their formulas.


def test_interpolation_is_a_weighted_mean_and_ends_at_the_parent(pair, evidence):
    before, after = weights(pair, "instruct"), weights(pair, "reasoning")
    for strength in (0.25, 1.0):
        for place, value in repaired(evidence, "interpolate", strength).items():
            assert_close(value, (1 - strength) * after[place] + strength * before[place], atol=2e-5, rtol=2e-5)


def test_the_planted_block_is_located_and_the_others_stay_bit_for_bit(pair, evidence):
    assert evidence.block_effects.idxmax() == PLANTED
    before, after, found = weights(pair, "instruct"), weights(pair, "reasoning"), repaired(evidence, "located", 0.25)
    for place, value in found.items():
        if layer_of(place) == PLANTED:
            assert_close(value, before[place], atol=2e-5, rtol=2e-5)
        else:
            assert torch.equal(value, after[place])


def test_each_repair_is_charged_for_all_that_it_used_whoever_computed_it(pair, evidence):
    own = replace(evidence, costs=Costs())
    first = make(REPAIRS["located"], own, 0.25)  # computes the grafts and the change
    parts = own.costs.seconds
    assert set(parts) == {"block_effects", "readouts", "change"}
    again, other = make(REPAIRS["located"], own, 0.5), make(REPAIRS["interpolate"], own, 0.5)
    assert again.seconds == pytest.approx(first.seconds, rel=0.2)
    assert other.seconds == pytest.approx(parts["change"], rel=0.5)
    assert parts["block_effects"] > 10 * parts["readouts"]  # what lies within is not counted twice
    assert sum(parts.values()) <= first.seconds


@torch.no_grad()
def test_located_interpolation_recovers_what_was_planted_and_costs_less_change_than_all_blocks(pair, evidence):
    """The oracle is the planting: one block holds the loss, so that block alone should bring the readout back."""
    probes = evidence.sets["safety"].where("trigger")
    renderer = Renderer(pair.tokenizer("reasoning"))
    readout, prompts = make_readout(renderer, probes), render_items(renderer, probes.items, "off")

    def read(loaded) -> float:
        logits = readout_logits(loaded, prompts)
        return float(np.mean([readout.of(row, item.id) for row, item in zip(logits, probes, strict=True)]))

    parent, child = read(pair.open("instruct")), read(pair.open("reasoning"))
    located, random = (make(REPAIRS[name], evidence, s) for name, s in (("located", 0.25), ("random", 0.75)))
    assert (read(located.open()) - child) / (parent - child) > 0.8
    assert (read(random.open()) - child) / (parent - child) < 0.5


def test_resta_adds_the_safety_vector_in_the_mean(pair, evidence):
    vector = {place: dense(evidence.alignment[place]).double() for place in evidence.alignment}
    found, after = repaired(evidence, "resta", 0.5), weights(pair, "reasoning")
    ratios = []
    for place, value in vector.items():
        change = found[place] - after[place]
        kept = change.abs() > 1e-9
        assert 0.5 < kept.double().mean() < 0.9  # of a seventh, on few numbers
        assert_close(change[kept], 0.5 / 0.7 * value[kept], atol=1e-5, rtol=1e-3)
        ratios.append(float((change * value).sum() / value.square().sum()))
    assert np.mean(ratios) == pytest.approx(0.5, abs=0.03)


def test_projection_leaves_only_what_alignment_writes_in_the_worst_matrices(pair, evidence):
    cosines, before, after = cosines_of(evidence), weights(pair, "instruct"), weights(pair, "reasoning")
    worst = sorted(cosines, key=cosines.get)[: round(0.5 * len(cosines))]
    found = repaired(evidence, "safe-lora", 0.5)
    for place in cosines:
        change = found[place] - before[place]
        if place not in worst:
            assert torch.equal(found[place], after[place])
            continue
        basis = torch.linalg.svd(dense(evidence.alignment[place]).double())[0][:, :RANK]
        assert_close(change, basis @ basis.T @ (after[place] - before[place]), atol=1e-4, rtol=1e-3)
    merged = repaired(evidence, "safe-merge", 0.5)
    assert_close(merged[worst[0]], (before[worst[0]] + after[worst[0]]) / 2, atol=2e-5, rtol=2e-5)


def test_an_orthogonalised_change_writes_nothing_along_the_directions(pair, evidence):
    found, before = repaired(evidence, "orthogonal", 1.0), weights(pair, "instruct")
    assert len(evidence.writing_places) == 8
    for place in evidence.writing_places:
        basis, change = evidence.basis_after(layer_of(place)).double(), found[place] - before[place]
        assert basis.shape == (32, 2)
        assert (basis.T @ change).norm() < 1e-4 * change.norm()


def test_the_random_change_is_as_large_as_interpolations_and_another(evidence):
    interpolated, random = (make(REPAIRS[name], evidence, 0.5).changes for name in ("interpolate", "random"))
    for place in interpolated:
        assert size(random[place]) == pytest.approx(size(interpolated[place]), rel=1e-3)
        overlap = (dense(random[place]) * dense(interpolated[place])).sum() / size(random[place]) ** 2
        assert abs(overlap) < 0.3


# Files.


@torch.no_grad()
def test_the_exported_adapter_gives_the_same_greedy_ids_with_plain_peft_and_transformers(pair, evidence, tmp_path):
    fixed = make(REPAIRS["interpolate"], evidence, 0.5)
    ids = torch.tensor([Renderer(pair.tokenizer("reasoning")).render("", PROMPT, "off").ids])
    ours = fixed.open().model.generate(ids, max_new_tokens=24)
    child = AutoModelForCausalLM.from_pretrained(pair.reasoning.path, dtype=torch.float32)
    assert not torch.equal(child.generate(ids, max_new_tokens=24), ours)
    adapted = PeftModel.from_pretrained(child, fixed.export(tmp_path / "adapter")).eval()
    assert torch.equal(adapted.generate(input_ids=ids, max_new_tokens=24), ours)
    merged = AutoModelForCausalLM.from_pretrained(fixed.export(tmp_path / "whole", "folder"), dtype=torch.float32)
    assert torch.equal(merged.generate(ids, max_new_tokens=24), ours)
    whole, adapter, alone = (
        sum(file.stat().st_size for file in path.rglob("*.safetensors"))
        for path in (tmp_path / "whole", tmp_path / "adapter", fixed.save(tmp_path / "fix" / "fix.safetensors").parent)
    )
    assert max(adapter, alone) < whole


def test_a_saved_repair_is_read_back_onto_its_child_only(pair, evidence, tmp_path):
    fixed = make(REPAIRS["located"], evidence, 0.25)
    again = md.load_repair(fixed.save(tmp_path / "fix.safetensors"), pair)
    assert again.name == "located@0.25"
    for place in fixed.changes:
        assert torch.equal(dense(again.changes[place]), dense(fixed.changes[place]))
    with pytest.raises(MechdriftError, match=r"is a repair of child, whose weights are not those of parent"):
        md.load_repair(tmp_path / "fix.safetensors", Pair(name="same", instruct=pair.instruct, reasoning=pair.instruct))
    (tmp_path / "other.safetensors").write_bytes(b"nothing")
    with pytest.raises(MechdriftError, match=r"holds no repair: give a file"):
        md.load_repair(tmp_path / "other.safetensors", pair)


# Bad input.


def test_bad_input_is_told_in_one_sentence(pair, evidence, tmp_path):
    with pytest.raises(MechdriftError, match=r"there is no repair 'magic': choose one of interpolate, "):
        md.repair(pair, method="magic")
    with pytest.raises(
        MechdriftError, match=r"the strength of interpolate \(share of the parent\) should be from 0 to 1"
    ):
        md.repair(pair, method="interpolate", strength=3)
    with pytest.raises(MechdriftError, match=r"resta needs the model before alignment of parent: name it"):
        md.repair(pair, method="resta")
    with pytest.raises(MechdriftError, match=r"the child's weights are the parent's"):
        md.repair(Pair(name="same", instruct=pair.instruct, reasoning=pair.instruct), method="interpolate")
    with pytest.raises(MechdriftError, match=r"changes nothing: take a greater strength"):
        make(REPAIRS["safe-lora"], evidence, 0.0)
    with pytest.raises(MechdriftError, match=r"no LoRA adapter holds it: export a merged folder"):
        make(REPAIRS["resta"], evidence, 0.5).export(tmp_path / "adapter")


def test_a_repaired_model_is_not_repaired_again(pair, evidence, tmp_path):
    fixed = make(REPAIRS["interpolate"], evidence, 0.5)
    exported = replace(pair.reasoning, adapters=(str(fixed.export(tmp_path / "adapter")),))
    for again in (fixed.pair, replace(pair, reasoning=exported)):
        with pytest.raises(MechdriftError, match="is a repaired model already"):
            md.repair(again, method="interpolate")


def test_a_method_of_ones_own_is_a_record_with_one_shape(monkeypatch, pair):
    mine = replace(REPAIRS["interpolate"], name="mine", weights=lambda evidence, strength: evidence.change.scaled(-1))
    monkeypatch.delitem(REPAIRS, "mine", raising=False)
    md.add_repair(mine)
    try:
        assert md.repair(pair, method="mine", strength=0.1).repair is mine
        with pytest.raises(MechdriftError, match="there is a repair 'mine' already"):
            md.add_repair(mine)
    finally:
        del REPAIRS["mine"]
    with pytest.raises(MechdriftError, match="should have exactly one of weights, edit, tokens, data; it has none"):
        replace(mine, weights=None)
