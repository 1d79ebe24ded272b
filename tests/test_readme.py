"""What the README shows works as it stands there."""

import re
from pathlib import Path

import pytest

import mechdrift as md

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("code", BLOCKS)
def test_the_ten_lines_run(code, tiny_pair, monkeypatch, tmp_path, capsys):
    """On two random models; what is written is written here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(md, "load_pair", lambda name: tiny_pair)
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert [word for word in ("cosine", "p_adjusted", "aligned") if word not in printed] == []


def test_every_command_it_names_exists():
    from mechdrift.cli import app

    named = {
        word
        for line in re.findall(r"^    mechdrift (.*)", README, re.MULTILINE)
        for word in re.findall(r"^\w+|(?<=\| )\w+", line)
    }
    assert named >= {"audit", "report", "pairs", "probes", "bench"}
    for name in named:
        assert app[name]


def test_it_is_short():
    assert len(README.split()) <= 1600
    assert len(README.splitlines()) <= 125
