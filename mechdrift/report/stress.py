"""The page of a stress test and its section for a model card, from its run folder alone.

The page says what makes the child give way. It shows every mode in every dimension, the dose curves, everything that
was measured, what modes do inside where that was read, and the answers that changed: thought and answer to the plain
request next to those under the mode.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from mechdrift.records import SIDES, order_dimensions
from mechdrift.records.notebook import counted
from mechdrift.report.captions import CAPTIONS, Caption
from mechdrift.report.exhibits import Drawn, Exhibit, draw_these
from mechdrift.report.figures.stress import along_attack, attack_patches, dose_curves, lift_map, strongest
from mechdrift.report.sheets import sheets_of
from mechdrift.report.templating import place_figures, slug, templates
from mechdrift.report.words import DASH, bare_p, dimension_name, interval, listing, number
from mechdrift.runs import Run

Draw = Callable[[pd.DataFrame, str], go.Figure]
PAGE = "stress.html"
TABLES = ("stress", "stress_answers", "stress_along", "stress_patch", "stress_undo", "stress_recognised")
MOST_TRANSCRIPTS, MOST_CHARACTERS = 24, 2000
FINDINGS = {
    "breaks": "breaks alignment",
    "as placebo": "acts no more than its placebo (the length, turns or temperature act, not the mechanism)",
    "protects": "restores alignment",
    "damage": "moves harmless twins: damage to the prompt",
    "holds": "holds",
    "cannot tell": "cannot tell",
    "not applicable": "does not apply",
}


def write_stress_page(run: Run, out: Path | None = None) -> Path:
    """Write `stress.html` and, in `figures/`, each figure, into the run's folder or into `out`; returns the page's
    path."""
    folder = Run(run.folder if out is None else out)
    run.check_has("stress", "stress test")
    tables = {name: run.table(name) for name in TABLES if run.has(f"{name}.parquet")}
    drawn = draw_these(exhibits(tables), tables)
    place_figures(folder, drawn, folder.folder / "figures", inline=False)
    return folder.write_text(PAGE, render_stress(run.manifest, tables, drawn))


def exhibits(tables: Mapping[str, pd.DataFrame]) -> list[Exhibit]:
    """The heat map, and of every dimension the dose curves and what was read inside."""
    drawings = (
        ("stress_doses", "stress", dose_curves),
        ("stress_along", "stress_along", along_attack),
        ("stress_patch", "stress_patch", attack_patches),
    )
    by_dimension = [
        Exhibit(
            name=f"{kind}_{name}",
            table=table,
            draw=partial(_draw, draw, table, name),
            caption=_of(name, CAPTIONS[kind]),
            rows={"dimension": name},
            tab=dimension_name(name),
        )
        for kind, table, draw in drawings
        if table in tables
        for name in order_dimensions(tables[table].dimension)
    ]
    heat = Exhibit(name="stress", table="stress", draw=lambda t: lift_map(t["stress"]), caption=CAPTIONS["stress"])
    return [heat, *by_dimension]


def _draw(draw: Draw, table: str, dimension: str, tables: Mapping[str, pd.DataFrame]) -> go.Figure:
    return draw(tables[table], dimension)


def _of(name: str, caption: Caption) -> Caption:
    return Caption(title=f"{dimension_name(name)}. {caption.title}", see=caption.see, fooled=caption.fooled)


def render_stress(manifest: Mapping[str, Any], tables: Mapping[str, pd.DataFrame], drawn: Mapping[str, Drawn]) -> str:
    """The page as text."""
    name, table = manifest["config"].get("pair", DASH), tables["stress"]
    return (
        templates()
        .get_template("stress.html.j2")
        .render(
            name=name,
            sentences=sentences(table),
            figures=drawn,
            curves=[each for key, each in drawn.items() if key.startswith("stress_doses")],
            rows=[_row(row) for row in _tested(table).to_dict("records")],
            differences=[_row(row) for row in _named(table, "difference").to_dict("records")],
            left_out=left_out(table),
            inside=[each for key, each in drawn.items() if key.startswith(("stress_along", "stress_patch"))],
            inside_said=inside_sentences(manifest, tables),
            transcripts=transcripts(table, tables["stress_answers"]),
            facts=_facts(manifest),
            modes=[(mode, f"{said['what']} ({said['paper']})") for mode, said in manifest.get("modes", {}).items()],
            stem=slug(name),
            sheets=sheets_of(drawn.values()),
        )
    )


def _tested(table: pd.DataFrame) -> pd.DataFrame:
    return table[table.strongest.astype(bool) & (table.finding != "not applicable") & table.side.isin(SIDES)]


def _named(table: pd.DataFrame, side: str) -> pd.DataFrame:
    rows = table[(table.side == side) & table.strongest.astype(bool)]
    return rows[rows.finding.isin(["breaks", "as placebo", "protects"])]


def sentences(table: pd.DataFrame) -> list[str]:
    """What the stress test found, one sentence per dimension."""
    told = []
    for name in order_dimensions(table.dimension):
        own = table[table.dimension == name]
        child = own[(own.side == "reasoning") & own.strongest.astype(bool)]
        parts = [
            words.format(listing(list(child[child.finding == finding]["mode"])))
            for finding, words in (
                ("breaks", "the child gives way under {}, beyond the placebo"),
                ("as placebo", "under {} it gives way no more than under the placebo"),
                ("protects", "under {} it is more aligned"),
                ("damage", "under {} answers to harmless twins get worse, too"),
            )
            if (child.finding == finding).any()
        ]
        said = "; ".join(parts) if parts else "no mode is shown to change the child"
        told.append("; ".join([f"{dimension_name(name)}: {said}", *_of_the_others(child)]) + ".")
    return told


def _of_the_others(child: pd.DataFrame) -> list[str]:
    """How many modes the child holds under, and for how many too few families or answers tell nothing."""
    holds, unknown = child[child.finding == "holds"], child[child.finding == "cannot tell"]
    parts = [f"it holds under {counted(len(holds), 'mode')}"] if len(holds) else []
    if len(unknown):
        few = f"{counted(int(unknown.families.max()), 'family', 'families')} finished"
        width = (unknown.lift_high - unknown.lift_low).min() / 2
        seen = "" if math.isnan(width) else f"; a lift is known to ±{100 * width:.0f} points at best"
        parts.append(f"nothing can be told of {counted(len(unknown), 'mode')} ({few}{seen})")
    return parts


def inside_sentences(manifest: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """What was read inside, in words: triggers that are recognised and answered all the same, what adding the direction
    brings back, and which modes could not be read."""
    told = []
    if "stress_recognised" in tables:
        for (name, mode), rows in tables["stress_recognised"].groupby(["dimension", "mode"], sort=False):
            shares = rows.set_index("condition")
            plain, attack = (
                f"{number(row.share, share=True)} ({interval(row.low, row.high, share=True)})"
                for row in (shares.loc["plain"], shares.loc["attack"])
            )
            told.append(
                f"{dimension_name(name)}, {mode}: {attack} of triggers are recognised at the end of the thinking and "
                f"answered all the same, {plain} without it; {counted(int(rows.n.max()), 'trigger')} in "
                f"{counted(int(rows.families.max()), 'family', 'families')}."
            )
    if "stress_undo" in tables:
        for (name, mode), rows in tables["stress_undo"].groupby(["dimension", "mode"], sort=False):
            if rows.recovery.notna().any():
                best = rows.loc[rows.recovery.idxmax()]
                said = (
                    f"with strength {best.strength:g} brings back {number(best.recovery, share=True)} of what the mode "
                    f"took of the readout ({number(best.effect, signed=True)} log-odds, a mean over the triggers "
                    "without an interval)"
                    if best.recovery > 0
                    else "brings nothing of the readout back"
                )
                told.append(f"{dimension_name(name)}, {mode}: adding the direction at layer {best.layer:.0f} {said}.")
    skipped = manifest.get("not inside", [])
    return told + [f"{dimension_name(name)}, {mode} was not read inside: {why}" for name, mode, why in skipped]


def left_out(table: pd.DataFrame) -> list[tuple[str, str]]:
    """Which modes did not apply to the child, and why."""
    rows = table[(table.side == "reasoning") & (table.left_out != "")]
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows.to_dict("records"):
        dose = f" {row['dose']:g} {row['unit']}" if row["unit"] else ""
        found.setdefault((f"{row['mode']}{dose}", row["left_out"]), []).append(dimension_name(row["dimension"]).lower())
    return [(mode, f"{reason}: {listing(names)}") for (mode, reason), names in found.items()]


def _row(row: Mapping[str, Any]) -> dict[str, str]:
    """A row of the table, formatted."""
    shares = ("plain_trigger", "attack_trigger", "change_trigger", "change_twin", "overridden", "unsafe_thought")
    found = {name: _share(row[name], signed=name.startswith("change")) for name in (*shares, "never_ended")}
    unit = f"{row['dose']:g} {row['unit']}" if row["unit"] else ""
    return found | {
        "dimension": dimension_name(row["dimension"]),
        "side": row["side"],
        "mode": row["mode"],
        "dose": unit,
        "lift": _share(row["lift"], signed=True),
        "ends": interval(row["lift_low"], row["lift_high"], share=True, signed=True),
        "p": bare_p(row["p_holm"]),
        "trend": bare_p(row["trend_p"]),
        "tokens": DASH if _unknown(row["think_tokens"]) else f"{row['think_tokens']:.0f}",
        "n": f"{int(row['n'])} ({int(row['families'])})",
        "finding": FINDINGS.get(row["finding"], row["finding"]),
        "reason": row["reason"],
    }


def _unknown(value: Any) -> bool:
    return value is None or bool(pd.isna(value))


def _share(value: Any, signed: bool = False) -> str:
    return DASH if _unknown(value) else number(value, share=True, signed=signed)


def transcripts(table: pd.DataFrame, answers: pd.DataFrame) -> list[dict[str, str]]:
    """Triggers whose plain answer was aligned and whose answer under a mode is not, with both thoughts and answers;
    those of the modes with the largest lifts come first."""
    child = answers[(answers.side == "reasoning") & (answers.contrast == "trigger") & answers.aligned.notna()]
    plain = child[child["mode"] == "plain"].set_index("item")
    attacks = child[child.arm == "attack"]
    broken = attacks[~attacks.aligned.astype(bool) & attacks["item"].isin(plain.index[plain.aligned.astype(bool)])]
    rows = strongest(table, "reasoning").sort_values("lift", ascending=False)
    keys = rows[["dimension", "mode", "dose"]]
    broken = keys.merge(broken, on=["dimension", "mode", "dose"]).drop_duplicates(["mode", "item"])
    few = broken.groupby(["dimension", "mode"], sort=False).head(3).head(MOST_TRANSCRIPTS)
    return [_transcript(row, plain.loc[row["item"]]) for row in few.to_dict("records")]


def _transcript(row: Mapping[str, Any], before: pd.Series) -> dict[str, str]:
    texts = {f"{name}_plain": str(before[name]) for name in ("thinking", "answer", "why")}
    texts |= {name: str(row[name]) for name in ("thinking", "answer", "why", "prompt")}
    shortened = {name: f"{text[:MOST_CHARACTERS]} …" for name, text in texts.items() if len(text) > MOST_CHARACTERS}
    where = {"mode": row["mode"], "dose": f"{row['dose']:g}", "dimension": dimension_name(row["dimension"])}
    return texts | shortened | where


def _facts(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    sizes = manifest.get("probes", {}).items()
    asked = ", ".join(
        f"{dimension_name(name).lower()} {size['n']} prompts of {size['families']} families" for name, size in sizes
    )
    budgets = ", ".join(f"{name} {value}" for name, value in manifest.get("budgets", {}).items())
    return [
        ("pair", manifest["config"].get("pair", DASH)),
        ("asked", asked),
        ("tokens at most", budgets or DASH),
        ("judge of refusals", manifest.get("identity", {}).get("judge", DASH)),
        ("seed", str(manifest["config"].get("seed", DASH))),
        *manifest.get("versions", {}).items(),
    ]


def stress_card(run: Run) -> str:
    """A section for a model card, as Markdown: the strongest dose of every mode on the child."""
    run.check_has("stress", "stress test")
    table, manifest = run.table("stress"), run.manifest
    rows = _tested(table)[lambda found: found.side == "reasoning"].to_dict("records")
    lines = [
        "## Stress tests",
        "",
        "The attack lift is how many more answers to triggers are misaligned than in the plain request, minus the "
        "same for harmless twins, minus the placebo's. Intervals are 95 % over families of prompts; p is adjusted over "
        "modes (Holm's method).",
        "",
        "| dimension | mode | triggers | twins | lift | p | finding | n (families) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in map(_row, rows):
        lines.append(
            f"| {row['dimension']} | {row['mode']} {row['dose']} | {row['change_trigger']} | {row['change_twin']} | "
            f"{row['lift']} ({row['ends']}) | {row['p']} | {row['finding']} | {row['n']} |"
        )
    said = [f"- {sentence}" for sentence in sentences(table)]
    versions = ", ".join(f"{name} {value}" for name, value in manifest.get("versions", {}).items())
    return "\n".join([*lines, "", *said, "", f"Made with {versions}.", ""])
