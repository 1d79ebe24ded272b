"""Fit the weights of the refusal judge, and say how well it does on models and styles that were not in the fit.

    python experiments/judges/fit_refusals.py --xstest FOLDER

FOLDER holds XSTest's prompts and `string_match_labels/`, its completions of three models with people's final labels
(CC-BY-4.0). With them go answers written for this project, in recognisable styles; an answer to a prompt of XSTest is
stored with the prompt's number, and joined to its text here:

    refusal_styles.jsonl      17 styles, by the author of the rules
    refusal_blind.jsonl       12 styles, by an author who had not seen the rules. Half b is never fitted, nor were its
                              errors looked at
    refusal_imitations.jsonl  6 chat models imitated on XSTest's prompts, refusal_invented.jsonl 10 on prompts of the
                              writers' own; by three authors who had not seen the rules. Halves by the prompt's CRC-32:
                              "dev" was read and is fitted, "test" is never fitted, nor were its errors looked at.
                              `written` is the writer's label where it was corrected
    refusal_guarded.jsonl     styles of guarded prompts and of recent models, by an author of the rules, on prompts of
                              their own: they moralise before they comply, argue or send elsewhere instead of declining,
                              comply in part, or are asked for a text that declines
    refusal_hard.jsonl        4 styles, by an author of the rules: refusals without a word of refusing, and answers with
                              such words. Never fitted: fitting it helps no other style, and hardly its own

Two ridge-penalised logistic regressions over the features of `mechdrift.behaviour.judges.refusals`: does the answer
refuse, and if so, only in part? Every answer is shown twice, with its prompt and, at a quarter of the weight, without,
since callers may not have one. Penalty, weights, features and thresholds were chosen by leaving out one family of
styles at a time (all that imitate one model's maker). Writes
`mechdrift/behaviour/judges/refusal_weights.json`: a number for each named feature, no text.
"""

import argparse
import json
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from mechdrift.behaviour.judges import refusals

STYLES = Path(__file__).with_name("refusal_styles.jsonl")
BLIND = Path(__file__).with_name("refusal_blind.jsonl")
IMITATIONS = Path(__file__).with_name("refusal_imitations.jsonl")
INVENTED = Path(__file__).with_name("refusal_invented.jsonl")
GUARDED = Path(__file__).with_name("refusal_guarded.jsonl")
HARD = Path(__file__).with_name("refusal_hard.jsonl")
XSTEST_MODELS = ("llama2new", "llama2orig", "mistralinstruct")
HUMAN_LABELS = {"1_full_compliance": "compliance", "2_full_refusal": "refusal", "3_partial_refusal": "partial"}
PENALTY = 1.5  # 1 / C; 0.7 to 3 give the same figures to a point
WEIGHT = {
    "styles": 0.6,
    "blind": 0.6,
    "guarded": 0.5,
}  # against 1 for all others; 0.3 to 1 for these and 0.6 to 1.5 for the others: the same to a point
# "guarded" at 1 instead of 0.5: half a point less on XSTest, two more on itself.
# Styles that imitate one model go out together.
FAMILIES = {
    "gpt": ("gpt",),
    "claude": ("claude",),
    "mistral": ("mistral-", "guarded mistral"),
    "gemma": ("gemma",),
    "llama-3": ("llama-3", "llama3"),
    "qwen": ("qwen",),
    "deepseek": ("deepseek",),
    "phi": ("phi",),
    "small": ("135m",),
}
UNPROMPTED = 0.25

Weights = dict[str, dict[str, float]]


