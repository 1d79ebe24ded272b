"""Which template of several a model is asked with, and which day it is for a template that writes the date."""

import datetime as dates
import json
from pathlib import Path

import pytest
from conftest import make_model, make_tokenizer
from test_capture import make_probes

import mechdrift as md
from mechdrift.audits.pipeline import asked_as
from mechdrift.pairs.templates import DAY
from mechdrift.probes.rendering import Renderer

TURN = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
DATED = "<|im_start|>system\nToday is {{ strftime_now('%d %B %Y') }}.<|im_end|>\n" + TURN
# As Llama 3.1 does it: the date is an argument, and asked for only where none is given.
GIVEN = (
    "{% if not date_string is defined %}{% if strftime_now is defined %}"
    "{% set date_string = strftime_now('%d %b %Y') %}"
    "{% else %}{% set date_string = '26 Jul 2024' %}{% endif %}{% endif %}"
    "<|im_start|>system\nToday Date: {{ date_string }}<|im_end|>\n" + TURN
)
FORMAL = TURN.replace("{{ m['content'] }}", "Sir, {{ m['content'] }}")
PROBES = make_probes(2)


def save(folder: Path, template, seed: int = 0) -> str:
    make_model(seed=seed).save_pretrained(folder)
    make_tokenizer(template).save_pretrained(folder)
    return str(folder)


def pair_of(tmp_path, saved, **settings) -> md.Pair:
    folders = [save(tmp_path / f"{name}-{abs(hash(str(saved)))}", saved, seed) for seed, name in enumerate("pc")]
    return md.load_pair(instruct=folders[0], reasoning=folders[1], **settings)


def text_of(pair: md.Pair, side: str = "reasoning") -> str:
    tokenizer = pair.tokenizer(side)
    return tokenizer.decode(Renderer(tokenizer).render("a", "Why?", "none").ids)


def on_day(monkeypatch, *day: int):
    """The computer's clock, as transformers reads it."""

    class Clock(dates.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(*day)

    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Clock)


@pytest.mark.parametrize(("template", "written"), [(DATED, "01 January 2026"), (GIVEN, "01 Jan 2026")])
def test_a_template_that_writes_the_date_asks_the_same_on_every_day(template, written, tmp_path, monkeypatch):
    pair = pair_of(tmp_path, template)
    on_day(monkeypatch, 2031, 5, 6)
    first = text_of(pair)
    on_day(monkeypatch, 2032, 7, 8)
    assert first == text_of(pair) == text_of(pair, "instruct")
    assert written in first
    assert DAY in " ".join(pair.warnings)
    own = make_tokenizer(template)
    on_day(monkeypatch, 2026, 1, 1)  # the oracle: transformers itself, on that day
    asked = [{"role": "user", "content": "Why?"}]
    assert first == own.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)


def test_another_day_is_a_template_argument_and_kept(tmp_path):
    pair = pair_of(tmp_path, DATED, template_args={"strftime_now": "2025-06-30"})
    assert "30 June 2025" in text_of(pair)
    assert asked_as(pair)["reasoning"]["day"] == "2025-06-30"
    given = pair_of(tmp_path, GIVEN, template_args={"date_string": "26 Jul 2024"})
    assert "Today Date: 26 Jul 2024" in text_of(given)
    with pytest.raises(md.MechdriftError, match="strftime_now should be a day, such as '2026-01-01'; it is 'today'"):
        pair_of(tmp_path, DATED, template_args={"strftime_now": "today"})
    with pytest.raises(md.MechdriftError, match="ignores the argument 'strftime_now'"):
        pair_of(tmp_path, TURN, template_args={"strftime_now": "2025-06-30"})


def test_a_pair_that_writes_no_date_says_nothing_of_days(tmp_path):
    pair = pair_of(tmp_path, TURN)
    assert asked_as(pair) is None
    assert not any(DAY in warning for warning in pair.warnings)


