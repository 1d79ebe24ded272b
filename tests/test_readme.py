"""What the README shows works as it stands there."""

import re
from pathlib import Path

import pytest

import mechdrift as md

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize(
    ("code", "printed"), zip(BLOCKS, (("cosine", "aligned"), ("angle_low", "bypass", "recovery")), strict=True)
)
def test_the_ten_lines_run(code, printed, tiny_pair, monkeypatch, tmp_path, capsys):
    """On two random models; what is written is written here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(md, "load_pair", lambda name: tiny_pair)
    exec(compile(code, "README.md", "exec"), {})
    said = capsys.readouterr().out
    assert [word for word in printed if word not in said] == []


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


def test_every_module_it_names_exists():
    tree = README.split("## The source")[1].split("## Tests")[0]
    package = Path(md.__file__).parent
    for name in re.findall(r"\b(\w+)\.py\b", tree):
        assert (package / f"{name}.py").exists(), name
    for name in re.findall(r"^      (\w+)/", tree, re.MULTILINE):
        assert (package / name).is_dir(), name
