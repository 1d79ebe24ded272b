"""How every page is made: one set of templates, which escape what they are given, and each figure as a file.

A page opens from disk, years later and offline: style, scripts, plotly.js and data are all inside it, and its content
security policy forbids every request. What models and prompts say is text, never markup. The templates escape
(`autoescape=True`), data for scripts is JSON without `<`, and the scripts only ever set `textContent`. Control
characters and marks of writing direction are replaced wherever they stand (`records.foreign.shown`).
"""

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from mechdrift.records import MechdriftError
from mechdrift.records.foreign import INSTEAD, OBEYED, shown
from mechdrift.report.exhibits import Drawn
from mechdrift.report.sheets import sheets_of
from mechdrift.report.theme import CONFIG, DARK, POLICY, POLICY_BESIDE
from mechdrift.report.words import DASH, PAGE_WORDS
from mechdrift.runs import Run

TEMPLATES = Path(__file__).parent / "templates"
ESCAPED = re.compile(r"\\\\|\\u([0-9a-f]{4})", re.IGNORECASE)  # two backslashes are one backslash, and no beginning


@cache
def templates() -> Environment:
    """The templates, with what all of them use. A name that a template does not get is an error.

    Each is compiled once, because a run's page and its figures render a dozen of them.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=lambda value: shown(value) if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        asset=_asset,
        data=_embedded,
        json=_json,
        plotly=lambda: Markup(get_plotlyjs()),
        plot_config=CONFIG,
        policy=Markup(POLICY),
        plot_dark=DARK,
        words=PAGE_WORDS,
    )
    environment.globals["flat"] = lambda section: [
        (key.replace("_", " "), flat(value)) for key, value in section.items() if value is not None
    ]
    environment.filters["seconds"] = _seconds
    return environment


def _asset(name: str) -> Markup:
    """A style sheet or script of this package, as it is."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def _json(value: Any) -> str:
    """A value as JSON; numpy scalars become Python ones."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=lambda scalar: scalar.item())


def _instead(escape: re.Match[str]) -> str:
    """What stands for an escape of JSON: U+FFFD where it names a character that a terminal or browser would obey."""
    number = escape[1]
    is_obeyed = number is not None and OBEYED.match(chr(int(number, 16))) and not 0xD800 <= int(number, 16) <= 0xDFFF
    return INSTEAD if is_obeyed else escape[0]


def _embedded(text: str) -> Markup:
    """JSON for a `<script>` of data. Without `<`, `>` and `&`, no text can close the element or open a comment. The
    characters that `shown` replaces are replaced here too, also where the JSON names one by its number."""
    text = ESCAPED.sub(_instead, shown(text))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def flat(value: Any) -> str:
    """A manifest value on one line."""
    if isinstance(value, dict):
        return ", ".join(f"{key}: {flat(entry)}" for key, entry in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(flat(entry) for entry in value)
    if value is None:
        return DASH
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _seconds(value: float) -> str:
    if value < 60:
        return f"{value:.1f} s"
    return f"{value / 60:.0f} min" if value < 5400 else f"{value / 3600:.1f} h"


def slug(name: str) -> str:
    """A name without what a file's name cannot hold."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "run"


# Figures as files.


def place_figures(run: Run, drawn: Mapping[str, Drawn], folder: Path, inline: bool) -> tuple[Path, ...]:
    """Write each figure as a file of its own into `folder`, with plotly.js inside (`inline`) or once beside them."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MechdriftError(
            f"{folder} cannot be made ({error.strerror}): make room for a folder of that name."
        ) from error
    written = []
    for name, exhibit in drawn.items():
        if exhibit.figure is not None:
            text = figure_page(exhibit, inline, slug(run.folder.name))
            # An absolute path wins over the run's folder when the two are joined.
            written.append(run.write_text(str(folder.resolve() / f"{name}.html"), text))
    if written and not inline:
        run.write_text(str(folder.resolve() / "plotly.min.js"), get_plotlyjs())
    return tuple(written)


def figure_page(drawn: Drawn, inline: bool, stem: str) -> str:
    """One figure as a page, with plotly.js inside (`inline`) or in the file beside it; its data are saved as
    `<stem>-….csv`."""
    page = templates().get_template("figure.html.j2")
    policy = Markup(POLICY if inline else POLICY_BESIDE)
    return page.render(drawn=drawn, inline=inline, policy=policy, stem=stem, sheets=sheets_of([drawn]))
