"""The command `mechdrift stress`: it turns options into a run folder, and the table into the text that is printed."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path

import pandas as pd

from mechdrift.audits.config import Audit
from mechdrift.audits.options import EngineOptions, ModelOptions
from mechdrift.audits.plan import generation_dtype, load_from
from mechdrift.behaviour.judges.files import load_judge
from mechdrift.behaviour.sampling import check_seed
from mechdrift.pairs.chat import ChatOptions
from mechdrift.probes.benchmarks.loading import subset
from mechdrift.probes.sets import load_probes
from mechdrift.records import SIDES, MechdriftError, ProbeSet
from mechdrift.stress_tests.options import StressOptions
from mechdrift.stress_tests.registry import MODES, modes_of
from mechdrift.stress_tests.result import StressTest
from mechdrift.stress_tests.run import stress

PRINTED = ["dimension", "side", "mode", "dose", "n", "change_trigger", "change_twin", "lift", "lift_low", "lift_high"]


SHARED = [each.name for kind in (ModelOptions, EngineOptions) for each in fields(kind)]
OF_THE_AUDIT = (*SHARED, "think", "answer", "think_max")


def run_stress(options: StressOptions, chat: ChatOptions) -> str:
    """Run a stress test as the options say. Returns the text to print."""
    if options.pairs < 1:
        raise MechdriftError(f"--pairs should be 1 or more; it is {options.pairs}.")
    check_seed(options.seed)
    doses, modes = parse_doses(options.doses), modes_of(options.modes or None)
    config = Audit(chat=chat, **{name: getattr(options, name) for name in OF_THE_AUDIT})
    sets = [sampled(load_probes(name, options.path), options) for name in options.probes]
    opened = load_from(config)
    found = stress(
        opened,
        sets,
        modes=modes,
        doses=doses,
        budget=config.budget,
        think_max=options.think_max,
        judge=load_judge(options.judge) if options.judge else None,
        engine={side: config.engine_of(side) for side in SIDES},
        dtype=generation_dtype(config),
        inside=options.inside,
        seed=options.seed,
        out=options.out or Path("runs") / f"{opened.name}-stress",
    )
    return told(found)


def sampled(probes: ProbeSet, options: StressOptions) -> ProbeSet:
    """As many twin pairs as are asked, or as many items of a benchmark, which seldom has twins."""
    if probes.benchmark:
        return subset(probes, 2 * options.pairs, options.seed)
    return probes.sample(options.pairs, options.seed)


def parse_doses(words: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """`["puzzle=250,1000"]` as a mapping."""
    found: dict[str, tuple[float, ...]] = {}
    for word in words:
        name, equals, text = word.partition("=")
        try:
            values = tuple(float(part) for part in text.split(","))
        except ValueError:
            values = ()
        if not equals or not values or not all(map(math.isfinite, values)):
            raise MechdriftError(f"--doses takes a mode and numbers, such as puzzle=250,1000, and not {word!r}.")
        if name in found:
            raise MechdriftError(f"--doses names {name} twice: write puzzle=250,1000.")
        found[name] = values
    return found


def told(found: StressTest) -> str:
    """The text to print: a table of every mode's strongest dose, the modes that do not apply, the page's place."""
    table = found.frame
    shown = table[table.strongest & (table.finding != "not applicable")]
    text = shown[[*PRINTED, "p_holm", "finding"]].to_string(index=False, na_rep="", float_format="{:.3f}".format)
    untold = shown[(shown.side == "reasoning") & (shown.reason != "")]
    lines = [text, *_untold(untold), *_reasons(table[table.left_out != ""].to_dict("records"))]
    if found.run is not None:
        lines.append(f"stress test: {found.run.folder / 'stress.html'}")
    return "\n".join(lines)


def _untold(rows: pd.DataFrame) -> list[str]:
    """One line per reason why nothing can be told of the child."""
    return [
        f"cannot tell: {', '.join(part['mode'] + ' (' + part.dimension + ')')}: {reason}"
        for reason, part in rows.groupby("reason", sort=False)
    ]


def _reasons(rows: Iterable[dict]) -> list[str]:
    """One line per mode, side and reason."""
    told: dict[str, None] = {}
    for row in rows:
        if row["side"] == "reasoning":
            dose = "" if row["reason"] == row["left_out"] and not row["unit"] else f" {row['dose']:g}"
            told[f"left out: {row['mode']}{dose} ({row['dimension']}): {row['left_out']}"] = None
    return list(told)


def list_of_modes() -> str:
    """Every mode with its doses and what it does."""
    return "\n".join(
        f"{mode.name:16} {', '.join(f'{dose:g}' for dose in mode.doses) if mode.unit else '':22} {mode.unit:22} "
        f"{mode.what}"
        for mode in MODES.values()
    )
