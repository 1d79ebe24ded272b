"""Histories of the routes: when does reasoning come, when does alignment go, and when do the directions turn?

    python experiments/routes/histories.py RUN …     # copy the tables of finished trajectories to results/, then as
    below python experiments/routes/histories.py           # from results/ alone: when half of each change was there;
                                                     figures/histories.png

A RUN is the output folder of `mechdrift trajectory`. Of its table (`trajectory.csv`; columns in
`mechdrift.trajectories.tables`) the cosines of single layers stay out: `history-NAME.csv` has a row per step and
measure, `halfway-NAME.csv` one per measure.
"""

import argparse
import math
import sys
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from mechdrift.comparisons.figures import marks
from mechdrift.report.drawing import cell, grid
from mechdrift.report.theme import QUIET
from mechdrift.report.words import DASH, MINUS, number
from mechdrift.runs import load_run

sys.path.append(str(Path(__file__).parents[1]))
from pictures import draw_pictures

ROUTES = (
    "smollm2-sft",
    "smollm2-rl",
    "smollm2-distill",
    "smollm2-sft-guarded",
    "smollm2-null",
)  # as in the table of routes
RESULTS = Path(__file__).parent / "results"
FIGURES = Path(__file__).parents[2] / "figures"
MEASURES = {
    ("accuracy", "reasoning"): "reasoning accuracy",
    ("aligned", "all"): "aligned answers, mean",
    ("aligned", "bias"): "aligned answers, bias",
    ("incoherent", "all"): "answers that make no sense",
    ("kl", "all"): "KL from the parent",
    ("cosine", "all"): "cosine with the parent's directions",
}
UNITS = {"accuracy": ", points", "aligned": ", points", "kl": ", nats"}
SHARES = ("accuracy", "aligned", "incoherent")


def keep(folders: list[Path], out: Path) -> None:
    """The compact tables of trajectories."""
    out.mkdir(parents=True, exist_ok=True)
    for folder in folders:
        run = load_run(folder)
        name, course = run.manifest["config"]["pair"], run.table("trajectory")
        course[(course.quantity != "cosine") | course.layer.isna()].to_csv(
            out / f"history-{name}.csv", index=False, float_format="%.5g"
        )
        run.table("halfway").to_csv(out / f"halfway-{name}.csv", index=False, float_format="%.5g")


def read(out: Path, kind: str) -> dict[str, pd.DataFrame]:
    """The tables of a kind, in the order of the embedded pairs, others after them."""
    found = {file.stem.removeprefix(f"{kind}-"): pd.read_csv(file) for file in sorted(out.glob(f"{kind}-*.csv"))}
    return {
        name: found[name]
        for name in sorted(found, key=lambda name: ROUTES.index(name) if name in ROUTES else len(ROUTES))
    }


def overlaid(courses: dict[str, pd.DataFrame]) -> go.Figure:
    """One panel per measure, one line per run, against the tokens trained on."""
    figure = grid(
        2,
        3,
        [label[0].upper() + label[1:] for label in MEASURES.values()],
        height=560,
        horizontal_spacing=0.07,
        vertical_spacing=0.17,
    )
    looks = marks((*ROUTES, *courses))
    for name, look in ((name, looks[name]) for name in courses):
        for place, measure in enumerate(MEASURES):
            rows = of_measure(courses[name], measure).sort_values("tokens")
            figure.add_scatter(
                x=rows.tokens,
                y=rows.value,
                error_y=_bars(rows, look),
                name=name,
                mode="lines+markers",
                marker=look | {"size": 6},
                line={"color": look["color"]},
                legendgroup=name,
                showlegend=place == 0,
                **cell(place),
            )
    for place, (quantity, _) in enumerate(MEASURES):
        if quantity in SHARES:
            figure.update_yaxes(tickformat=".0%", **cell(place))
    figure.update_xaxes(title_text="target tokens trained on", title_font={"color": QUIET}, row=2)
    return figure.update_layout(legend={"orientation": "h", "y": -0.16, "yanchor": "top", "x": 0}, margin_b=90)


def _bars(rows: pd.DataFrame, look: dict) -> dict:
    """95 % intervals, thin."""
    return {
        "symmetric": False,
        "array": rows.high - rows.value,
        "arrayminus": rows.value - rows.low,
        "thickness": 0.7,
        "width": 0,
        "color": look["color"],
    }


def of_measure(rows: pd.DataFrame, measure: tuple[str, str]) -> pd.DataFrame:
    return rows[(rows.quantity == measure[0]) & (rows.dimension == measure[1])]


def table(halves: dict[str, pd.DataFrame]) -> str:
    """Markdown: the change of each measure at the end and, if it is established, the step at which half of it was
    there."""
    lines = [["", *(f"`{name}`" for name in halves)], ["---"] * (len(halves) + 1)]
    for measure, label in MEASURES.items():
        cells = [_cell(of_measure(half, measure).to_dict("records"), measure[0]) for half in halves.values()]
        if set(cells) != {DASH}:
            lines.append([label + UNITS.get(measure[0], ""), *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(rows: list[dict], quantity: str) -> str:
    if not rows:
        return DASH
    row = rows[0]
    change = (
        number(row["change"], share=True, signed=True)
        if quantity in SHARES
        else f"{row['change']:+.3f}".replace("-", MINUS)
    )
    if math.isnan(row["half"]):
        return f"{change}, not established"
    if row["half_low"] == 0:
        return f"{change}, half before {row['half_high']:.0f}"
    return f"{change}, half at {row['half']:.0f} ({row['half_low']:.0f} to {row['half_high']:.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, help="output folders of `mechdrift trajectory`")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--figures", type=Path, default=FIGURES)
    asked = parser.parse_args()
    if asked.runs:
        keep(asked.runs, asked.results)
    print(table(read(asked.results, "halfway")))
    draw_pictures({"histories": overlaid(read(asked.results, "history"))}, asked.figures)


if __name__ == "__main__":
    main()
