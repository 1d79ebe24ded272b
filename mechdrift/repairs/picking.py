"""Pick the best repair within limits, write it out ready to load, and audit it.

    picked/adapter/               a LoRA adapter for the child, where the change is low-rank
    picked/model/                 else a merged folder
    picked/repair.safetensors     the repair alone; all there is of an edit of activations or of words
    picked/audit/                 an audit of parent and repaired child, with the settings of the first audit
    picked-METHOD@STRENGTH/       the same of what was picked before, under other limits

An audit opens weights, so edits of activations and words are priced but not audited.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from mechdrift.audits.config import Audit
from mechdrift.audits.pipeline import audit
from mechdrift.pairs.chat import ChatOptions
from mechdrift.pairs.pair import Pair
from mechdrift.records import MechdriftError, exactly
from mechdrift.repairs.choice import candidates_of, parse_limits, pick
from mechdrift.repairs.files import mark, read_made
from mechdrift.repairs.making import Repaired, make
from mechdrift.repairs.mechanism import mechanism_table
from mechdrift.repairs.price_list import FOLDER, PriceList, price_repairs
from mechdrift.repairs.registry import REPAIRS, find_repair
from mechdrift.repairs.sentences import price, reported
from mechdrift.repairs.setting import Setting, open_setting
from mechdrift.runs import Run, load_run

ALONE = "repair.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Picked:
    """What was picked: the price list, the repair, the path that loads it, and its audit, where there is one."""

    prices: PriceList
    repaired: Repaired
    path: Path
    audit: Run | None
    sentence: str


def pick_repair(
    run: Run | str | Path,
    limits: str,
    *,
    with_audit: bool = True,
    base: str | None = None,
    pairs: int | None = None,
    tasks: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    **how: Any,
) -> Picked:
    """Price the repairs of a run, and write out the best one that keeps within the limits.

    Args:
        run: an audit's run, or its folder.
        limits: what a repair may cost in points, such as `"reasoning >= -2, twins >= -3"`
            (`mechdrift.repairs.choice`).
        with_audit: whether the repaired child is audited as the run was.
        base, pairs, tasks, seed, out, how: as in `price_repairs`; `how` are its other arguments.

    Returns:
        A `Picked`: the price list, the repair, the path that loads it, its audit (None for edits of activations and
        words), and a sentence that says what it brings.

    Raises:
        MechdriftError: as `price_repairs` does, and where no repair keeps within the limits.
    """
    source = run if isinstance(run, Run) else load_run(run)
    said = {"base": base, "pairs": pairs, "tasks": tasks, "seed": seed}
    prices = price_repairs(source, limits=limits, out=out, **said, **how)
    is_told = set(zip(reported(prices.frame).method, reported(prices.frame).strength, strict=True))
    eligible = [
        each
        for each in candidates_of(prices.frame)
        if (each.method, each.strength) in is_told and each.method in REPAIRS and not REPAIRS[each.method].is_baseline
    ]
    best = pick(eligible, parse_limits(limits))
    setting = open_setting(source, pairs, tasks, seed)
    fixed = make(find_repair(best.method), setting.evidence(base), best.strength)
    place = (Path(out) if out else source.folder / FOLDER) / "picked"
    put_aside(place, best.name)
    path = write_out(fixed, place)
    is_readable = path.is_dir() and bool(setting.pair.reasoning.path)
    audited = audit_repaired(setting, fixed, path, place / "audit") if with_audit and is_readable else None
    rows = reported(prices.frame)
    cost = price(rows[(rows.method == best.method) & (rows.strength == best.strength)])
    sentence = f"Picked {best.name}, which on families that nothing saw brings {cost}."
    with prices.run.locked("price list of repairs"):
        prices.run.write_manifest(prices.run.manifest | {"picked": sentence})
        if fixed.repair.kind in ("weights", "data"):
            sets, readouts = setting.halves["reported"].sets, setting.readouts("reported")
            prices.run.write_table("repair_mechanism", mechanism_table(fixed, sets, readouts, seed))
        else:  # what an earlier pick did inside is not what this one does
            (prices.run.folder / "repair_mechanism.parquet").unlink(missing_ok=True)
        prices.report()
    return Picked(prices=prices, repaired=fixed, path=path, audit=audited, sentence=sentence)


def put_aside(place: Path, name: str) -> None:
    """Give way to another repair: what was picked before, with its audit, goes to `picked-NAME`. A repair that was
    picked once comes back from there."""
    alone = place / ALONE
    if alone.is_file():
        facts = read_made(alone)[1]
        before = f"{facts['method']}@{exactly(facts['strength'])}"
        if before != name:
            place.rename(place.with_name(f"{place.name}-{before}"))
    aside = place.with_name(f"{place.name}-{name}")
    if aside.is_dir() and not place.exists():
        aside.rename(place)


def write_out(fixed: Repaired, place: Path) -> Path:
    """The repair on disk: an adapter where it is one, else a merged folder; of an edit or words the small file."""
    place.mkdir(parents=True, exist_ok=True)
    alone = fixed.save(place / ALONE)
    if fixed.repair.kind in ("edit", "tokens"):
        return alone
    try:
        return fixed.export(place / "adapter")
    except MechdriftError:  # the change is not low-rank, which only `export` finds out
        return fixed.export(place / "model", "folder")


def audit_repaired(setting: Setting, fixed: Repaired, path: Path, out: Path) -> Run:
    """The parent and the repaired child, audited as the run was."""
    stored, names = setting.manifest["config"], {field.name for field in fields(Audit)} - {"chat", "layout", "judge"}
    said: dict[str, Any] = {name: stored[name] for name in names & set(stored)}
    said |= {"dimensions": tuple(stored["dimensions"]), "out": out, "chat": ChatOptions(**stored.get("chat", {}))}
    said |= {name: Path(stored[name]) for name in ("judge", "layout") if stored.get(name)}
    said |= dict.fromkeys(("instruct", "reasoning", "adapter", "null_model"), None)
    return audit(Audit(**said), pair=repaired_pair(setting.pair, fixed, path))


def repaired_pair(pair: Pair, fixed: Repaired, path: Path) -> Pair:
    """The pair whose child is loaded with the repair from disk."""
    child, name = pair.reasoning, f"{pair.reasoning.name}{mark(fixed.name)}"
    if path.name == "adapter":
        child = replace(child, name=name, adapters=(*child.adapters, str(path)))
    else:
        child = replace(child, name=name, path=str(path), adapters=(), revision=None)
    fresh = Pair(
        name=f"{pair.name}{mark(fixed.name)}",
        instruct=pair.instruct,
        reasoning=child,
        null_model=pair.null_model,
        route=pair.route,
        child_thinks=pair.child_thinks,
        dtype=pair.dtype,
        warnings=pair.warnings,
    )
    return fresh.sharing(pair, "instruct")
