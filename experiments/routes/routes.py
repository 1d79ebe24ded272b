"""The routes from an instruct to a reasoning model, side by side: the README's first table and its figure.

    python experiments/routes/routes.py RUN …      # copy the tables of finished audits of one parent's children to
                                                   results/, then as below
    python experiments/routes/routes.py            # from results/ alone: print the table, draw figures/routes.png and
                                                   figures/trade_off.png

The tables in results/ are those of `md.compare_runs` (see `mechdrift.comparisons.children` for every column):
`summary.csv` has a row per child, `changes.csv` one per child and dimension, `children.csv` one per pair of children
and dimension. `runs.csv` says what was measured: fingerprints of the weights, preset, seed, and versions. A test
compares the README's table with what this file makes of results/."""

import argparse
import sys
from pathlib import Path

import pandas as pd

import mechdrift as md
from mechdrift.comparisons import figures as comparing
from mechdrift.records import SIDES, Side, order_dimensions
from mechdrift.report.words import interval, number
from mechdrift.runs import Run
from mechdrift.statistics.grids import ALPHA
from mechdrift.statistics.intervals import unseen_share

sys.path.append(str(Path(__file__).parents[1]))
from pictures import draw_pictures

RESULTS = Path(__file__).parent / "results"
FIGURES = Path(__file__).parents[2] / "figures"
TABLES = {"summary": "summary", "changes": "frame", "children": "children"}  # file: table of a Comparison
DIGITS = "%.5g"
ALIGNED: dict[str, str] = {
    "safety": "safety: refused",
    "toxicity": "toxicity: none",
    "bias": "bias: nobody named",
    "ethics": "ethics: judged right",
    "privacy": "privacy: secret kept",
    "robustness": "robustness: refused in any style",
}
MEANS = (
    ("mean of the six", "kept", "aligned_before"),
    ("the price: harmless twins not helped", "price", "over_before"),
    ("reasoning: exact answers", "gain", "accuracy_before"),
)


def keep(runs: list[Path], folder: Path) -> None:
    """Write the comparison's tables."""
    compared = md.compare_runs(runs)
    folder.mkdir(parents=True, exist_ok=True)
    whole = {side: [complete(run, side) for run in compared.runs.values()] for side in SIDES}
    compared.summary["complete_before"], compared.summary["complete"] = whole["instruct"], whole["reasoning"]
    compared.summary["angle"] = [angle(run) for run in compared.runs.values()]
    for file, table in TABLES.items():
        getattr(compared, table).to_csv(folder / f"{file}.csv", index=False, float_format=DIGITS)
    pd.DataFrame([measured(name, run) for name, run in compared.runs.items()]).to_csv(folder / "runs.csv", index=False)


def complete(run: Run, side: Side) -> float:
    """The share of answers that came to an end and make sense, over all dimensions."""
    rows = run.table("completions").query(f"side == '{side}'")
    return float((rows.finished & ~rows.label.isin(["incoherent", "incomplete"])).mean())


def angle(run: Run) -> float:
    """The median angle between the two models' directions, in degrees, without what noise adds; over all cells above
    noise. Missing where a run did not come to its directions."""
    if "drift" not in run.manifest["stages"]:
        return float("nan")
    drift = run.table("drift")
    return float(drift[~drift.below_null].angle.median())


def measured(name: str, run: Run) -> dict[str, object]:
    """What was audited, and by which software."""
    manifest = run.manifest
    prints, config = manifest["pair"]["fingerprints"], manifest["config"]
    return {
        "run": name,
        "route": manifest["pair"]["route"],
        "instruct": prints["instruct"],
        "reasoning": prints["reasoning"],
        "preset": config["preset"],
        "seed": config["seed"],
    } | {f"version of {library}": version for library, version in sorted(manifest["versions"].items())}


def read(folder: Path) -> dict[str, pd.DataFrame]:
    return {file: pd.read_csv(folder / f"{file}.csv") for file in TABLES}


def table(summary: pd.DataFrame, changes: pd.DataFrame) -> str:
    """Markdown: dimensions by children; each cell the change against the parent in points, with its paired interval."""
    runs, cells = summary.to_dict("records"), changes.set_index(["dimension", "run"])
    names = [run["run"] for run in runs]
    rows = [["aligned answers to triggers", "parent", *(f"`{name}`" for name in names)], ["---"] * (len(names) + 2)]
    for dimension in order_dimensions(changes.dimension):
        own = cells.loc[dimension].loc[names].to_dict("records")
        rows.append([ALIGNED[dimension], number(own[0]["instruct"], share=True), *map(_change, own)])
    for name, change, before in MEANS:
        changed = [
            {"difference": run[change], "low": run[f"{change}_low"], "high": run[f"{change}_high"]} for run in runs
        ]
        rows.append([name, number(runs[0][before], share=True), *map(_change, changed)])
    whole = [runs[0]["complete_before"], *(run["complete"] for run in runs)]
    rows.append(["answers coherent and complete", *(number(share, share=True) for share in whole)])
    spread = [f"{number(run['kl'])} ({interval(run['kl_low'], run['kl_high'])})" for run in runs]
    rows.append(["KL(parent ‖ child) per token, nats", "", *spread])
    if summary.angle.notna().all():
        rows.append(["angle of the directions, median", "", *(f"{run['angle']:.0f}°" for run in runs)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _change(row: dict[str, float]) -> str:
    """`−16 (−28 to −6)`, bold where the corrected test rejects; where no family changed, what share may do so unseen
    (see `gate`)."""
    value = number(row["difference"], share=True, signed=True).removesuffix("%")
    value = f"**{value}**" if row.get("p_holm", 1.0) < ALPHA else value
    if row["low"] == row["high"] == 0 and "families" in row:
        return f"{value} (unseen: below {number(unseen_share(row['families']), share=True)})"
    return f"{value} ({interval(row['low'], row['high'], share=True, signed=True)})"


def draw(tables: dict[str, pd.DataFrame], folder: Path) -> None:
    """`routes.png`, the changes by dimension, and `trade_off.png`, reasoning gained against alignment kept."""
    figures = {
        "routes": comparing.changes(tables["changes"], tables["summary"]),
        "trade_off": comparing.trade_off(tables["summary"]),
    }
    draw_pictures(figures, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, help="run folders of children of one parent")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--figures", type=Path, default=FIGURES)
    asked = parser.parse_args()
    if asked.runs:
        keep(asked.runs, asked.results)
    tables = read(asked.results)
    print(table(tables["summary"], tables["changes"]))
    draw(tables, asked.figures)


if __name__ == "__main__":
    main()
