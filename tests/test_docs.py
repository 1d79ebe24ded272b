"""The documentation holds together: links lead somewhere, every public name has its place, numbers are those measured.

Building it (`sphinx-build -W docs docs/_build`) is a step of its own in `.ci/run`, because its notebooks run there.
"""

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
