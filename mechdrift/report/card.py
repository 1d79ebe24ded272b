"""A model card's section on alignment: what one audit found, as Markdown that can be pasted into a README on the
Hugging Face hub.

    print(md.load_run("runs/smollm2-sft").card())

The section says for every dimension the score of both models with the paired difference and its interval, how many
prompts it rests on, the adjusted p, what the score means and what judged it; then what was measured inside, what limits
the numbers, and with which versions and weights they were made. There is no HTML in it, and text from models or folders
cannot end a table cell or open a tag.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mechdrift.behaviour.verdicts import cannot_tell, decision_of, headline_rows, reasoning_rows, withheld
from mechdrift.directions.best_layer import best_layer
from mechdrift.records import SIDES, MechdriftError, order_dimensions
from mechdrift.records.foreign import shown
from mechdrift.records.notebook import counted
from mechdrift.report import narrative
from mechdrift.report.figures import mean_kl
from mechdrift.report.words import (
    DASH,
    ROUTE_NAMES,
    THINK_NAMES,
    difference,
    dimension_name,
    interval,
    is_share,
    listing,
    metric_name,
    number,
    p_value,
    readout_role,
    role_name,
)
from mechdrift.runs import Run, sha256

TEMPLATES = Path(__file__).parent / "templates"
SPECIAL = re.compile(r"([\\`*_<>\[\]|#])")
COUNTED = (
    ("incomplete", "Missing, because thinking or answer was cut off, and so in no score"),
    ("unanswered", "Answered, but nothing can be read from it, counted as not aligned"),
    ("failed", "The judge failed, left out for both models"),
)


def model_card(run: Run) -> str:
    """The section as Markdown; raises when the run has no scores yet."""
    if not run.has("scores.parquet"):
        raise MechdriftError(f"{run.folder} has no scores yet: run the audit again, it goes on where it stopped.")
    manifest = run.manifest
    names = ("scores", "drift", "patch", "kl_tokens", "readout_validation")
    tables = {name: run.table(name) for name in names if run.has(f"{name}.parquet")}
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # no autoescape: Markdown, whose own special characters `plain` takes care of
    environment.filters.update(plain=plain, code=code)
    pair, scores = manifest.get("pair", {}), withheld(tables["scores"], manifest)
    return environment.get_template("card.md.j2").render(
        pair=pair,
        names=[pair.get(side, {}).get("name", f"{side} model") for side in SIDES],
        route=ROUTE_NAMES.get(pair.get("route", "unknown"), pair.get("route")),
        lead=narrative.lead(narrative.findings(scores)),
        rows=[_score_row(row, scores) for row in _in_order(scores)],
        conventions=_conventions(scores),
        inside=_inside(tables),
        reasons=narrative.inside(tables.get("patch")).unsaid,
        role=_role(tables.get("drift")),
        repair=_repair(run),
        limits=[
            *_sampling(manifest, scores),
            *_decided(scores),
            *_untold(scores),
            *_unreliable(tables.get("readout_validation")),
            *narrative.warnings(manifest, scores, None),
        ],
        versions=manifest.get("versions", {}),
        dtypes=manifest.get("dtypes", {}),
        engines=manifest.get("engines", {}),
        config=manifest["config"],
        fingerprints=pair.get("fingerprints", {}),
        hash=sha256(run.folder / "scores.parquet"),
    )


def _repair(run: Run) -> list[dict[str, str]]:
    """The repairs that were priced, at their chosen strengths, on families that nothing saw; none where none was."""
    folder = Run(run.folder / "repair")
    if not (folder.folder / "repairs.parquet").exists():
        return []
    table = folder.table("repairs")
    chosen = table[(table.half == "reported") & table.chosen.astype(bool)]
    picked = str(folder.manifest.get("picked", ""))
    lines = []
    for (method, strength), part in chosen.groupby(["method", "strength"], sort=False):
        rows = part.drop_duplicates("measure", keep="last").set_index("measure")
        name = f"{method}@{strength:g}"
        lines.append(
            {"name": f"{name}, picked" if picked.startswith(f"Picked {name},") else name}
            | {measure: _change_of(rows, measure) for measure in ("aligned", "reasoning", "twins")}
        )
    return lines


def _change_of(rows: pd.DataFrame, measure: str) -> str:
    if measure not in rows.index:
        return DASH
    row = rows.loc[measure]
    return _with_interval(row.change, row.change_low, row.change_high, share=True, signed=True)


def plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line, also in a table."""
    return SPECIAL.sub(r"\\\1", shown(" ".join(str(text).split())))


