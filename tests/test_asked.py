"""How each side of a pair is asked: options, arguments and pair files, down to the token ids and the manifest."""

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import make_model, make_tokenizer, save_model
from parrots import END, REFUSAL, line, make_parrot_tokenizer, save_parrot, steps
from tokenizers import AddedToken

import mechdrift as md
from mechdrift import cli
from mechdrift.activations.one_model import collect_one
from mechdrift.activations.prompts import mean_the_same, render_sides
from mechdrift.audits.answers import RunAnswers, reopen
from mechdrift.audits.config import Audit
from mechdrift.audits.plan import load_from
from mechdrift.behaviour.divergence import answered_prompts
from mechdrift.pairs.chat import ChatOptions
from mechdrift.pairs.markers import after_thinking
from mechdrift.pairs.named import load_pair
from mechdrift.pairs.pair import Pair
from mechdrift.pairs.pair_files import PairFile, read_pair_file
from mechdrift.probes.rendering import Renderer
from mechdrift.probes.sets import load_probes
from mechdrift.records import SIDES, Completion, Completions, MechdriftError

TURNS = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
HEADER = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
PLAIN = TURNS + HEADER
SWITCHED = (
    TURNS + "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + PLAIN
WORDS = (
    "{% set s = messages[0]['content'] if messages[0]['role'] == 'system' else '' %}"
    + TURNS
    + HEADER
    + "{% if '/no_think' in s %}<think>\n\n</think>\n{% endif %}"
)


def save_with(folder: Path, template: str, seed: int = 0) -> Path:
    save_model(folder, seed=seed)
    make_tokenizer(template).save_pretrained(folder)
    return folder


def prompt_of(pair: Pair, side: str, think: str = "none") -> str:
    tokenizer = pair.tokenizer(side)
    return tokenizer.decode(Renderer(tokenizer).render("x", "Why?", think).ids)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    return save_with(tmp_path_factory.mktemp("asked") / "plain", PLAIN)


@pytest.fixture(scope="module")
def switched(tmp_path_factory) -> Path:
    return save_with(tmp_path_factory.mktemp("asked") / "switched", SWITCHED)


# Keyword arguments


def test_a_system_message_stands_before_the_prompt_of_the_side_that_it_is_for(plain):
    pair = load_pair(instruct=str(plain), reasoning=str(plain), system={"reasoning": "Think hard."})
    assert prompt_of(pair, "instruct").startswith("<|im_start|>user")
    assert prompt_of(pair, "reasoning").startswith("<|im_start|>system\nThink hard.<|im_end|>\n<|im_start|>user")
    assert pair.warnings == ()


def test_one_checkpoint_with_a_switch_is_a_pair_of_its_two_modes(switched):
    pair = load_pair(instruct=str(switched), reasoning=str(switched))
    assert prompt_of(pair, "instruct").endswith("assistant\n<think>\n\n</think>\n\n")
    assert prompt_of(pair, "reasoning").endswith("assistant\n")
    assert prompt_of(pair, "reasoning", "off").endswith("assistant\n<think>\n\n</think>\n\n")
    assert pair.warnings == (
        "thinking can be switched: the instruct model is asked with it off and the reasoning model is asked with it "
        "on.",
    )


def test_template_arguments_are_the_user_s_last_word(switched):
    pair = load_pair(instruct=str(switched), reasoning=str(switched), template_args={"enable_thinking": True})
    assert prompt_of(pair, "instruct").endswith("assistant\n")
    per_side = {"instruct": {"enable_thinking": True}, "reasoning": {"enable_thinking": False}}
    pair = load_pair(instruct=str(switched), reasoning=str(switched), template_args=per_side)
    assert prompt_of(pair, "instruct").endswith("assistant\n")
    assert prompt_of(pair, "reasoning").endswith("</think>\n\n")
    assert pair.warnings == ()


@pytest.mark.parametrize(
    ("said", "on", "off"),
    [
        (None, "/think", "/no_think"),
        ("You are a bank.", "/think\n\nYou are a bank.", "/no_think\n\nYou are a bank."),
        ("You are a bank. /no_think", "You are a bank. /think", "You are a bank. /no_think"),
    ],
)
def test_switch_words_go_into_the_user_s_own_system_message(tmp_path, said, on, off):
    folder = save_with(tmp_path / "words", WORDS)
    pair = load_pair(instruct=str(folder), reasoning=str(folder), system=said)
    assert f"system\n{on}<|im_end|>" in prompt_of(pair, "reasoning", "own")
    assert f"system\n{off}<|im_end|>" in prompt_of(pair, "reasoning", "off")
    assert f"system\n{off}<|im_end|>" in prompt_of(pair, "instruct")


def test_markers_that_are_given_are_used_and_none_means_none(plain):
    markers = {"think_open": {"reasoning": "[REASON]", "instruct": "none"}}
    pair = load_pair(instruct=str(plain), reasoning=str(plain), **markers)
    assert "[REASON]" in prompt_of(pair, "reasoning", "own")
    assert "[/REASON]" in prompt_of(pair, "reasoning", "off")
    assert prompt_of(pair, "instruct", "off").endswith("assistant\n")


def test_a_caller_s_tokenizer_is_not_touched_by_what_is_said_of_one_side():
    tokenizer, model = make_tokenizer(SWITCHED), make_model()
    pair = Pair.from_models(model, model, tokenizer, system={"instruct": "Be brief."})
    assert "Be brief." in prompt_of(pair, "instruct")
    assert "Be brief." not in prompt_of(pair, "reasoning")
    assert prompt_of(pair, "instruct").endswith("</think>\n\n")  # switched off
    plain = Renderer(tokenizer).render("x", "Why?", "none")
    assert tokenizer.decode(plain.ids) == "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("template", "settings", "message"),
    [
        (PLAIN, {"template_args": {"enable_thinking": True}}, "ignores the argument 'enable_thinking'.*: none"),
        (SWITCHED, {"template_args": {"thinking": True}}, "that it reads are: enable_thinking"),
        (NO_SYSTEM, {"system": "Be kind."}, "takes no system message"),
        (PLAIN, {"think_open": "Let me see:"}, "give --think-close as well"),
        (PLAIN, {"think_close": "That is all."}, "give --think-open as well"),
    ],
)
def test_what_a_template_cannot_take_is_one_sentence(tmp_path, template, settings, message):
    folder = str(save_with(tmp_path / "model", template))
    with pytest.raises(MechdriftError, match=message) as told:
        load_pair(instruct=folder, reasoning=folder, **settings)
    assert "\n" not in str(told.value)


