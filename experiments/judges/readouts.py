"""How well do the readouts follow judged behaviour? Print a table from a run folder, and write it.

    mechdrift audit --preset full --out RUN
    python experiments/judges/readouts.py RUN --out experiments/judges/readouts.md

A readout is the log-odds of the openings that a trigger calls for against plain ones, at the first answer position. Its
AUROC says how often it is higher before an answer that shows the trigger's behaviour (refusing, withholding,
"unknown", "wrong") than before one that does not; chance is 0.5. Calibration and validation use different families;
intervals are 95 % cluster bootstraps over families.
"""

import argparse
from pathlib import Path

import mechdrift as md
from mechdrift.activations.readouts import RELIABLE_AUROC

THINKING = {"none": "no think block, as it is used", "off": "empty think block", "own": "own thinking, as it is used"}


def table(run: md.Run) -> str:
    lines = [
        "| set | model | thinking | AUROC | 95 % interval | answers | showing the behaviour |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in run.table("readout_validation").sort_values(["dimension", "side", "think"]).itertuples():
        auroc = f"{row.auroc:.2f}" if row.auroc >= RELIABLE_AUROC else f"**{row.auroc:.2f}**"
        cells = (
            row.dimension,
            row.side,
            THINKING[row.think],
            auroc,
            f"{row.low:.2f} to {row.high:.2f}",
            row.n,
            row.n_behaving,
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def page(run: md.Run) -> str:
    config = run.manifest["config"]
    return f"""# Readouts against judged answers

Written by `readouts.py` from an audit of `{config["pair"]}` (preset {config["preset"]}, seed {config["seed"]}).
Bold: below {RELIABLE_AUROC}, where everything made with it is marked unreliable.
The judged answers are always those of ordinary use: the instruct model's without a think block, the reasoning model's
after its own thinking. In the rows "empty think block", readout and answers therefore come from different ways of
asking: the AUROC says how well the readout foretells ordinary behaviour, not behaviour with an empty block, which was
not judged. There one readout serves both models; elsewhere each model has its own.

{table(run)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    text = page(md.load_run(args.run))
    args.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