def read_xstest(folder: Path) -> pd.DataFrame:
    """Columns: group (the model), id, type, prompt, answer, label, the two annotators' labels, the published string
    match, even."""
    tables = []
    for model in XSTEST_MODELS:
        table = pd.read_csv(
            folder / "string_match_labels" / f"xstest_v2_completions_{model}_streval.csv", keep_default_na=False
        )
        labels = {
            name: table[column].map(HUMAN_LABELS)
            for name, column in {
                "label": "final_label",
                "first": "annotation_1",
                "second": "annotation_2",
                "matched": "strmatch_label",
            }.items()
        }
        even = table.id.str.split("-").str[1].astype(int) % 2 == 0
        tables.append(
            table[["id", "type", "prompt"]].assign(
                group=model, source="xstest", answer=table.completion, even=even, **labels
            )
        )
    return pd.concat(tables, ignore_index=True)


def read_styles(folder: Path) -> pd.DataFrame:
    """What is fitted on. Columns: group (the style), source (the file), prompt, answer, label."""
    parts = [_rows(STYLES, "styles"), read_blind("a"), read_imitations(folder, "dev"), _rows(GUARDED, "guarded")]
    return pd.concat(parts, ignore_index=True)


def read_blind(half: str) -> pd.DataFrame:
    table = _rows(BLIND, "blind")
    table = table[table.split == f"blind {half}"]
    return table.assign(group="blind, " + table.group).reset_index(drop=True)


def read_imitations(folder: Path, half: str) -> pd.DataFrame:
    """Answers to XSTest's prompts in the style of other models, and answers to invented prompts: "dev" or "test"."""
    prompts = (
        pd.read_csv(folder / "xstest_prompts.csv", keep_default_na=False, dtype={"id": str}).set_index("id").prompt
    )
    imitations = _rows(IMITATIONS, "imitations")
    imitations["prompt"] = imitations.xstest_id.map(prompts)
    table = pd.concat([imitations, _rows(INVENTED, "invented")], ignore_index=True)
    table = table[table.split == half]
    return table.assign(group=table.source + ", " + table.group).reset_index(drop=True)


def read_hard() -> pd.DataFrame:
    return _rows(HARD, "hard")


def _rows(file: Path, source: str) -> pd.DataFrame:
    return (
        pd.read_json(file, lines=True, dtype={"xstest_id": str})
        .rename(columns={"style": "group"})
        .assign(source=source)
    )


def family(group: str) -> str:
    """The family of a style: all that imitate one model, by whomever. A style that imitates none is its own."""
    if "," not in group:
        return group
    return next((name for name, parts in FAMILIES.items() if any(part in group for part in parts)), group)


NAMES = list(refusals.features(refusals.read("", "Hello.")))


def features(table: pd.DataFrame, prompted: bool = True) -> pd.DataFrame:
    pairs = zip(table.prompt if prompted else [""] * len(table), table.answer, strict=True)
    return pd.DataFrame([_values(prompt, answer.rsplit("</think>", 1)[-1]) for prompt, answer in pairs], columns=NAMES)


@cache  # every fold of the cross-validation needs them again
def _values(prompt: str, answer: str) -> np.ndarray:
    return np.array(list(refusals.features(refusals.read(prompt, answer)).values()))


def fit(xstest: pd.DataFrame, styles: pd.DataFrame) -> Weights:
    table = pd.concat([xstest, styles], ignore_index=True)
    values = pd.concat([features(table), features(table, prompted=False)], ignore_index=True)
    share = table.source.map(WEIGHT).fillna(1.0).to_numpy()
    importance, labels = np.r_[share, UNPROMPTED * share], np.r_[table.label, table.label]
    refused = labels != "compliance"
    return {
        "refused": _regress(values, refused, importance),
        "partial": _regress(values[refused], labels[refused] == "partial", importance[refused]),
    }


def _regress(values: pd.DataFrame, outcome: np.ndarray, importance: np.ndarray) -> dict[str, float]:
    model = LogisticRegression(C=1 / PENALTY, max_iter=5000).fit(values.to_numpy(), outcome, sample_weight=importance)
    coefficients = zip(values.columns, model.coef_[0], strict=True)
    return {"offset": round(float(model.intercept_[0]), 3)} | {
        name: round(float(weight), 3) for name, weight in coefficients
    }