# Pair files


def write(folder: Path, text: str) -> Path:
    file = folder / "pair.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_pair_file_says_the_same_as_the_arguments(tmp_path, switched, plain):
    file = write(
        tmp_path,
        f"""
        name = "two-modes"
        null_model = '{plain}'
        think_close = "</think>"
        [instruct]
        model = '{switched}'
        template_args = {{ enable_thinking = true }}
        [reasoning]
        model = '{switched}'
        system = "Think."
        revision = "v2"
        """,
    )
    pair = load_pair(str(file))
    same = load_pair(
        instruct=str(switched),
        reasoning=str(switched),
        null_model=str(plain),
        revision={"reasoning": "v2"},
        think_close="</think>",
        template_args={"instruct": {"enable_thinking": True}},
        system={"reasoning": "Think."},
    )
    assert pair.name == "two-modes"
    assert (pair.instruct, pair.reasoning, pair.null_model) == (same.instruct, same.reasoning, same.null_model)
    assert pair.reasoning.chat.thinks is True  # nobody says where its switch stands
    louder = load_pair(str(file), system="Shout.")
    assert louder.reasoning.chat.system == "Shout."


def test_the_old_name_of_the_null_model_works_and_says_the_new_one(tmp_path, plain):
    models = {"instruct": str(plain), "reasoning": str(plain)}
    pair = load_pair(**models, null_model=str(plain))
    with pytest.warns(DeprecationWarning, match="control= is now called null_model="):
        assert load_pair(**models, control=str(plain)) == pair
    with pytest.warns(DeprecationWarning, match=r"Pair\.control is now called Pair\.null_model"):
        assert pair.control == pair.null_model
    with pytest.warns(DeprecationWarning, match=r"Pair\.with_control is now called Pair\.with_null_model"):
        assert pair.with_control() == pair.with_null_model()
    with pytest.warns(DeprecationWarning, match="is now called null_model"):
        assert Audit(**models, control="x") == Audit(**models, null_model="x")
    with pytest.warns(DeprecationWarning, match="the key 'control' of a pair file is now called 'null_model'"):
        file = read_pair_file(write(tmp_path, "control = 'x'\n" + MODELS))
    assert file == read_pair_file(write(tmp_path, "null_model = 'x'\n" + MODELS))


def test_a_folder_beside_the_file_is_found_from_anywhere(tmp_path, monkeypatch):
    save_with(tmp_path / "parent", PLAIN)
    file = write(tmp_path, '[instruct]\nmodel = "parent"\n[reasoning]\nmodel = "org/child"\n')
    monkeypatch.chdir("/")
    found = read_pair_file(file)
    assert (found.name, found.instruct, found.reasoning) == ("pair", str(tmp_path / "parent"), "org/child")


