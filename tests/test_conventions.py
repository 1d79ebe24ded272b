"""How models of public families think, read off templates as small as theirs: markers, switch, and the prompt that each
think mode makes of them."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from families import BLOCK, FAMILIES, PLAIN_CHATML, Family, table, tokenizer_of

from mechdrift.pairs.chat import ChatSettings
from mechdrift.pairs.conventions import read_convention
from mechdrift.pairs.named import load_pair
from mechdrift.pairs.templates import missing_header
from mechdrift.probes.rendering import Renderer

EVERY = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
QUESTION = "Why is it so?"
PAGE = Path(__file__).parents[1] / "docs" / "hand_in.md"


@EVERY
def test_markers_and_switch_are_read_off(family: Family):
    found = read_convention(tokenizer_of(family))
    assert (found.opening, found.closing, found.source) == (family.opening, family.closing, family.source)
    assert (found.switch.name if found.switch else "") == family.switch


@EVERY
@pytest.mark.parametrize("mode", ["none", "off", "own"])
def test_every_think_mode_asks_as_the_family_is_asked(family: Family, mode):
    tokenizer = tokenizer_of(family)
    rendered = Renderer(tokenizer).render("x", QUESTION, mode)
    ids = rendered.ids if mode != "own" else rendered.ids[: rendered.roles["think_open"][1]]
    tail = tokenizer.decode(ids).partition(QUESTION)[2]
    assert tail == family.tail[mode]


def save(tokenizer, folder: Path) -> str:
    tokenizer.save_pretrained(folder)
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 512}
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


@EVERY
def test_the_prompts_of_public_families_end_as_they_should(family: Family):
    assert missing_header(tokenizer_of(family), ChatSettings()) == ""


HEADED = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "missing"),
    [
        (HEADED, "<assistant>"),
        (HEADED + "{% if messages[-1].role == 'user' %}<assistant>{% endif %}", ""),  # always there
        (HEADED + "{% if add_generation_prompt %}<assistant>{% endif %}", ""),
        (
            "{% for m in messages %}{{ m.content if m.role == 'assistant' else '[INST]' + m.content + '[/INST]' }}"
            "{% endfor %}",
            "",
        ),
        (
            "{% for m in messages %}<{{ m.role }}>{{ '<think></think>' if m.role == 'assistant' }}{{ m.content }}"
            "{% endfor %}{% if messages[-1].role == 'user' %}<assistant>{% endif %}",
            "",
        ),
    ],
    ids=["ignored", "always", "as asked", "no header", "an empty block"],
)
def test_a_template_that_ignores_add_generation_prompt_is_said(template, missing, tmp_path):
    """Every answer would begin where the model was never trained to begin one."""
    tokenizer = tokenizer_of(FAMILIES[0])
    tokenizer.chat_template = template
    (tmp_path / "own").mkdir()
    place = save(tokenizer, tmp_path / "own")
    warnings = load_pair(instruct=place, reasoning=place).warnings
    assert len(warnings) == (2 if missing else 0)
    assert all(f"ignores add_generation_prompt: prompts end without '{missing}'" in said for said in warnings)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.variant == "both"], ids=lambda family: family.name)
def test_one_checkpoint_with_a_switch_is_asked_with_thinking_off_and_on(family: Family, tmp_path):
    """The prompt of the instruct side is that of mode off, the reasoning side's thinking is opened."""
    place = save(tokenizer_of(family), tmp_path)
    pair = load_pair(instruct=place, reasoning=place)
    if not family.switch:
        assert pair.warnings == ()
        return
    assert "thinking can be switched" in pair.warnings[0]
    for side, mode in (("instruct", "off"), ("reasoning", "own")):
        renderer = Renderer(pair.tokenizer(side))
        ids = renderer.render("x", QUESTION, "none").ids
        expected = renderer.render("x", QUESTION, mode)
        opened = expected.roles["think_open"][1] if mode == "own" else len(expected.ids)
        assert expected.ids[:opened][: len(ids)] == ids


@pytest.mark.parametrize(
    ("condition", "on", "off"),
    [
        ("thinking_mode == 'off'", "on", "off"),
        ("thinking_mode is defined and thinking_mode in ['disabled', 'none']", "enabled", "disabled"),
        ("thinking_mode != 'deep'", "deep", ""),
    ],
)
def test_a_variable_that_is_compared_with_words_is_a_switch_where_one_of_them_closes_the_block(condition, on, off):
    end = "{% if " + condition + " %}" + BLOCK + "{% else %}<think>\n{% endif %}"
    family = replace(
        FAMILIES[0], template=PLAIN_CHATML.replace("assistant\n{% endif %}", "assistant\n" + end + "{% endif %}")
    )
    found = read_convention(tokenizer_of(family))
    assert found.switch is not None
    assert (found.switch.on, found.switch.off) == ({"thinking_mode": on}, {"thinking_mode": off})
    assert str(found.switch) == f"thinking_mode ({on!r} thinks, {off!r} does not)"
    renderer = Renderer(tokenizer_of(family))
    asked = renderer.tokenizer.decode(renderer.render("x", QUESTION, "off").ids)
    assert asked.endswith("<|im_start|>assistant\n" + BLOCK)


@pytest.mark.parametrize("word", ["思考", "reflection"])
def test_a_word_for_thinking_may_be_another_one(word):
    """The template opens the block; the vocabulary has what closes it."""
    template = PLAIN_CHATML.replace("assistant\n{% endif %}", f"assistant\n<{word}>\n{{% endif %}}")
    found = read_convention(tokenizer_of(replace(FAMILIES[0], template=template, tokens=(f"<{word}>", f"</{word}>"))))
    assert (found.open, found.close) == (f"<{word}>", f"</{word}>")


def test_the_documentation_s_table_is_this_one():
    found = re.search(r"<!-- families -->\n(.*?)<!-- end -->", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    assert found[1] == table(), "write what families.table() gives into docs/hand_in.md"
