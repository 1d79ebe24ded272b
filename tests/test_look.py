"""`mechdrift look`: what a question becomes in each think mode, by role, without weights and without escapes."""

import re
import sys
from pathlib import Path

import pytest
from conftest import make_tokenizer, save_model
from test_asked import PLAIN, SWITCHED, renamed_pair, save_with

import mechdrift as md
from mechdrift import cli
from mechdrift.pairs.named import load_pair
from mechdrift.probes.look import COLOURS, visible
from mechdrift.probes.rendering import Renderer
from mechdrift.records import ROLES, SIDES

HOSTILE = PLAIN.replace("assistant\n", "assistant\n\x1b[2J\x1b]0;title\x07\u202e\u200b\n")


@pytest.fixture(scope="module")
def without_weights(tmp_path_factory) -> Path:
    """A folder that can be looked at, and not be loaded."""
    folder = save_with(tmp_path_factory.mktemp("look") / "model", SWITCHED)
    (folder / "model.safetensors").unlink()
    return folder


def test_it_shows_what_is_rendered_for_both_sides_in_every_mode(without_weights):
    pair = load_pair(instruct=str(without_weights), reasoning=str(without_weights), system={"reasoning": "Think."})
    frame = md.look(pair, "Why?").frame
    for side in SIDES:
        renderer = Renderer(pair.tokenizer(side))
        for think in ("none", "off", "own"):
            rows = frame[(frame.side == side) & (frame.think == think)]
            rendered = renderer.render("x", "Why?", think)
            assert list(rows.role) == [role for role in ROLES if role in set(rows.role)]
            assert "".join(rows.text) == renderer.tokenizer.decode(rendered.ids)
            assert rows.tokens.sum() == len(rendered.ids)
            assert ("think" in set(rows.role)) == (think == "own")  # where the model writes


def test_the_command_needs_no_weights_and_writes_nothing_that_a_terminal_obeys(mechdrift, tmp_path):
    folder = save_model(tmp_path / "hostile")
    make_tokenizer(HOSTILE).save_pretrained(folder)
    (folder / "model.safetensors").unlink()
    words = ["--prompt", "Why \x1b[31m?", "--reasoning-system", "Think."]
    code, printed, said = mechdrift("look", "--instruct", folder, "--reasoning", folder, *words)
    assert code == 0, said
    assert all(c.isprintable() or c == "\n" for c in printed)
    assert "\\x1b[2J\\x1b]0;title\\x07\\u202e\\u200b\\n" in printed
    assert "Why \\x1b[31m?" in printed
    told = printed.split("reasoning model:")
    assert len(told) == 2
    assert "Think.<|im_end|>" not in told[0]
    for mode in ("none", "off", "own"):
        assert f"think mode {mode}:" in told[1]
    for role in ("system", "user", "template_tail", "think_open", "think", "think_close", "answer"):
        assert re.search(rf"^    {role} ", told[1], re.MULTILINE), role
    assert "give --think-open and --think-close" in printed  # nothing says how it thinks


def test_with_colours_every_role_has_its_own_and_the_words_are_the_same(without_weights, monkeypatch, capsys):
    arguments = ["look", "--instruct", str(without_weights), "--reasoning", str(without_weights)]
    texts = []
    for colour in ("always", "never", "auto"):
        monkeypatch.setattr(sys, "argv", ["mechdrift", *arguments, "--colour", colour])
        with pytest.raises(SystemExit):
            cli.main()
        texts.append(capsys.readouterr().out)
    assert re.sub(r"\x1b\[\d+m", "", texts[0]) == texts[1] == texts[2]  # the output is no terminal here
    for role in ("system", "user", "template_tail", "think_open", "think", "answer"):
        if role != "system":  # this template has none
            assert re.search(rf"\x1b\[{COLOURS[role][0]}m    {role} ", texts[0]), role


def test_in_a_notebook_nothing_of_a_template_is_markup(tmp_path):
    folder = save_with(tmp_path / "model", PLAIN.replace("assistant", "<b>assistant"))
    html = md.look(load_pair(instruct=str(folder), reasoning=str(folder)))._repr_html_()
    assert "&lt;b&gt;assistant" in html
    assert "<b>assistant" not in html


def test_ids_that_mean_other_tokens_to_the_parent_are_told(tmp_path):
    notes = md.look(renamed_pair(tmp_path)).notes
    assert any("other tokens to the instruct model" in note for note in notes)


@pytest.mark.parametrize(
    ("text", "shown"), [("a\nb", "a\\nb"), ("\\n", "\\\\n"), ("é▁", "é▁"), ("\x9b1m", "\\x9b1m"), ("\ud800", "\\ud800")]
)
def test_what_is_not_printable_is_shown_as_its_escape(text, shown):
    assert visible(text) == shown