MODELS = '[instruct]\nmodel = "a"\n[reasoning]\nmodel = "b"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nmae = 'x'\n" + MODELS, "unknown key 'nmae'; known are name, null_model"),
        (MODELS + "modle = 'x'\n", r"\[reasoning\]: unknown key 'modle'; known are model"),
        ("system = 3\n" + MODELS, "system should be a string; it is 3"),
        ("thinks = 'yes'\n" + MODELS, "thinks should be true or false"),
        ("template_args = { day = 2026-01-01 }\n" + MODELS, "strings, numbers, true, false, lists and tables"),
        ("name = '../x'\n" + MODELS, "should be letters, digits"),
        ("name = 'a/b'\n" + MODELS, "should be letters, digits"),
        ("name = '..'\n" + MODELS, "should be letters, digits"),
        ("name = ''\n" + MODELS, "should be letters, digits"),
        ("name = 'smollm2-sft'\n" + MODELS, "is the name of an embedded pair"),
        ("[instruct]\nmodel = 'a'\n", "either a model or an adapter"),
        (MODELS + "adapter = 'x'\n", "either a model or an adapter"),
        ("[instruct]\nmodel = 'a'\nadapter = 'b'\n[reasoning]\nmodel = 'c'\n", "an adapter belongs to"),
        ("name = ", "is not valid TOML"),
        ("#" * 200_000, "larger than 100,000 bytes"),
    ],
)
def test_a_pair_file_with_a_fault_is_one_sentence(tmp_path, text, message):
    with pytest.raises(MechdriftError, match=message) as told:
        load_pair(str(write(tmp_path, text)))
    assert "\n" not in str(told.value)


def test_a_pair_file_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(MechdriftError, match="there is no pair file"):
        load_pair(str(tmp_path / "none.toml"))


# Options of the command line, and the run folder


def test_options_of_one_side_count_before_those_of_both():
    options = ChatOptions(system="Hm.", reasoning_system="Think.", template_args='{"a": 1}', instruct_think_open="none")
    assert options.of("instruct") == {"system": "Hm.", "template_args": {"a": 1}, "think_open": "none"}
    assert options.of("reasoning") == {"system": "Think.", "template_args": {"a": 1}}


@pytest.mark.parametrize("text", ["{", "[1]", "enable_thinking=true"])
def test_template_arguments_that_are_no_json_object_are_one_sentence(text):
    with pytest.raises(MechdriftError, match="template arguments"):
        ChatOptions(template_args=text).of("instruct")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ChatOptions(template_args='{"enable_thinking": true}'), "ignores the argument 'enable_thinking'"),
        (ChatOptions(reasoning_template_args="{"), "are not JSON"),
        (ChatOptions(think_open="Let me see:"), "give --think-close as well"),
    ],
)
def test_options_that_do_not_fit_are_one_sentence_before_anything_is_loaded(plain, options, message):
    with pytest.raises(MechdriftError, match=message):
        load_from(Audit(instruct=str(plain), reasoning=str(plain), chat=options))


def test_the_command_line_says_what_is_wrong_in_one_sentence(tmp_path, monkeypatch, capsys):
    options = ["--reasoning-system", "Think.", "--template-args", '{"a": 1}']
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["mechdrift", "audit", str(write(tmp_path, "nmae = 'x'\n" + MODELS)), *options])
    with pytest.raises(SystemExit) as end:
        cli.main()
    told = capsys.readouterr().err
    assert end.value.code == 1
    assert "unknown key 'nmae'" in told
    assert told.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_run_keeps_how_the_models_were_asked_and_opens_again_without_the_file(tmp_path, monkeypatch):
    tokenizer = make_parrot_tokenizer(20, SWITCHED)
    chain = line("\n", *steps(4), "</think>") | line("\n\n", REFUSAL, END)
    models = [str(save_parrot(tmp_path / name, chain, tokenizer=tokenizer)) for name in ("parent", "child")]
    file = write(
        tmp_path, f"system = 'Be kind.'\n[instruct]\nmodel = '{models[0]}'\n[reasoning]\nmodel = '{models[1]}'\n"
    )
    config = Audit(pair=str(file), preset="quick", dimensions=("safety",), out=tmp_path / "run")
    monkeypatch.setattr("mechdrift.audits.pipeline.stages_of", lambda _: [])
    run = md.audit(config)
    manifest = json.loads((tmp_path / "run" / "run.json").read_text())
    assert manifest["identity"]["asked"]["instruct"] == {"system": "Be kind.", "thinks": False}
    assert manifest["identity"]["asked"]["reasoning"] == {"system": "Be kind.", "thinks": True}
    file.unlink()
    empty = RunAnswers(sets={}, table=pd.DataFrame({"item": [], "dimension": []}), renderer=Renderer(tokenizer))
    monkeypatch.setattr(RunAnswers, "read", lambda *_: empty)
    pair, _ = reopen(run)
    assert [pair.source(side).chat.system for side in SIDES] == ["Be kind."] * 2
    stored = PairFile(**manifest["config"]["pair_file"])
    assert load_from(config, stored).source("reasoning") == pair.source("reasoning")
    with pytest.raises(MechdriftError, match="holds another run"):
        md.audit(Audit(pair=str(write(tmp_path, "system = 'Be rude.'\n" + models_in(*models))), out=config.out))