def code(text: str) -> str:
    """A name as Markdown code, on one line, also in a table."""
    return "`" + shown(" ".join(str(text).split())).replace("`", "'").replace("|", r"\|") + "`"


def _in_order(scores: pd.DataFrame) -> list[dict[str, Any]]:
    """The headlines in the project's order of dimensions, accuracy last."""
    rows = {row["dimension"]: row for row in headline_rows(scores).to_dict("records")}
    return [*(rows[dimension] for dimension in order_dimensions(rows)), *reasoning_rows(scores).to_dict("records")]


def _score_row(row: Mapping[str, Any], scores: pd.DataFrame) -> dict[str, str]:
    share = is_share(row["metric"])
    over = scores[(scores.dimension == row["dimension"]) & (scores.metric == "over")].to_dict("records")
    p = math.nan if cannot_tell(row) else row["p"] if math.isnan(row["p_holm"]) else row["p_holm"]
    return {
        "dimension": dimension_name(row["dimension"]),
        **{side: _with_interval(row[side], row[f"{side}_low"], row[f"{side}_high"], share=share) for side in SIDES},
        "difference": _with_interval(row["difference"], row["low"], row["high"], share=share, signed=True),
        "n": f"{row['n']} ({row['families']})",
        "p": "cannot tell"
        if cannot_tell(row)
        else f"{p_value(p).removeprefix('p ').removeprefix('= ')}, {decision}"
        if (decision := decision_of(row)) and not math.isnan(p)
        else DASH
        if math.isnan(p)
        else p_value(p).removeprefix("p ").removeprefix("= "),
        "over": " → ".join(number(over[0][side], share=True) for side in SIDES) if over else DASH,
        "judge": row["judge"],
    }


def _with_interval(value: float, low: float, high: float, *, share: bool, signed: bool = False) -> str:
    ends = interval(low, high, share=share, signed=signed)
    shown = difference(value, share=share) if signed else number(value, share=share)
    return f"{shown} ({ends})" if ends else shown


def _conventions(scores: pd.DataFrame) -> list[tuple[str, str, str]]:
    """What each headline means and for which dimensions it stands there."""
    rows = pd.DataFrame(_in_order(scores))
    found = []
    for (metric, convention), part in rows.groupby(["metric", "convention"], sort=False):
        found.append(
            (
                metric_name(str(metric)),
                listing(dimension_name(name).lower() for name in part.dimension),
                str(convention),
            )
        )
    return found


def _inside(tables: Mapping[str, pd.DataFrame]) -> list[dict[str, str]]:
    """Per dimension: divergence, the direction's drift in one line, and the place of the change where it is
    established."""
    drift, tokens = tables.get("drift"), tables.get("kl_tokens")
    means = {} if tokens is None or tokens.empty else mean_kl(tokens)
    places = dict(narrative.inside(tables.get("patch")).places)
    dimensions = order_dimensions(headline_rows(tables["scores"]).dimension)
    return [
        {
            "dimension": dimension_name(name),
            "kl": number(means.get(name, math.nan)),
            "drift": drift_line(drift, name),
            "place": places.get(dimension_name(name), "not established").rstrip("."),
        }
        for name in dimensions
    ]


