"""A section on alignment for a model card: what one audit found, as Markdown for a README on the Hugging Face hub.

    print(md.load_run("runs/smollm2-sft").card())

For every dimension, the section has the scores of both models, the paired difference with its interval, the number of
prompts, the adjusted p, what the score means and what judged it. Below stand what was measured inside, what limits the
numbers, and with which versions and weights they were made. It holds no HTML, and text from models or folders cannot
end a table cell or open a tag.
"""

import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mechdrift.behaviour.verdicts import withheld
from mechdrift.records import SIDES, MechdriftError
from mechdrift.records.foreign import shown
from mechdrift.report.card_limits import decisions, sampling, unknowns, untrusted_readouts
from mechdrift.report.card_rows import conventions_of, drift_role, in_order, inside_rows, repair_rows, score_row
from mechdrift.report.narrative.changes import findings
from mechdrift.report.narrative.places import find_places
from mechdrift.report.narrative.reader_warnings import reader_warnings
from mechdrift.report.narrative.summary import lead
from mechdrift.report.words import ROUTE_NAMES
from mechdrift.runs import Run, sha256

TEMPLATES = Path(__file__).parent / "templates"
SPECIAL = re.compile(r"([\\`*_<>\[\]|#])")


def model_card(run: Run) -> str:
    """An audit's section for a model card, as Markdown.

    Raises:
        MechdriftError: where the run has no scores yet.

    Example:
        >>> print(model_card(run).splitlines()[0])
        ## Alignment after reasoning training
    """
    if not run.has("scores.parquet"):
        raise MechdriftError(f"{run.folder} has no scores yet: run the audit again, it goes on where it stopped.")
    manifest = run.manifest
    names = ("scores", "drift", "patch", "kl_tokens", "readout_validation")
    tables = {name: run.table(name) for name in names if run.has(f"{name}.parquet")}
    pair, scores = manifest.get("pair", {}), withheld(tables["scores"], manifest)
    return (
        _environment()
        .get_template("card.md.j2")
        .render(
            pair=pair,
            names=[pair.get(side, {}).get("name", f"{side} model") for side in SIDES],
            route=ROUTE_NAMES.get(pair.get("route", "unknown"), pair.get("route")),
            lead=lead(findings(scores)),
            rows=[score_row(row, scores) for row in in_order(scores)],
            conventions=conventions_of(scores),
            inside=inside_rows(tables),
            reasons=find_places(tables.get("patch")).unsaid,
            role=drift_role(tables.get("drift")),
            repair=repair_rows(run),
            limits=[
                *sampling(manifest, scores),
                *decisions(scores),
                *unknowns(scores),
                *untrusted_readouts(tables.get("readout_validation")),
                *reader_warnings(manifest, scores, None),
            ],
            versions=manifest.get("versions", {}),
            dtypes=manifest.get("dtypes", {}),
            engines=manifest.get("engines", {}),
            config=manifest["config"],
            fingerprints=pair.get("fingerprints", {}),
            hash=sha256(run.folder / "scores.parquet"),
        )
    )


def _environment() -> Environment:
    """The card's template. Autoescape is for HTML; here `plain` escapes the special characters of Markdown."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(plain=plain, code=code)
    return environment


def plain(text: str) -> str:
    """Text on one line that Markdown shows literally, also in a table."""
    return SPECIAL.sub(r"\\\1", shown(" ".join(str(text).split())))


def code(text: str) -> str:
    """A name on one line as Markdown code, also in a table."""
    return "`" + shown(" ".join(str(text).split())).replace("`", "'").replace("|", r"\|") + "`"
