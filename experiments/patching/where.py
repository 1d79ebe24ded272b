"""Where does the erosion enter: is it attention or MLP, one place or everywhere, in the answer or already in the
thinking?

    python experiments/patching/where.py RUN --prompts 12 --out experiments/patching/where-smollm2-sft.md

RUN is a finished audit; its answers calibrate the readouts, its pair is loaded again. For every dimension, on trigger
prompts:

    thinking   the readout's change on the four paths of {instruct, reasoning} weights x {empty block, the child's
               thinking} (from the run)
    gap        instruct minus reasoning, both reading the same tokens: an empty block, and the child's own thinking
    grafts     runs of three blocks, whole, attention only, MLP only, both ways; significance is family-wise over all of
               them
    half       the fewest runs of blocks, from below, that restore half of the gap together, beside how much the best
               one does alone
    parts      the decomposition of the patch at the last template token: activations, thinking, both

`--blocks off` leaves out what is measured after the child's thinking, the longer half of the work. For a null model,
which does not think, it leaves out nothing. The grids go to a parquet file beside the text.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import mechdrift as md
from mechdrift.activations.readouts import Readout
from mechdrift.audits.answers import RunAnswers, reopen
from mechdrift.records import SIDES, Completions, PatchGrid, ProbeSet

MODULES = ("layer", "attn", "mlp")
STEP = 3
WAYS = (SIDES, SIDES[::-1])
BLOCKS = {"off": "empty block", "own": "after the child's thinking"}


def thought_about(
    answers: RunAnswers, name: str, prompts: int, seed: int, thinks: bool
) -> tuple[ProbeSet, dict[str, Completions]]:
    """Triggers about which the child has finished thinking, if it thinks at all, and both models' completions."""
    rows, probes = answers.rows(name, "reasoning"), answers.sets[name]
    kept = [
        item
        for item in probes
        if item.is_trigger and (not thinks or (rows.closed[item.id] and len(rows.thinking_ids[item.id])))
    ]
    chosen = np.random.default_rng(seed).permutation(len(kept))[:prompts]
    some = replace(probes, items=tuple(kept[i] for i in sorted(chosen)))
    return some, {side: answers.completions(name, side) for side in SIDES}


def grids_of(
    pair: md.Pair, readout: Readout, probes: ProbeSet, answers: dict[str, Completions], blocks: Sequence[str]
) -> Iterator[tuple[str, PatchGrid]]:
    """Grafts in both directions, in both think modes, on the same tokens."""
    layers = range(0, pair.open("instruct").n_layers, STEP)
    for block in blocks:
        for donor, recipient in WAYS:
            think = "off" if block == "off" else "own" if recipient == "reasoning" else "donor"
            common = {
                "donor": donor,
                "recipient": recipient,
                "think": think,
                "answers": answers,
                "readout": readout,
                "layers": layers,
            }
            yield block, md.graft(pair, probes, modules=MODULES, windows="to_next", **common)
            if donor == "instruct":
                tops = [*layers[1:], layers[-1] + STEP - 1]
                yield block, md.graft(pair, probes, windows="up_to", **common | {"layers": tops})


def row_of(name: str, block: str, grids: list[PatchGrid]) -> dict[str, object]:
    """What the grids of one think mode say."""
    there, below, back = grids
    found = there.inference().frame
    best = found.loc[found.effect.abs().idxmax()]
    gap, error = there.gap.mean(), there.gap.std(ddof=1) / np.sqrt(len(there.gap))
    means = {role: there.effect[:, :, i].mean(axis=0) for i, role in enumerate(there.roles)}
    recovered = below.effect[:, :, 0].mean(axis=0) / gap
    half = next((i + 1 for i, share in enumerate(recovered) if share >= 0.5), None)
    both = md.both_ways(there, back)
    return {
        "dimension": name,
        "think block": BLOCKS[block],
        "gap": f"{gap:+.2f} ± {error:.2f}",
        "best run of blocks": (
            f"{best.role} {best.layer}–{best.layer + STEP - 1}: {best.effect:+.2f} (p {best.p_adjusted:.3f})"
        ),
        "attention, sum": f"{means['attn'].sum():+.2f}",
        "MLP, sum": f"{means['mlp'].sum():+.2f}",
        "blocks, sum": f"{means['layer'].sum():+.2f}",
        "runs from below to half": f"{half} of {len(recovered)}" if half and not there.gap_is_noise else "–",
        "significant": f"{int(found.significant.sum())} of {len(found)}",
        "both ways": int(both.sum()),
        "gap is noise": there.gap_is_noise,
    }


def decomposition_row(
    pair: md.Pair, name: str, readout: Readout, probes: ProbeSet, answers: dict[str, Completions]
) -> dict[str, object]:
    """The decomposition of the patch at the last template token, at half and at three quarters of the depth."""
    count = pair.open("instruct").n_layers
    layers = (count // 2, count * 3 // 4)
    found = md.decompose(
        pair, probes, answers=answers, layers=layers, roles=("template_tail[-1]",), readout=readout
    ).frame
    rows = {"dimension": name}
    for part, cells in found.groupby("part", sort=False):
        peak = cells.loc[cells.effect.abs().idxmax()]
        rows[str(part)] = f"{peak.effect:+.2f} ({peak.low:+.2f} to {peak.high:+.2f})"
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--prompts", type=int, default=12)
    parser.add_argument("--blocks", nargs="+", choices=tuple(BLOCKS), default=list(BLOCKS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    run = md.load_run(args.run)
    pair, answers = reopen(run)
    seed = run.manifest["config"]["seed"]
    rows, paths, cells = [], [], []
    blocks = args.blocks if pair.child_thinks else ["off"]
    with md.fast_float32():
        for name in answers.sets:
            probes, given = thought_about(answers, name, args.prompts, seed, pair.child_thinks)
            readout = answers.readout(name)
            made = list(grids_of(pair, readout, probes, given, blocks))
            for block in blocks:
                rows.append(row_of(name, block, [grid for mode, grid in made if mode == block]))
                print(rows[-1], flush=True)
            paths += [decomposition_row(pair, name, readout, probes, given)] if "own" in blocks else []
            cells += [grid.frame.assign(block=mode, windows=grid.windows) for mode, grid in made]
    pd.concat(cells, ignore_index=True).to_parquet(args.out.with_suffix(".parquet"))
    args.out.write_text("\n\n".join(markdown(table) for table in (rows, paths) if table) + "\n", encoding="utf-8")


def markdown(rows: list[dict[str, object]]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(row.values() for row in rows)]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


if __name__ == "__main__":
    main()