def judged(table: pd.DataFrame, weights: Weights) -> np.ndarray:
    """The judge's labels with these weights instead of those it ships with."""
    answers = [
        (answer.rsplit("</think>", 1)[-1], prompt) for answer, prompt in zip(table.answer, table.prompt, strict=True)
    ]
    return np.array([refusals.refusal_label(answer, prompt, weights) for answer, prompt in answers])


def left_out(xstest: pd.DataFrame, styles: pd.DataFrame) -> pd.Series:
    """The label of each XSTest completion by a judge that was fitted without that model."""
    labels = pd.Series("", index=xstest.index)
    for _, rows in xstest.groupby("group"):
        labels[rows.index] = judged(rows, fit(xstest.drop(rows.index), styles))
    return labels


def prompts_left_out(xstest: pd.DataFrame, styles: pd.DataFrame) -> pd.Series:
    """The same, by a judge that saw no answer to the prompt either, of any model: fitted on odd prompts for even ones,
    and the reverse."""
    labels = pd.Series("", index=xstest.index)
    for (model, even), rows in xstest.groupby(["group", "even"]):
        others = xstest[(xstest.group != model) & (xstest.even != even)]
        labels[rows.index] = judged(rows, fit(others, styles[~styles.prompt.isin(rows.prompt)]))
    return labels


def styles_left_out(xstest: pd.DataFrame, styles: pd.DataFrame, answers: pd.DataFrame) -> pd.Series:
    """The label of each written answer by a judge that was fitted without its family of styles."""
    labels, families = pd.Series("", index=answers.index), styles.group.map(family)
    for name, rows in answers.groupby(answers.group.map(family)):
        labels[rows.index] = judged(rows, fit(xstest, styles[families != name]))
    return labels


def agreement(judged: np.ndarray, people: np.ndarray) -> str:
    """Share of equal labels, refused or not and in three classes."""
    return (
        f"binary {np.mean((judged != 'compliance') == (people != 'compliance')):.3f}, three-way "
        f"{np.mean(judged == people):.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--xstest", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=refusals.WEIGHTS)
    parser.add_argument(
        "--held-out", action="store_true", help="score the halves that are never fitted too; each look is to be counted"
    )
    args = parser.parse_args()
    xstest, styles = read_xstest(args.xstest), read_styles(args.xstest)
    without, both = left_out(xstest, styles), prompts_left_out(xstest, styles)
    for model, rows in xstest.groupby("group"):
        found, people = without[rows.index].to_numpy(), rows.label.to_numpy()
        print(
            f"{model}, left out: {agreement(found, people)}; even prompts "
            f"{agreement(found[rows.even], people[rows.even])}"
        )
        print(f"{model} and the prompt left out: {agreement(both[rows.index].to_numpy(), people)}")
        print(f"{model}, published string match: {agreement(rows.matched.to_numpy(), people)}")
    without = styles_left_out(xstest, styles, styles).to_numpy()
    _print_by_style("family left out", styles, without)
    weights, hard = fit(xstest, styles), read_hard()
    _print_by_style("never fitted", hard, judged(hard, weights))
    if args.held_out:
        unseen = pd.concat([read_blind("b"), read_imitations(args.xstest, "test")], ignore_index=True)
        _print_by_style("held out", unseen, judged(unseen, weights))
        _print_by_style("held out, and its family left out", unseen, styles_left_out(xstest, styles, unseen).to_numpy())
    args.out.write_text(json.dumps(weights, indent=1) + "\n", encoding="utf-8")


def _print_by_style(how: str, table: pd.DataFrame, found: np.ndarray) -> None:
    for column in ("source", "group"):
        for name, rows in table.groupby(column):
            print(f"{name} ({len(rows)}), {how}: {agreement(found[rows.index], rows.label.to_numpy())}")


if __name__ == "__main__":
    main()
