"""Folders and files of strangers: what they ask of the libraries that read them is checked first, in one sentence."""

import gzip
import json
import os
import subprocess
import time

import pytest
import torch
from conftest import make_tokenizer, save_model
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from mechdrift.errors import time_limit
from mechdrift.pairs import foreign_tokenizers, guards, templates
from mechdrift.pairs.adapters import load_adapter_config
from mechdrift.pairs.loading import ModelSource, load_config, load_model, load_tokenizer
from mechdrift.probes.benchmarks.rows import read_file
from mechdrift.probes.sets import load_probes
from mechdrift.records import MechdriftError, foreign


@pytest.fixture
def folder(tmp_path):
    return save_model(tmp_path / "model")


def source(folder, **changes) -> ModelSource:
    return ModelSource(name="model", path=str(folder), **changes)


def change(file, **values) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


# Numbers and code in a config.json


@pytest.mark.parametrize(
    "values",
    [
        {"num_hidden_layers": 0},
        {"num_hidden_layers": 1e300},
        {"num_hidden_layers": 10**9},
        {"hidden_size": -1},
        {"hidden_size": 10**12},
        {"vocab_size": 0},
        {"num_attention_heads": float("nan")},
        {"text_config": {"num_hidden_layers": 10**9}},
    ],
)
def test_a_config_with_impossible_numbers_is_named_before_a_library_builds_from_it(folder, values):
    change(folder / "config.json", **values)
    for load in (load_config, load_model):
        with pytest.raises(MechdriftError, match=r"config\.json of model has \w+ = .* was expected"):
            load(source(folder))


@pytest.mark.parametrize("text", ["[]", "null", "7", '"a"'])
def test_a_config_that_is_no_table_is_one_sentence(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(MechdriftError, match=r"config\.json of model is damaged|could not be loaded"):
        load_model(source(folder))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"lora_alpha": float("nan")}, "lora_alpha of nan: a finite number"),
        ({"lora_alpha": "much"}, "lora_alpha of much"),
        ({"alpha_pattern": {"q_proj": float("inf")}}, "lora_alpha of inf"),
        ({"target_modules": 5}, "target_modules = 5: names of modules"),
        ({"modules_to_save": {"a": 1}}, "modules_to_save = "),
    ],
)
def test_an_adapter_whose_scales_or_modules_are_none_is_refused(tmp_path, values, said):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2} | values))
    with pytest.raises(MechdriftError, match=said):
        load_adapter_config(str(tmp_path))


def test_code_of_its_own_is_refused_with_the_option_that_allows_it(folder):
    (folder / "own.py").write_text("raise SystemExit('it ran')")
    change(
        folder / "config.json", model_type="own", auto_map={"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.M"}
    )
    for load in (load_config, load_model):
        with pytest.raises(MechdriftError, match=r"code of its own, which is not run: .* \(--trust-remote-code\)"):
            load(source(folder))


# Weights


def test_pickled_weights_are_refused_unless_they_are_allowed(folder):
    model = AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(MechdriftError, match=r"pickled \(pytorch_model\.bin\), .* \(--trust-remote-code\)"):
        load_model(source(folder))
    assert load_model(source(folder, trust_remote_code=True)).n_layers == model.config.num_hidden_layers


@pytest.mark.parametrize("name", ["../../secret.safetensors", "/etc/passwd", "..", "a\\b.safetensors", "C:x", ""])
def test_an_index_names_files_beside_it_only(folder, name):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"lm_head.weight": name}}))
    with pytest.raises(MechdriftError, match="outside its folder"):
        load_model(source(folder))


@pytest.mark.parametrize("text", ["[", "[]", "{}", '{"weight_map": {"a": 1}}', "[" * 100_000])
def test_an_index_that_is_none_is_one_sentence(folder, text):
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(MechdriftError, match=r"index\.json is damaged"):
        load_model(source(folder))


@pytest.fixture
def hub_id(folder, tmp_path, monkeypatch) -> str:
    """The model as a hub id, in a cache of its own and without a network."""
    place = tmp_path / "hub" / "models--some--model"
    for part in ("snapshots", "refs"):
        (place / part).mkdir(parents=True)
    folder.rename(place / "snapshots" / "0123")
    (place / "refs" / "main").write_text("0123")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return "some/model"


def test_an_index_of_a_hub_id_names_files_beside_it_only(hub_id, tmp_path):
    assert guards.published_file(hub_id, None, "config.json").is_file()
    assert guards.published_file(hub_id, None, "model.safetensors.index.json") is None
    (index,) = [file.with_name("model.safetensors.index.json") for file in tmp_path.rglob("model.safetensors")]
    index.write_text(json.dumps({"weight_map": {"lm_head.weight": "../../secret.safetensors"}}))
    with pytest.raises(MechdriftError, match="outside its folder"):
        load_model(source(hub_id))


@pytest.mark.skipif(os.name != "posix", reason="no pipes with names")
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "extra"])
def test_a_pipe_in_a_models_or_an_adapters_folder_is_refused(folder, tmp_path, name):
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(MechdriftError, match=f"{name} is no regular file"):
        load_tokenizer(source(folder))
    with pytest.raises(MechdriftError, match=f"{name} is no regular file"):
        load_adapter_config(str(folder))


@pytest.mark.parametrize("values", [{"r": 10**9}, {"r": 8, "rank_pattern": {"q_proj": 10**9}}, {"r": 1e300}])
def test_an_adapter_with_a_rank_that_none_has_is_refused_before_matrices_are_made(tmp_path, values):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"} | values))
    with pytest.raises(MechdriftError, match=r"has a rank of 10+|has a rank of 1e\+300"):
        load_adapter_config(str(tmp_path))


