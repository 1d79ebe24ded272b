"""The documentation holds together: links lead somewhere, every public name has its place, numbers are those measured.

Building it (`sphinx-build -W docs docs/_build/html`) is a step of its own in `.ci/run`: its notebooks run there.
"""

import ast
import re
import sys
from pathlib import Path

import pytest

import mechdrift as md

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if not {"_build", "generated"} & set(page.parts))
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
INCLUDED = re.compile(r"^```\{(?:include|image)\} (\S+)", re.MULTILINE)
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)


def local_links(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    links = LINK.findall(CODE.sub("", text)) + INCLUDED.findall(text)
    return [link for link in links if not re.match(r"[a-z]+:", link) and "generated/" not in link]


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page):
    assert [link for link in local_links(page) if not (page.parent / link).exists()] == []


def test_every_page_is_in_a_table_of_contents():
    listed = set()
    for page in PAGES:
        for block in re.findall(r"```\{toctree\}(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            entries = [line for line in block.splitlines() if line and not line.startswith(":")]
            listed |= {(page.parent / f"{entry}.md").resolve() for entry in entries if entry}
    assert {page.resolve() for page in PAGES} - listed == {(DOCS / "index.md").resolve()}


def test_every_public_name_has_its_place_in_the_reference():
    text = "\n".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.md"))
    assert set(re.findall(r"auto(?:class|function|exception):: mechdrift\.(\w+)", text)) == set(md.__all__)


@pytest.mark.parametrize("door", sorted((ROOT / "mechdrift").glob("*/__init__.py")), ids=lambda door: door.parent.name)
def test_what_a_folder_s_docstring_lists_is_there(door):
    text = ast.get_docstring(ast.parse(door.read_text(encoding="utf-8"))) or ""
    names = re.findall(r"^ {0,4}([a-z_]+) {2,}\S", text, re.MULTILINE)
    there = {path.stem for path in door.parent.iterdir()}
    assert [name for name in names if name not in there] == []


def test_files_that_prose_names_are_there():
    """Paths in pages and in docstrings, from the repository's root."""
    path = re.compile(r"\b(?:mechdrift|experiments|figures|tests)/[\w./-]+\.(?:py|md|npz|jsonl?|png|csv)\b(?!\.)")
    files = [ROOT / "README.md", *PAGES, *(ROOT / "experiments").rglob("*.md"), *(ROOT / "mechdrift").rglob("*.py")]
    named = {(file.name, name) for file in files for name in path.findall(file.read_text(encoding="utf-8"))}
    assert {(file, name) for file, name in named if not (ROOT / name).exists()} == set()


def test_the_seams_of_how_to_extend_hold(tiny_pair, own_dimensions, monkeypatch, tmp_path):
    """A probe set, a judge, a backend, a patch site and a figure are added from outside, as the page does it."""
    monkeypatch.chdir(tmp_path)
    paths = {side: tiny_pair.source(side).path for side in md.records.SIDES}
    load_pair = md.load_pair
    monkeypatch.setattr(md, "load_pair", lambda name, **said: load_pair(**paths, **said) if said else tiny_pair)
    text = (DOCS / "extend.md").read_text(encoding="utf-8")
    cells = re.findall(r"```\{code-cell\} ipython3\n(.*?)```", text, re.DOTALL)
    names: dict = {}
    for cell in cells:
        exec(compile(cell, "extend.md", "exec"), names)
    assert names["flattery"].name == "flattery"
    assert set(names["table"].judge) == {"says sorry"}
    assert all("I would rather not say.".startswith(answer) for answer in names["answers"].frame.answer)
    assert names["grid"].site == "mlp.hook_in"
    assert "<muse>" in str(md.look(names["musing"]))
    assert names["drawn"]["norms"].figure is not None
    assert "absent" in names["drawn"]["other"].missing


@pytest.fixture
def experiment(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT / "experiments" / "routes")])
    return __import__


def test_results_show_the_committed_tables(experiment):
    """The tables of routes and histories are what the experiments make of their committed results."""
    routes, histories = experiment("routes"), experiment("histories")
    kept = routes.read(routes.RESULTS)
    page = (DOCS / "results" / "routes.md").read_text(encoding="utf-8")
    assert routes.table(kept["summary"], kept["changes"]) in page
    table = histories.table(histories.read(histories.RESULTS, "halfway"))
    shown = {line for line in table.splitlines() if not line.startswith("| answers that make no sense")}
    assert shown <= set((DOCS / "results" / "histories.md").read_text(encoding="utf-8").splitlines())