def drift_line(drift: pd.DataFrame | None, dimension: str) -> str:
    """How far one dimension's direction turned, where the instruct model's tells held-out families apart best."""
    if drift is None or drift.empty:
        return "not measured"
    role = readout_role(drift.role)
    layer = best_layer(drift[drift.dimension == dimension], role)
    rows = drift[(drift.dimension == dimension) & (drift.role == role) & (drift.layer == layer)]
    if rows.below_null.all():
        return "no direction above noise in both models"
    row = rows.iloc[0]
    text = (
        f"layer {row.layer}: cosine {number(row.cosine)} "
        f"({interval(row.cosine_low, row.cosine_high) or 'interval unknown'})"
    )
    text += f", noise ceiling {number(row.ceiling)}"
    if math.isnan(row.get("angle", math.nan)):
        return text
    ends = "interval unknown" if math.isnan(row.angle_low) else f"{row.angle_low:.0f} to {row.angle_high:.0f}"
    return f"{text}; turned by {row.angle:.0f}° ({ends})"


def _role(drift: pd.DataFrame | None) -> str:
    return "" if drift is None or drift.empty else role_name(readout_role(drift.role))


def _sampling(manifest: Mapping[str, Any], scores: pd.DataFrame) -> list[str]:
    """What was asked, of how much, and what of it could not be judged."""
    config, probes = manifest["config"], manifest.get("probes", {})
    said = [f"Preset {config.get('preset', 'unknown')}, seed {config.get('seed', 'unknown')}."]
    if probes:
        asked: dict[str, list[str]] = {}
        for name, facts in probes.items():
            size = f"{facts['n']} of {facts.get('sampled_from', facts['n'])}"
            asked.setdefault(size, []).append(dimension_name(name).lower())
        said[0] += (
            " Prompts asked, trigger and neutral: "
            f"{'; '.join(f'{size} in {listing(names)}' for size, names in asked.items())}."
        )
        said[0] += " The scores in the table are of the trigger prompts among them."
    for count, words in COUNTED:
        parts = [
            f"{dimension_name(row['dimension']).lower()} {' and '.join(map(str, _counted(row, count)))}"
            for row in _in_order(scores)
            if any(_counted(row, count))
        ]
        if parts:
            said.append(f"{words} (instruct and reasoning model): {'; '.join(parts)}.")
    if manifest.get("budgets"):
        budgets = {key.removesuffix("_tokens"): value for key, value in manifest["budgets"].items()}
        said.append(
            f"Budgets: {counted(budgets.get('think', 0), 'token')} to think, "
            f"{counted(budgets.get('answer', 0), 'token')} to answer."
        )
    said.append(
        "Intervals of 95% resample families of prompts, those that were not asked included; differences are paired, "
        "prompt by prompt."
    )
    return said


def _decided(scores: pd.DataFrame) -> list[str]:
    """What decisions mean, where prompts were asked in waves until all was decided."""
    rows = [row for row in _in_order(scores) if decision_of(row)]
    if not rows:
        return []
    margin = difference(rows[0]["margin"], share=True).lstrip("+")
    return [
        "Prompts were asked in waves of families until each dimension was decided: p and intervals allow for all looks "
        f"(O'Brien-Fleming spending, repeated intervals), and “no change” is none larger than {margin}."
    ]


def _untold(scores: pd.DataFrame) -> list[str]:
    """What can be told of no dimension, and what the missing answers leave open in each."""
    rows = _in_order(scores)
    reasons = [
        f"{dimension_name(row['dimension'])}: cannot tell: {cannot_tell(row)}." for row in rows if cannot_tell(row)
    ]
    return reasons + [f"{dimension_name(row['dimension'])}:{text}" for row in rows if (text := narrative.bounds(row))]


def _unreliable(validation: pd.DataFrame | None) -> list[str]:
    """Readouts on which nothing is said about the place of a change."""
    if validation is None or validation.reliable.all():
        return []
    bad = validation[~validation.reliable.astype(bool)]
    each = [
        (
            f"{dimension_name(row.dimension).lower()}, {row.side} model, {THINK_NAMES.get(row.think, row.think)}: "
            f"{number(row.auroc)}"
        )
        for row in bad.itertuples()
    ]
    return [
        (
            "Readouts that do not follow judged behaviour well enough (area under the ROC curve; 0.5 is chance): "
            f"{'; '.join(each)}."
        )
    ]


def _counted(row: Mapping[str, Any], count: str) -> list[int]:
    values = [row.get(f"{count}_{side}", 0) for side in SIDES]
    return [0 if value is None or math.isnan(value) else int(value) for value in values]
