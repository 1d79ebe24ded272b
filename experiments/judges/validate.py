"""How well do the judges agree with people? Print a table, and write it.

    python experiments/judges/validate.py --data FOLDER --out experiments/judges/validation.md

FOLDER holds `xstest/` (model completions with human final labels, and the published string-match labels),
`jailbreakbench/` (judge_comparison_dev.csv), `rtp/` and `openai_moderation/`; none of their sentences is in this
repository or in the table. Intervals are 95 % cluster bootstraps over the unit that the row names. A correlation's
ranks are taken once, not in every draw.
"""

import argparse
import gzip
import json
from pathlib import Path

import coherence
import fit_refusals
import numpy as np
import pandas as pd
from fit_toxicity import half_of, read_rtp
from scipy.stats import rankdata
from table_rows import row

from mechdrift.behaviour.judges.refusals import judge_refusals
from mechdrift.behaviour.judges.toxicity import score_toxicity
from mechdrift.statistics.intervals import SHARE, SIGNED_SHARE
from mechdrift.statistics.resampling import Statistic, auroc, cluster_bootstrap, mean, paired_bootstrap

JBB_JUDGES = ("harmbench_cf", "gpt4_cf", "llamaguard2_cf", "llama3_cf")
# What people labelled. Only the first three are near to toxicity; the others say what the scorer is not.
CATEGORIES = {
    "hate or harassment": ("H", "HR"),
    "hate": ("H",),
    "harassment": ("HR",),
    "sexual": ("S",),
    "violence": ("V",),
    "self-harm": ("SH",),
}
WRITTEN = {
    "styles": "styles",
    "blind": "blind a",
    "imitations": "imitations, dev half",
    "invented": "invented, dev half",
    "guarded": "guarded and recent styles",
}
UNREAD = {
    "blind": "blind b",
    "imitations": "imitations, test half",
    "invented": "invented, test half",
    "hard": "hard, never fitted",
}
INNOCENT = Path(__file__).with_name("innocent.txt")


def xstest(folder: Path) -> list[dict]:
    """Labels against people's. Each model is judged by rules fitted without it. In "binary" a partial refusal is a
    refusal; "three-way" tells partial from full. The authors of the rules have read the odd-numbered prompts'
    completions, of all three models. Chance-corrected agreement is Cohen's kappa of three labels; that of the two
    annotators with each other is the most to hope for. The other models answered the held-out prompts too, and their
    answers are in the fit. Then come answers written for this project, labelled by their writers (imitations: no model
    gave them). What was read is judged by rules fitted without the style and its kin; of the rest (blind b, the test
    halves, and the hard set, made of what the rules cannot see) nothing is in the fit."""
    table, styles = fit_refusals.read_xstest(folder), fit_refusals.read_styles(folder)
    unread = [fit_refusals.read_blind("b"), fit_refusals.read_imitations(folder, "test"), fit_refusals.read_hard()]
    unseen = pd.concat(unread, ignore_index=True)
    table["ours"] = fit_refusals.left_out(table, styles)
    styles["ours"] = fit_refusals.styles_left_out(table, styles, styles)
    unseen["ours"] = fit_refusals.judged(unseen, fit_refusals.fit(table, styles))
    rows = []
    for model, answers in table.groupby("group"):
        parts = {"": answers, ", held-out prompts": answers[answers.even]}
        for part, some in parts.items():
            rows += refusal_rows(f"XSTest, {model} left out{part}", some, "type", "prompt type")
    written = {f"{WRITTEN[source]}, each style left out": some for source, some in styles.groupby("source")}
    written |= {UNREAD[source]: some for source, some in unseen.groupby("source")}
    models = {f"{group}, test half": some for group, some in unseen[unseen.source == "imitations"].groupby("group")}
    rows += [row for of, some in written.items() for row in refusal_rows(of, some, "group", "style")]
    return rows + [row for of, some in models.items() for row in refusal_rows(of, some, "prompt", "prompt")]


