"""Oracles: what was written is read back, by this package and by the readers of the formats; a model that moves as
told."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_model, make_tokenizer
from gguf import GGUFReader
from safetensors import safe_open

from mechdrift.directions.export import (
    block_vectors,
    load_directions,
    read_steering_vectors,
    save_directions,
    to_gguf,
    to_steering_vectors,
)
from mechdrift.directions.finders import find_directions
from mechdrift.hooks import record
from mechdrift.pairs.structure import find_structure
from mechdrift.records import Activations, Directions, MechdriftError, ProbeItem, ProbeSet

ROLE = "template_tail[-1]"


def directions(site: str = "resid_pre", layers: tuple[int, ...] = (0, 1, 3), d_model: int = 32) -> Directions:
    items = [
        ProbeItem(
            id=f"{family}-{contrast}",
            dimension="safety",
            family=f"family-{family}",
            contrast=contrast,
            twin=f"{family}-{other}",
            prompt="",
            aligned=(),
            misaligned=(),
        )
        for family in range(4)
        for contrast, other in (("trigger", "neutral"), ("neutral", "trigger"))
    ]
    generator = torch.Generator().manual_seed(0)
    instruct, reasoning = (torch.randn(len(items), len(layers), 2, d_model, generator=generator) for _ in range(2))
    return find_directions(
        Activations(
            probes=ProbeSet(name="some", dimension="safety", items=tuple(items)),
            site=site,
            layers=layers,
            roles=("user", ROLE),
            think="off",
            instruct=instruct,
            reasoning=reasoning,
        )
    )


def test_saved_directions_are_read_back(tmp_path: Path):
    found = directions()
    provenance = {"pair": "tiny", "fingerprints": {"instruct": "ab12", "reasoning": "cd34"}}
    loaded = load_directions(save_directions(found, tmp_path / "safety.safetensors", provenance))
    for name in ("instruct", "reasoning", "norm_instruct", "norm_reasoning", "split_instruct", "split_reasoning"):
        assert torch.equal(getattr(loaded, name), getattr(found, name))
    for name in ("dimension", "method", "site", "layers", "roles"):
        assert getattr(loaded, name) == getattr(found, name)
    assert loaded.provenance == provenance
    assert set(loaded.versions) >= {"mechdrift", "torch"}
    again = load_directions(save_directions(loaded, tmp_path / "again.safetensors", loaded.provenance))
    assert torch.equal(again.of("reasoning"), found.of("reasoning"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.safetensors", "safety.safetensors"]


def test_the_header_is_json_for_anyone(tmp_path: Path):
    path = save_directions(directions(), tmp_path / "safety.safetensors")
    with safe_open(path, framework="np") as file:
        header = json.loads(file.metadata()["mechdrift"])
    assert header["layers"] == [0, 1, 3]
    assert header["method"] == "mean_difference"


def test_a_file_that_is_something_else_is_named(tmp_path: Path):
    (tmp_path / "text.safetensors").write_text("no tensors")
    vectors = tmp_path / "vectors.safetensors"
    to_steering_vectors(directions(), "instruct", ROLE, vectors)
    for path in (tmp_path / "text.safetensors", tmp_path / "missing.safetensors", vectors):
        with pytest.raises(MechdriftError, match=path.name):
            load_directions(path)
    with pytest.raises(MechdriftError, match=r"safety\.safetensors"):
        read_steering_vectors(save_directions(directions(), tmp_path / "safety.safetensors"))


def test_provenance_must_be_plain(tmp_path: Path):
    with pytest.raises(MechdriftError, match="JSON"):
        save_directions(directions(), tmp_path / "x.safetensors", {"pair": object()})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("site", "blocks"), [("resid_pre", {0: 1, 2: 3}), ("resid_post", {0: 0, 1: 1, 3: 3})])
def test_a_block_writes_the_stream_that_the_next_one_reads(site: str, blocks: dict[int, int]):
    """Block -> layer of the directions."""
    found = directions(site)
    vectors = block_vectors(found, "reasoning", ROLE)
    assert list(vectors) == list(blocks)
    for block, layer in blocks.items():
        index = found.layers.index(layer)
        expected = found.reasoning[index, 1] * found.norm_reasoning[index, 1]
        assert torch.equal(vectors[block], expected)
    assert block_vectors(found, "instruct", ROLE, scale=2)[list(blocks)[-1]].norm().item() == pytest.approx(2)


@torch.no_grad()
def test_added_to_its_block_a_vector_moves_the_layer_it_was_found_at():
    """A hook as both tools register it, on Hugging Face's list of blocks, seen through this package's sites."""
    model = make_model()
    structure, ids = find_structure(model), torch.tensor([make_tokenizer().encode("Is it so?")])
    found = directions(layers=(0, 1, 3))
    points = {layer: structure.hook_point("resid_pre", layer) for layer in found.layers}
    with record(points) as before:
        model(ids)
    vectors = block_vectors(found, "instruct", ROLE)
    handle = model.model.layers[2].register_forward_hook(
        lambda module, given, out: (
            out + vectors[2] if isinstance(out, torch.Tensor) else (out[0] + vectors[2], *out[1:])
        )
    )
    with record(points) as after:
        model(ids)
    handle.remove()
    index = found.layers.index(3)
    expected = (found.instruct[index, 1] * found.norm_instruct[index, 1]).expand_as(before[3])
    torch.testing.assert_close(after[3] - before[3], expected, atol=1e-5, rtol=1e-4)
    assert torch.equal(after[1], before[1])


def test_steering_vectors_are_read_back_and_have_the_fields_of_the_package(tmp_path: Path):
    fields = to_steering_vectors(directions(), "instruct", ROLE, tmp_path / "vectors.safetensors")
    loaded = read_steering_vectors(tmp_path / "vectors.safetensors")
    assert set(fields) == set(loaded) == {"layer_activations", "layer_type"}
    assert loaded["layer_type"] == "decoder_block"
    assert list(loaded["layer_activations"]) == list(fields["layer_activations"]) == [0, 2]
    for block, vector in loaded["layer_activations"].items():
        assert torch.equal(vector, fields["layer_activations"][block])


@torch.no_grad()
def test_the_steering_vectors_package_steers_with_them(tmp_path: Path):
    package = pytest.importorskip("steering_vectors", reason="the package steering-vectors is not installed")
    to_steering_vectors(directions(), "instruct", ROLE, tmp_path / "vectors.safetensors")
    vector = package.SteeringVector(**read_steering_vectors(tmp_path / "vectors.safetensors"))
    model, found = make_model(), directions()
    ids, points = torch.tensor([[40, 41, 42]]), {3: find_structure(model).hook_point("resid_pre", 3)}
    only = package.SteeringVector(layer_activations={2: vector.layer_activations[2]}, layer_type=vector.layer_type)
    with record(points) as before:
        model(ids)
    with only.apply(model), record(points) as after:
        model(ids)
    expected = (found.instruct[2, 1] * found.norm_instruct[2, 1]).expand_as(before[3])
    torch.testing.assert_close(after[3] - before[3], expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_the_package_repeng_steers_with_a_control_vector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(np, "float_", np.float64, raising=False)  # repeng 0.4 names it; numpy 2 has it no more
    package = pytest.importorskip("repeng", reason="the package repeng is not installed")
    found, model = directions(), make_model()
    to_gguf(found, "instruct", ROLE, tmp_path / "safety.gguf", model_hint="llama")
    vector = package.ControlVector.import_gguf(tmp_path / "safety.gguf")
    ids, points = torch.tensor([[40, 41, 42]]), {3: find_structure(model).hook_point("resid_pre", 3)}
    with record(points) as before:
        model(ids)
    steered = package.ControlModel(model, [2])
    steered.set_control(vector, 1.0)
    with record(points) as after:
        steered(ids)
    expected = (found.instruct[2, 1] * found.norm_instruct[2, 1]).expand_as(before[3])
    torch.testing.assert_close(after[3] - before[3], expected, atol=1e-5, rtol=1e-4)


def text_of(reader: GGUFReader, key: str) -> str:
    return bytes(reader.fields[key].parts[-1]).decode()


def test_a_control_vector_is_what_llama_cpp_reads(tmp_path: Path):
    found = directions()
    reader = GGUFReader(to_gguf(found, "reasoning", ROLE, tmp_path / "safety.gguf", model_hint="llama"))
    assert text_of(reader, "general.architecture") == "controlvector"
    assert text_of(reader, "controlvector.model_hint") == "llama"
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert int(reader.fields["controlvector.layer_count"].parts[-1][0]) == len(tensors)
    # layer 0 is no block's output, layer 1 is the output of block 0, which llama.cpp does not take
    assert list(tensors) == ["direction.2"]
    (tensor,) = tensors.values()
    assert tensor.data.dtype == np.float32
    assert tensor.data.ndim == 1
    assert tensor.data == pytest.approx((found.reasoning[2, 1] * found.norm_reasoning[2, 1]).numpy())
    assert [path.name for path in tmp_path.iterdir()] == ["safety.gguf"]


def test_control_vectors_of_block_outputs_keep_their_layer(tmp_path: Path):
    reader = GGUFReader(
        to_gguf(directions("resid_post"), "instruct", ROLE, tmp_path / "x.gguf", model_hint="qwen2", scale=1)
    )
    assert [tensor.name for tensor in reader.tensors] == ["direction.1", "direction.3"]
    assert [np.linalg.norm(tensor.data) for tensor in reader.tensors] == pytest.approx([1, 1])


def test_what_cannot_be_written_is_said(tmp_path: Path):
    with pytest.raises(MechdriftError, match=r"resid_pre or resid_post"):
        to_steering_vectors(directions("attn_out"), "instruct", ROLE)
    with pytest.raises(MechdriftError, match="choose one of user"):
        to_steering_vectors(directions(), "instruct", "answer")
    with pytest.raises(MechdriftError, match="collect more layers"):
        to_steering_vectors(directions(layers=(0,)), "instruct", ROLE)
    with pytest.raises(MechdriftError, match="first block"):
        to_gguf(directions(layers=(0, 1)), "instruct", ROLE, tmp_path / "x.gguf", model_hint="llama")
    empty = replace(directions(), instruct=torch.zeros_like(directions().instruct))
    with pytest.raises(MechdriftError, match="instruct model has no direction"):
        to_steering_vectors(empty, "instruct", ROLE)
