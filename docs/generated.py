"""Pages that are made from the package while the documentation is built: the map of its folders, the list of its
modules, the command line's options, the benchmarks, and the tables' schemas.

The map draws the layers of the import contract (`pyproject.toml`) from top to bottom and an arrow for every import
between folders, as grimp finds them in the code. Arrows that follow from two others are left out.
"""

import ast
import re
import tomllib
from html import escape
from itertools import permutations
from pathlib import Path

import grimp

from mechdrift import tables

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mechdrift"
BOX_WIDTH, BOX_HEIGHT, GAP_X, GAP_Y, MARGIN = 128, 34, 40, 42, 16
STYLE = """
.box { fill: #eef2f8; stroke: #5b6f8f; } .name { font: 14px sans-serif; text-anchor: middle; fill: #1b2a41; }
.arrow { fill: none; stroke: #7d8fab; stroke-width: 1.3; marker-end: url(#head); } #head path { fill: #7d8fab; }
@media (prefers-color-scheme: dark) { .box { fill: #24304a; } .name { fill: #e6ebf5; } }
"""

Edge = tuple[str, str]
Point = tuple[float, float]


def write_pages(docs: Path) -> None:
    """Write `generated/*`; files that would not change are left alone."""
    folder = docs / "generated"
    folder.mkdir(exist_ok=True)
    layers = contract_layers()
    _write(folder / "map.svg", draw_map(layers, import_edges([name for layer in layers for name in layer])))
    _write(folder / "modules.md", list_modules(layers))
    _write(folder / "commands.md", list_commands())
    _write(folder / "benchmarks.md", list_benchmarks())
    _write(folder / "tables.md", tables.reference())


def _write(file: Path, text: str) -> None:
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        file.write_text(text, encoding="utf-8")


def contract_layers() -> list[list[str]]:
    """The layers of the import contract, from the top one to the bottom one, without the package's name."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    return [[name.strip().removeprefix("mechdrift.") for name in re.split("[|:]", layer)] for layer in layers]


def import_edges(names: list[str]) -> list[Edge]:
    """Which of these folders and files import which, without what follows from two other imports."""
    graph = grimp.build_graph("mechdrift", exclude_type_checking_imports=True, cache_dir=None)
    edges = {
        (above, below)
        for above, below in permutations(names, 2)
        if graph.direct_import_exists(importer=f"mechdrift.{above}", imported=f"mechdrift.{below}", as_packages=True)
    }
    rank = {name: place for place, name in enumerate(names)}
    downwards = {edge for edge in edges if rank[edge[0]] < rank[edge[1]]}
    return sorted(edge for edge in downwards if not _follows(edge, downwards))


def _follows(edge: Edge, edges: set[Edge]) -> bool:
    """Whether a path of two or more other arrows leads from the start to the end of this one."""
    start, end = edge
    reached = {below for above, below in edges if above == start and below != end}
    while reached:
        if end in (further := {below for above, below in edges if above in reached}):
            return True
        reached = further
    return False


def draw_map(layers: list[list[str]], edges: list[Edge]) -> str:
    """An SVG: one row per layer, one box per folder or file."""
    widest = max(len(layer) for layer in layers)
    width = widest * (BOX_WIDTH + GAP_X) + 2 * MARGIN
    places = {
        name: (width / 2 + (column - (len(layer) - 1) / 2) * (BOX_WIDTH + GAP_X), MARGIN + row * (BOX_HEIGHT + GAP_Y))
        for row, layer in enumerate(layers)
        for column, name in enumerate(layer)
    }
    height = 2 * MARGIN + len(layers) * (BOX_HEIGHT + GAP_Y) - GAP_Y
    arrows = [_arrow(places[above], places[below], number) for number, (above, below) in enumerate(edges)]
    boxes = [_box(name, place) for name, place in places.items()]
    head = (
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z"/></marker></defs>'
    )
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" role="img" width="{width:.0f}">',
        "<title>The folders of mechdrift and their imports</title>",
        f"<style>{STYLE}</style>{head}",
        *arrows,
        *boxes,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _arrow(above: Point, below: Point, number: int) -> str:
    """A curve from the bottom of one box to the top of another; starts are spread, so that arrows can be told apart."""
    start_x, start_y = above[0] + (number % 5 - 2) * 14, above[1] + BOX_HEIGHT
    end_x, end_y = below[0] + (number % 3 - 1) * 18, below[1]
    bend = (end_y - start_y) / 2
    path = f"M{start_x:.0f} {start_y:.0f} C{start_x:.0f} {start_y + bend:.0f} {end_x:.0f} {end_y - bend:.0f}"
    return f'<path class="arrow" d="{path} {end_x:.0f} {end_y:.0f}"/>'


def _box(name: str, place: Point) -> str:
    left, top = place[0] - BOX_WIDTH / 2, place[1]
    return (
        f'<rect class="box" x="{left:.0f}" y="{top:.0f}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6"/>'
        f'<text class="name" x="{place[0]:.0f}" y="{top + BOX_HEIGHT / 2 + 5:.0f}">{escape(name)}</text>'
    )


def list_modules(layers: list[list[str]]) -> str:
    """Markdown: every folder with its modules, and the first sentence of each module's docstring."""
    lines = ["| Folder | Module | What it does |", "|---|---|---|"]
    for name in [name for layer in layers for name in layer]:
        file = PACKAGE / f"{name}.py"
        modules = [file] if file.exists() else sorted((PACKAGE / name).rglob("*.py"))
        for number, module in enumerate(module for module in modules if module.name != "__init__.py"):
            label = module.relative_to(PACKAGE if file.exists() else PACKAGE / name).with_suffix("").as_posix()
            folder = f"**{name}/**" if number == 0 and not file.exists() else ""
            lines.append(f"| {folder} | `{label}` | {_first_sentence(module)} |")
    return "\n".join(lines) + "\n"


def _first_sentence(module: Path) -> str:
    text = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(text.split("\n\n")[0].split())
    return paragraph.replace("|", "\\|")


def list_commands() -> str:
    """Markdown: every command with its options, as `--help` shows them."""
    from mechdrift.cli import app

    text = app.generate_docs(output_format="markdown").replace(" *[default: ]*", "")  # no default, or a switch
    before, _, after = text.partition("## Table of Contents")
    return before + after[after.index("\n**") :]  # the commands by group say what this table of contents says


def list_benchmarks() -> str:
    """Markdown: the benchmarks that can be read."""
    from mechdrift.probes.benchmarks.registry import BENCHMARKS

    lines = ["| Name | Dimension | Items | Licence | Source |", "|---|---|---|---|---|"]
    lines += [f"| `{b.name}` | {b.dimension} | {b.items} | {b.licence} | {b.source} |" for b in BENCHMARKS.values()]
    return "\n".join(lines) + "\n"