def test_an_audit_begun_on_another_day_goes_on_with_what_was_asked(tmp_path, monkeypatch):
    """The second half of an audit, on the next day, is what it would have been on the first."""
    from mechdrift.audits.config import PRESETS, Size

    few = Size(pairs=4, variants=0, tasks=2, patched=2, kl=1, thinking=0, steered=0, layer_step=3, grafts=False)
    monkeypatch.setitem(PRESETS, "quick", few)
    monkeypatch.chdir(tmp_path)
    pair, settings = pair_of(tmp_path, DATED), {"preset": "quick", "dimensions": ("safety",), "until_decided": False}
    settings |= {"think": 4, "answer": 4}
    config = {name: md.Audit(out=tmp_path / name, **settings) for name in ("whole", "halves")}
    on_day(monkeypatch, 2031, 5, 6)
    whole = md.audit(config["whole"], pair=pair)
    md.audit(config["halves"], pair=pair)
    run = md.load_run(tmp_path / "halves")
    run.forget(tuple(stage for stage in run.finished if stage not in ("pair", "answers")))
    on_day(monkeypatch, 2031, 5, 7)
    halves = md.audit(config["halves"], pair=pair)
    for name in ("completions", "scores", "drift", "kl"):
        assert whole.table(name).equals(halves.table(name)), name


def test_one_of_several_templates_is_chosen_by_its_name(tmp_path):
    several = {"default": TURN, "formal": FORMAL}
    assert "Sir" not in text_of(pair_of(tmp_path, several))
    pair = pair_of(tmp_path, several, template={"reasoning": "formal"})
    assert "Sir, Why?" in text_of(pair)
    assert "Sir" not in text_of(pair, "instruct")
    assert asked_as(pair)["reasoning"] == {"template": "formal"}
    assert "template: formal" in str(md.look(pair))
    with pytest.raises(md.MechdriftError, match="'default', 'formal', and none named 'rude': choose one of them with"):
        pair_of(tmp_path, several, template="rude")
    with pytest.raises(md.MechdriftError, match="none named 'formal'"):
        pair_of(tmp_path, TURN, template="formal")
    with pytest.raises(md.MechdriftError, match="none named 'formal'"):
        md.load_pair("smollm2-sft", template="formal")


def test_several_templates_without_a_default_ask_for_a_choice(tmp_path):
    several = {"plain": TURN, "formal": FORMAL}
    with pytest.raises(md.MechdriftError, match="'plain', 'formal', and no default: choose one"):
        pair_of(tmp_path, several)
    pair = pair_of(tmp_path, several, template="formal")
    assert "Sir, Why?" in text_of(pair, "instruct")
    assert md.collect(pair, PROBES).instruct.shape[0] == len(PROBES)


def test_a_pair_file_and_an_option_choose_a_template(tmp_path, mechdrift):
    folders = [save(tmp_path / name, {"default": TURN, "formal": FORMAL}, seed) for seed, name in enumerate("pc")]
    lines = ["[instruct]", f'model = "{folders[0]}"', "[reasoning]", f'model = "{folders[1]}"', 'template = "formal"']
    (tmp_path / "mine.toml").write_text("\n".join(lines))
    code, out, error = mechdrift("look", tmp_path / "mine.toml")
    assert (code, out.count("template: formal")) == (0, 1), error
    code, out, error = mechdrift("look", "--instruct", folders[0], "--reasoning", folders[1], "--template", "formal")
    assert (code, out.count("template: formal")) == (0, 2), error


def test_a_callers_own_tokenizer_keeps_its_templates(tmp_path):
    several = {"plain": TURN, "formal": FORMAL}
    tokenizer, model = make_tokenizer(several), make_model()
    pair = md.Pair.from_models(
        model, make_model(seed=1), tokenizer, template={"instruct": "plain", "reasoning": "formal"}
    )
    assert "Sir, Why?" in text_of(pair)
    assert "Sir" not in text_of(pair, "instruct")
    assert tokenizer.chat_template == several
    with pytest.raises(md.MechdriftError, match="and no default"):
        md.Pair.from_models(model, make_model(seed=1), tokenizer)


def test_settings_in_a_run_are_json(tmp_path):
    pair = pair_of(tmp_path, DATED, template_args={"strftime_now": "2025-06-30"})
    assert json.loads(json.dumps(asked_as(pair))) == asked_as(pair)
