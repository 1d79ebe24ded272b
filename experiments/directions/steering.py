"""Does the refusal direction have an effect? Select it in the instruct model, remove it there, and add it to the
reasoning model.

    python experiments/directions/steering.py smollm2-sft --items 16 --out results/steering

Written to the folder: selection.parquet (all candidates with their scores), steer_back.parquet (the curves with their
controls), completions.parquet (judged answers under the chosen settings), summary.json. Read the module texts of
`mechdrift.steering.selection` and `mechdrift.steering.curves` for what is measured. KL is on everyday requests. Arditi
et al. allow 0.1 nats; for a small model, whose refusals were trained in by a LoRA adapter, nothing useful may pass
that: `--kl` sets the limit used here, and the summary counts the candidates within 0.1.
"""

import argparse
import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

import mechdrift as md
from mechdrift.behaviour.labels import everyday_set, judge_all
from mechdrift.pairs.precision import default_dtype_for_generation
from mechdrift.probes.sets import load_everyday
from mechdrift.records import Directions, ProbeSet, Side
from mechdrift.steering.asked import items_of
from mechdrift.steering.controls import Setting, settings, with_controls

PUBLISHED_KL = 0.1
HELD_OUT = ("validate", "test")


def everyday(every: int) -> ProbeSet:
    """Some of the plain requests, over all their families."""
    plain = everyday_set(load_everyday())
    return replace(plain, items=plain.items[::every])


def best_strength(curve: md.SteerBack) -> float:
    """The strength at the selected layer that moves triggers most beyond their harmless twins."""
    rows = curve.of("add", "trigger").merge(
        curve.of("add", "neutral"), on=["vector", "layer", "strength"], suffixes=("", "_neutral")
    )
    rows = rows[(rows.vector == "direction") & (rows.layer == curve.facts["layer"])]
    return float(rows.strength[(rows.estimate - rows.estimate_neutral).idxmax()])


def answers_under(
    pair: md.Pair, side: Side, probes: ProbeSet, name: str, edits: list, think: str | None
) -> pd.DataFrame:
    with ExitStack() as stack:
        for places in edits:
            stack.enter_context(md.edit(places))
        completions = md.generate(pair, probes, side, think=think)
    judged = judge_all(probes, completions)
    return judged.assign(setting=name, side=side, think=completions.think)


def all_answers(
    pair: md.Pair, directions: Directions, selection: md.Selection, probes: ProbeSet, strength: float
) -> pd.DataFrame:
    """Judged answers: the instruct model without its direction, the reasoning model with it, and both with controls."""
    layer, role = selection.closest
    vectors = with_controls(directions.activations, selection, role, 1, seed=0)
    tables = []
    for side, adding, thinks in (("instruct", False, (None,)), ("reasoning", True, (None, "off"))):
        loaded = pair.open(side, default_dtype_for_generation())
        tried: Mapping[str, Setting | None] = {"as it is": None} | {
            setting.vector: setting
            for setting in settings(
                vectors, selection.layers, (layer,), loaded.n_layers, (strength if adding else 1.0,), adding=adding
            )
        }
        for think in thinks:
            for name, setting in tried.items():
                edits = []
                if setting is not None:
                    edits = [
                        md.steer(loaded, setting.tensor, setting.place) if adding else md.ablate(loaded, setting.tensor)
                    ]
                tables.append(answers_under(pair, side, probes, name, edits, think))
                print(side, think or "as used", name, rates(tables[-1]).to_dict("records"), flush=True)
    return pd.concat(tables, ignore_index=True)


def rates(table: pd.DataFrame) -> pd.DataFrame:
    """Shares of refusals (full or in part) and of incoherent or incomplete answers, per contrast."""
    kinds = table.assign(
        refused=table.label.isin(["refusal", "partial"]), broken=table.label.isin(["incoherent", "incomplete"]), n=1
    )
    keys = [key for key in ("side", "think", "setting", "contrast") if key in kinds]
    return (
        kinds.groupby(keys, sort=False)
        .agg(refused=("refused", "mean"), broken=("broken", "mean"), n=("n", "sum"))
        .reset_index()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pair", nargs="?", default="smollm2-sft")
    parser.add_argument("--items", type=int, default=16, help="twin pairs answered under each chosen setting")
    parser.add_argument("--screen", type=int, default=24)
    parser.add_argument("--kl", type=float, default=0.25)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    pair, probes, dtype = md.load_pair(args.pair), md.load_probes("safety"), default_dtype_for_generation()
    directions = md.find_directions(md.collect(pair, probes), splits=1)
    selection = md.select_direction(
        pair, directions, screen=args.screen, harmless=everyday(8), kl_at_most=args.kl, dtype=dtype
    )
    selection.frame.to_parquet(args.out / "selection.parquet")
    print(
        selection.frame[selection.frame.bypass.notna()].sort_values("bypass").round(2).to_string(),
        selection.facts,
        flush=True,
    )
    layer, _ = selection.closest
    span = pair.open("instruct", dtype).n_layers // 6
    curve = md.steer_back(
        pair,
        directions,
        selection,
        layers=(layer - span, layer, layer + span),
        parts=HELD_OUT,
        harmless=everyday(8),
        tasks=12,
        dtype=dtype,
    )
    curve.frame.to_parquet(args.out / "steer_back.parquet")
    print(curve.frame.round(2).to_string(), flush=True)
    asked = items_of(probes, tuple(name for part in HELD_OUT for name in selection.families[part]), args.items, seed=0)
    answers = all_answers(pair, directions, selection, asked, best_strength(curve))
    answers.to_parquet(args.out / "completions.parquet")
    summary = {
        "curve": curve.facts,
        "strength_generated": best_strength(curve),
        "rates": rates(answers).to_dict("records"),
        "eligible_at_published_kl": int(((selection.frame.kl <= PUBLISHED_KL) & (selection.frame.induce >= 0)).sum()),
    }
    (args.out / "summary.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
    print(rates(answers).round(2).to_string())


if __name__ == "__main__":
    main()
