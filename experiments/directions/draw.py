"""Draw what an audit says about the directions, for each embedded pair or for given run folders.

    python experiments/directions/draw.py                          # audits every embedded pair (standard preset,
                                                                   minutes each)
    python experiments/directions/draw.py runs/smollm2-sft …       # only draws

Writes `figures/directions.html`, one page for all pairs that needs no network and no other file. plotly.js alone is 5
MB, so it is in the page once, and compressed together with the figures: 2 MB for the first pair and a tenth of that for
each other one, in a repository that keeps every version. The browser unpacks it (DecompressionStream, in all of them
since 2023). For readers who do not open the page, Chromium draws three PNGs per pair beside it (left out where there is
no Chromium)."""

import argparse
import base64
import gzip
import html
import json
import sys
from pathlib import Path

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from mechdrift import audit
from mechdrift.audits.pipeline import Audit
from mechdrift.pairs.catalogue import EMBEDDED_PAIRS
from mechdrift.report.exhibits import draw_all
from mechdrift.report.narrative.directions import describe_directions
from mechdrift.report.page import load_tables
from mechdrift.report.theme import CONFIG, POLICY
from mechdrift.runs import Run, load_run

sys.path.append(str(Path(__file__).parents[1]))
from pictures import take_pictures

FIGURES = {
    "direction_drift": (
        "Cosine of the two models' directions by layer; the menu chooses the token. Dashed: noise ceiling. "
        "Hollow: noise."
    ),
    "angles": (
        "Angle between them without what noise adds, with its 95% interval, and the 90% cones of either model's own."
    ),
    "drift_map": "The same angle by layer and token role; grey: not above noise, or not known to within 90 degrees.",
    "differences": "How much further triggers moved than their neutral twins.",
    "dimensions": "Cosines between the dimensions' directions, in each model and across; the menu chooses the layer.",
    "thinking": (
        "Projection on the instruct model's direction along the thinking: 0 is where neutral prompts lie, 1 "
        "where triggers do."
    ),
    "selection": (
        "Candidate refusal directions: what is left of refusing without each, what it brings about, and at what KL."
    ),
    "steering": (
        "The selected one taken out of the instruct model and added to the reasoning model, by strength, "
        "beside its controls."
    ),
}
PICTURES = ("direction_drift", "thinking", "steering")
STYLE = (
    "body{font-family:system-ui,sans-serif;max-width:1060px;margin:2em "
    "auto;color:#1F2328}p{color:#5B636D;max-width:50em}"
)


SAFE = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
UNPACK = """
(async () => {
  const bytes = Uint8Array.from(atob(document.getElementById("packed").textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const { plotly, config, figures } = JSON.parse(await new Response(stream).text());
  document.head.append(Object.assign(document.createElement("script"), { textContent: plotly }));
  for (const [place, { data, layout }] of Object.entries(figures)) await Plotly.newPlot(place, data, layout, config);
  document.documentElement.dataset.plots = "drawn";
})();
"""


def sections(run: Run, name: str) -> tuple[str, dict[str, go.Figure]]:
    """One pair's part of the page, and its figures."""
    tables = load_tables(run)
    drawn = draw_all(tables)
    said = describe_directions(run.manifest, tables.get("drift"), tables.get("thinking"), tables.get("steering"))
    parts = [f"<h2>{html.escape(name)}</h2><p>{html.escape(' '.join(said.values()))}</p>"]
    figures = {}
    for key, caption in FIGURES.items():
        figure = drawn[key].figure
        if figure is None:
            parts.append(f"<p>{html.escape(drawn[key].missing)}</p>")
        else:
            figures[key] = figure
            parts.append(
                f'<div id="{key}-{html.escape(name)}" style="height: {figure.layout.height}px"></div><p>{caption}</p>'
            )
    return "\n".join(parts), figures


def write(runs: list[Run], folder: Path) -> Path:
    """The page of all runs, and the pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [run.manifest["config"]["pair"] for run in runs]
    found = [sections(run, name) for run, name in zip(runs, names, strict=True)]
    figures = {
        f"{key}-{name}": figure for name, (_, drawn) in zip(names, found, strict=True) for key, figure in drawn.items()
    }
    head = f'<!doctype html><html lang="en"><meta charset="utf-8">{SAFE}<title>Directions</title><style>{STYLE}</style>'
    page = folder / "directions.html"
    page.write_text(
        "\n".join([head, "<h1>Where the directions went</h1>", *(text for text, _ in found), _packed(figures)]),
        encoding="utf-8",
    )
    places = [
        f"{key}-{name}" for name, (_, figures) in zip(names, found, strict=True) for key in PICTURES if key in figures
    ]
    take_pictures(page, folder, places)
    return page


def _packed(figures: dict[str, go.Figure]) -> str:
    data = {
        "plotly": get_plotlyjs(),
        "config": CONFIG,
        "figures": {place: json.loads(figure.to_json()) for place, figure in figures.items()},
    }
    packed = base64.b64encode(gzip.compress(json.dumps(data).encode(), mtime=0)).decode()
    return f'<script type="text/plain" id="packed">{packed}</script><script>{UNPACK}</script>'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, help="run folders; without any, every embedded pair is audited")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "figures")
    asked = parser.parse_args()
    runs = [load_run(folder) for folder in asked.runs] or [audit(Audit(pair=name)) for name in EMBEDDED_PAIRS]
    print(write(runs, asked.out))


if __name__ == "__main__":
    main()