def refusal_rows(of: str, table: pd.DataFrame, unit: str, unit_name: str) -> list[dict]:
    units, people = table[unit].to_numpy(dtype=str), table.label.to_numpy(dtype=str)

    def right(column: str, binary: bool = True) -> np.ndarray:
        said = table[column].to_numpy(dtype=str)
        return ((said == "compliance") == (people == "compliance") if binary else said == people).astype(float)

    found = {
        "rules: accuracy, binary": cluster_bootstrap(right("ours"), units, bounds=SHARE),
        "rules: accuracy, three-way": cluster_bootstrap(right("ours", binary=False), units, bounds=SHARE),
        "rules: kappa": cluster_bootstrap(right("ours"), units, kappa(table.ours, table.label), bounds=SIGNED_SHARE),
    }
    if "matched" in table:
        found |= {
            "string match: accuracy, binary": cluster_bootstrap(right("matched"), units, bounds=SHARE),
            "difference, rules - string match, binary": paired_bootstrap(
                right("matched"), right("ours"), units, bounds=SHARE
            ),
        }
        pairs = {"annotator 1 and the rules": ("first", "ours"), "annotator 2 and the rules": ("second", "ours")}
        for name, (one, other) in (pairs | {"the two annotators": ("first", "second")}).items():
            same = (table[one] == table[other]).to_numpy(dtype=float)
            found[f"{name}: same of three labels"] = cluster_bootstrap(same, units, bounds=SHARE)
            found[f"{name}: kappa"] = cluster_bootstrap(
                same, units, kappa(table[one], table[other]), bounds=SIGNED_SHARE
            )
    return [row(of, measure, len(table), interval, unit_name) for measure, interval in found.items()]


def kappa(one: pd.Series, other: pd.Series) -> Statistic:
    """Cohen's kappa of two labellings, over weighted items."""
    first, second = one.to_numpy(dtype=str), other.to_numpy(dtype=str)

    def statistic(_: np.ndarray, weights: np.ndarray) -> np.ndarray:
        def share(chosen: np.ndarray) -> np.ndarray:
            return mean(chosen.astype(float), weights)

        by_chance = sum(share(first == label) * share(second == label) for label in np.unique(first))
        return (share(first == second) - by_chance) / (1 - by_chance)

    return statistic


def jailbreakbench(folder: Path) -> list[dict]:
    """Jailbroken or not, against the majority of three people. The rules say whether an answer refuses, not whether it
    does harm: answers to harmless requests, answers too vague or too wrong to harm, and answers that only pretend to
    help are no jailbreaks to people, and no refusals to the rules. Only the other direction tests them: what they call
    a refusal should not be called jailbroken."""
    table = pd.read_csv(folder / "judge_comparison_dev.csv", keep_default_na=False)
    people = table[["human1", "human2", "human3"]].astype(int).sum(axis=1) >= 2
    labels = judge_refusals(table.goal.tolist(), table.target_response.tolist())  # the prompt is wrapped in attack text
    judges = {"rules": pd.Series(np.isin(labels, ["compliance", "partial"]))} | {
        name: table[name].astype(int) == 1 for name in JBB_JUDGES
    }
    of, goals = "JailbreakBench judge comparison", table.goal.to_numpy(dtype=str)
    rows = [
        row(
            of,
            f"{name}: accuracy",
            len(table),
            cluster_bootstrap((said == people).to_numpy(dtype=float), goals, bounds=SHARE),
            "behaviour",
        )
        for name, said in judges.items()
    ]
    groups = {
        "refusals that people call jailbroken": ~judges["rules"],
        "other answers that people call jailbroken": judges["rules"],
    }
    for name, among in groups.items():
        found = cluster_bootstrap(people[among].to_numpy(dtype=float), goals[among], bounds=SHARE)
        rows.append(row(of, f"rules: share of {name}", among.sum(), found, "behaviour"))
    return rows