# Programs that do not end


@pytest.fixture
def patterns(folder, tmp_path, monkeypatch):
    """A tokenizer that holds a pattern, and a cache folder that knows no tokenizer yet."""
    monkeypatch.setenv("MECHDRIFT_CACHE", str(tmp_path / "cache"))
    foreign_tokenizers._check_once.cache_clear()
    file = folder / "tokenizer.json"
    whole = json.loads(file.read_text())
    splits = [{"type": "Split", "pattern": {"Regex": "[a-z]+"}, "behavior": "Isolated", "invert": False}]
    whole["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [*splits, whole["pre_tokenizer"]]}
    file.write_text(json.dumps(whole))
    return file


def test_a_tokenizer_that_does_not_end_is_stopped_in_a_process_of_its_own(folder, patterns, tmp_path, monkeypatch):
    sleeper = tmp_path / "sleeper.py"  # in place of a library that is kept busy
    sleeper.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(foreign_tokenizers, "READER", sleeper)
    monkeypatch.setattr(foreign_tokenizers, "SECONDS", 0.2)
    with pytest.raises(MechdriftError, match=r"the tokenizer of model does not end within 0\.2 seconds"):
        load_tokenizer(source(folder))
    sleeper.write_text("import os; os.abort()")
    monkeypatch.setattr(foreign_tokenizers, "SECONDS", 60.0)
    with pytest.raises(MechdriftError, match="the tokenizer of model crashes the program that reads it"):
        load_tokenizer(source(folder))


def test_a_tokenizer_is_read_apart_once_and_only_if_it_holds_a_pattern(folder, patterns, tmp_path, monkeypatch):
    started = []
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *args, **how: started.append(args) or run(*args, **how))
    assert load_tokenizer(source(folder)).encode("ab1")
    foreign_tokenizers._check_once.cache_clear()  # as in another process
    load_tokenizer(source(folder))
    load_tokenizer(source(save_model(tmp_path / "plain")))
    assert len(started) == 1
    assert run(started[0][0], capture_output=True).returncode == 0  # it was read, and did not merely fail


ENDLESS = "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}"


def test_half_of_a_character_in_a_message_is_one_sentence():
    for words in ({"content": "Why\udcff?"}, {"content": "Why?", "system": "Be\ud800"}):
        with pytest.raises(MechdriftError, match="a message to the model holds half of a character"):
            templates.apply_template(make_tokenizer(), **words)


@pytest.mark.skipif(os.name != "posix", reason="no alarm")
def test_a_template_that_does_not_end_is_stopped(folder, monkeypatch):
    monkeypatch.setattr(templates, "SECONDS", 0.3)
    tokenizer = make_tokenizer()
    tokenizer.chat_template = ENDLESS
    tokenizer.save_pretrained(folder)
    with pytest.raises(MechdriftError, match=r"chat template of .* does not come to an end within 0\.3 seconds"):
        load_tokenizer(source(folder))


@pytest.mark.skipif(os.name != "posix", reason="no alarm")
def test_an_adapters_pattern_that_does_not_end_is_stopped(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(guards, "PATTERN_SECONDS", 0.3)
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(folder), LoraConfig(target_modules=["q_proj"]))
    adapted.save_pretrained(tmp_path / "adapter")
    change(tmp_path / "adapter" / "adapter_config.json", target_modules=r"(([a-z0-9._])+)+!")
    with pytest.raises(MechdriftError, match=r"a pattern of modules in the adapter .* does not come to an end"):
        load_model(source(folder, adapters=(str(tmp_path / "adapter"),)))


@pytest.mark.skipif(os.name != "posix", reason="no alarm")
def test_a_time_limit_leaves_no_alarm_behind():
    with time_limit(0.2, "it"):
        pass
    time.sleep(0.3)
    with pytest.raises(MechdriftError, match=r"^it does not come to an end within 0\.1 seconds"), time_limit(0.1, "it"):
        time.sleep(5)


# Sizes


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("mechdrift.probes.benchmarks.rows.DATA_LIMIT", 1 << 20)
    file = tmp_path / "xstest_prompts.csv.gz"
    with gzip.open(file, "wb") as bomb:
        for _ in range(64):
            bomb.write(bytes(1 << 20))
    assert file.stat().st_size < 1 << 20
    with pytest.raises(MechdriftError, match="larger than 1 MB unpacked"):
        list(read_file(file))


def test_a_probe_file_has_a_largest_size_and_a_prompt_too(tmp_path, monkeypatch):
    file = tmp_path / "mine.jsonl"
    row = {"family": "f", "twin": "b", "contrast": "trigger", "aligned": ["No"], "misaligned": ["Yes"]}
    rows = [
        row | {"id": "a", "prompt": "x" * 3_000_000},
        row | {"id": "b", "twin": "a", "contrast": "neutral", "prompt": "y"},
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(MechdriftError, match=r"line 1: the prompt has 3,000,000 characters"):
        load_probes("safety", file)
    monkeypatch.setattr("mechdrift.probes.sets.DATA_LIMIT", 1 << 20)
    with pytest.raises(MechdriftError, match="larger than 1 MB, more than is read"):
        load_probes("safety", file)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(MechdriftError, match="no regular file"):
        load_probes("safety", tmp_path / "pipe.jsonl")
    assert foreign.read_whole(save(tmp_path / "x.txt", b"abc"), 3) == b"abc"


def save(file, data: bytes):
    file.write_bytes(data)
    return file