def models_in(instruct: str, reasoning: str) -> str:
    return f"[instruct]\nmodel = '{instruct}'\n[reasoning]\nmodel = '{reasoning}'\n"


# Ids that mean something else


R1_LIKE = (
    "{% for m in messages %}<U>{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}<A><think>\n{% endif %}"
)


def renamed_pair(folder: Path) -> Pair:
    """As many tokens, but the two that begin and end a turn are known to the child by other names."""
    parent = save_with(folder / "parent", PLAIN)
    child = save_model(folder / "child", seed=1)
    tokenizer = make_tokenizer(PLAIN)
    text = tokenizer.backend_tokenizer.to_str().replace("<|im_start|>", "<U>").replace("<|im_end|>", "<A>")
    renamed = make_tokenizer(R1_LIKE)
    renamed._tokenizer = type(tokenizer.backend_tokenizer).from_str(text)
    renamed.add_tokens([AddedToken(token, special=True) for token in ("<U>", "<A>")])
    renamed.eos_token, renamed.bos_token, renamed.pad_token = "<A>", "<U>", "<A>"
    renamed.save_pretrained(child)
    return load_pair(instruct=str(parent), reasoning=str(child))


def test_where_ids_mean_other_tokens_each_model_reads_its_own_template(tmp_path):
    pair, probes = renamed_pair(tmp_path), load_probes("safety").sample(2)
    sides = render_sides(pair, probes, "off", None)
    for side, start in (("instruct", "<|im_start|>user\n"), ("reasoning", "<U>")):
        text = pair.tokenizer(side).decode(sides[side][0].ids)
        assert text.startswith(start + probes.items[0].prompt)
    assert not mean_the_same(pair, sides["reasoning"])
    found = md.collect(pair, probes, roles=("user", "think_close[-1]"))
    # The oracle: the parent recorded alone, on its own template.
    alone = collect_one(pair.open("instruct"), probes, roles=("user", "think_close[-1]"), think="off")
    torch.testing.assert_close(found.instruct, alone.of("resid_pre"))


def test_grids_and_divergence_of_such_a_pair_read_each_model_s_own_prompts(tmp_path):
    pair, probes = renamed_pair(tmp_path), load_probes("safety").sample(2)
    with pytest.warns(UserWarning, match="each reads its own template's prompts"):
        grid = md.patch(pair, probes, donor="instruct", recipient="reasoning", layers=(0, 3))
    assert grid.identity_error < 1e-3
    rows = tuple(
        Completion(
            item_id=item.id,
            side="instruct",
            think="none",
            thinking="",
            answer="No.",
            closed=True,
            finished=True,
            thinking_ids=(),
            answer_ids=(50, 60),
        )
        for item in probes
    )
    prompts = answered_prompts(pair, probes, Completions(side="instruct", think="none", rows=rows))
    assert prompts["instruct"][0].ids != prompts["reasoning"][0].ids
    table = md.kl_drift(pair, probes, Completions(side="instruct", think="none", rows=rows))
    assert len(table) == 2 * len(probes)
    assert (table.kl >= 0).all()


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>Hm.</think>\n\nNo.", "\n\nNo."),
        ("[THINK]Hm.[/THINK]No.", "No."),
        ("Hm.</think>No.", "No."),
        ("<think>Hm.", None),
        ("[THINK]Hm.", None),
        ("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>No.", "No."),
        ("Dear [Name], I regret [reason]. Yours", "Dear [Name], I regret [reason]. Yours"),
        ("No.", "No."),
    ],
)
def test_what_follows_the_thinking_in_a_text(text, answer):
    assert after_thinking(text) == answer