def correlation(other: np.ndarray) -> Statistic:
    """Pearson's correlation with `other`, over weighted items."""

    def statistic(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        def moment(product: np.ndarray) -> np.ndarray:
            return mean(product, weights)

        covariance = moment(values * other) - moment(values) * moment(other)
        return covariance / np.sqrt((moment(values**2) - moment(values) ** 2) * (moment(other**2) - moment(other) ** 2))

    return statistic


def rtp(folder: Path) -> list[dict]:
    table = read_rtp(folder)
    held_out = table[table.half == 1]
    rows = []
    for part in ("prompt", "continuation", "both"):
        texts = held_out if part == "both" else held_out[held_out.part == part]
        theirs, documents = texts.toxicity.to_numpy(), texts.document.to_numpy(dtype=str)
        ours = score_toxicity(texts.text.tolist())
        toxic = theirs > 0.5
        of = f"RealToxicityPrompts, held-out half, {part}"
        found = {
            "AUROC for Perspective above 0.5": cluster_bootstrap(ours, documents, auroc(toxic), bounds=SHARE),
            "Spearman with Perspective": cluster_bootstrap(
                rankdata(ours), documents, correlation(rankdata(theirs)), bounds=SIGNED_SHARE
            ),
            "Pearson with Perspective": cluster_bootstrap(ours, documents, correlation(theirs), bounds=SIGNED_SHARE),
        }
        rows += [row(of, measure, len(texts), interval, "document") for measure, interval in found.items()]
        for name, among in (("toxic", toxic), ("not toxic", ~toxic)):
            above = cluster_bootstrap((ours > 0.5)[among].astype(float), documents[among], bounds=SHARE)
            rows.append(row(of, f"share above 0.5 of what Perspective calls {name}", among.sum(), above, "document"))
    return rows


def moderation(path: Path) -> list[dict]:
    """Against people's labels, on the half that no choice was made on. A missing label is unknown: such texts are left
    out."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        table = pd.DataFrame([json.loads(line) for line in file])
    table = table[[half_of(text) == 1 for text in table.prompt]].reset_index(drop=True)
    scores = score_toxicity(table.prompt.tolist())
    rows = []
    for name, columns in CATEGORIES.items():
        labels = table[list(columns)]
        harmful, harmless = (labels == 1).any(axis=1), (labels == 0).all(axis=1)
        known = (harmful | harmless).to_numpy()
        found = cluster_bootstrap(
            scores[known], table.prompt[known].to_numpy(dtype=str), auroc(harmful[known].to_numpy()), bounds=SHARE
        )
        rows.append(
            row(
                f"openai_moderation, {name}",
                f"AUROC for people's label ({harmful.sum()} have it)",
                known.sum(),
                found,
                "text",
            )
        )
    clean = (table[["H", "HR", "S", "V", "SH"]] == 0).all(axis=1).to_numpy()
    found = cluster_bootstrap(
        (scores[clean] > 0.5).astype(float), table.prompt[clean].to_numpy(dtype=str), bounds=SHARE
    )
    rows.append(row("openai_moderation, no harm of five kinds", "share above 0.5", clean.sum(), found, "text"))
    return rows


def innocent(prompts: Path) -> list[dict]:
    """What should not be called toxic: sentences with rough words, and XSTest's safe prompts, which look unsafe."""
    written = INNOCENT.read_text(encoding="utf-8").splitlines()
    table = pd.read_csv(prompts, keep_default_na=False)
    sets = {
        "innocent sentences with rough words": (written, np.array(written)),
        "XSTest, safe prompts": (
            table.prompt[table.label == "safe"].tolist(),
            table.type[table.label == "safe"].to_numpy(dtype=str),
        ),
    }
    return [
        row(
            of,
            "share above 0.5",
            len(texts),
            cluster_bootstrap((score_toxicity(texts) > 0.5).astype(float), units, bounds=SHARE),
            "prompt type" if of.startswith("XSTest") else "sentence",
        )
        for of, (texts, units) in sets.items()
    ]


def markdown(rows: list[dict]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    sections = {
        "Refusal rules against people: XSTest": (xstest(args.data / "xstest"), xstest.__doc__),
        "Refusal rules against people: JailbreakBench": (
            jailbreakbench(args.data / "jailbreakbench"),
            jailbreakbench.__doc__,
        ),
        'Toxicity scorer "hashed" against Perspective': (rtp(args.data / "rtp"), "Perspective is itself a model."),
        'Toxicity scorer "hashed" against people': (
            moderation(args.data / "openai_moderation" / "samples.jsonl.gz"),
            moderation.__doc__,
        ),
        'Toxicity scorer "hashed" on innocent texts': (
            innocent(args.data / "xstest" / "xstest_prompts.csv"),
            innocent.__doc__,
        ),
    }
    sections |= coherence.sections(args.data)
    parts = [f"## {title}\n\n{note}\n\n{markdown(rows)}\n" for title, (rows, note) in sections.items()]
    page = (
        "# The judges against people and other judges\n\nWritten by `validate.py`; intervals are 95 % "
        "cluster bootstraps over `unit`. "
        "None of n gives an interval without width; the rate may still be as high as about 3 / n.\n\n"
    )
    page += "\n".join(parts)
    args.out.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
