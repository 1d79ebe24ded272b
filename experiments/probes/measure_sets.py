"""How well do the two classes of each probe set match? Measures the sets and writes the numbers into their cards.

    python experiments/probes/measure_sets.py           # prints every table and writes it into the set's card
    python experiments/probes/measure_sets.py --check   # only names the cards whose numbers are out of date

A classifier that sees nothing but length and first word should not tell triggers from neutral twins (AUROC at most
0.6): else a direction found on the set may be a direction of length. It is a logistic regression on the number of
words, the number of characters (both standardised) and the first word (one-hot). The same regression on a bag of words
says how much the vocabulary gives away, which twins can lower but not remove. Folds: whole families, dealt in the order
of the file to five folds; `pooled` is the AUROC over all held-out scores, `mean of folds` the mean of the five. A
variant (the same item asked in another way) is measured like a prompt, where both classes have it.

Overlap is Jaccard's: shared over all distinct words (twins) or word trigrams (items that are not twins).

Near copies: prompts of different pairs are compared as vectors, by the cosine of the angle between them. Counts of one
to three words in a row see a template whose nouns were exchanged; counts of three to five characters, weighted by how
few prompts hold them (TF-IDF), see one content in other inflections or spellings. The closest two are named in the
card and must stay below `NEAR_COPY` (twins are meant to be close: their median is between 0.5 and 0.9 by either).
"""

import argparse
import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from mechdrift.probes.sets import DATA, load_everyday, load_probes, load_sentences
from mechdrift.records import DIMENSIONS, ProbeItem, ProbeSet

FOLDS = 5
BEGIN, END = "<!-- measured -->", "<!-- /measured -->"
MOST_VALUES = 16  # a tag with more values than this is only counted
NEAR_COPY = {"words": 0.45, "characters": 0.6}  # cosine that two prompts of different pairs stay below

Column = dict[str, str]  # what stands in one column of a table, by row


def words(text: str) -> list[str]:
    return re.findall(r"[\w'’-]+", text.lower())


def trigrams(text: str) -> set[tuple[str, ...]]:
    return set(zip(*(words(text)[start:] for start in range(3)), strict=False))


def overlap(first: set, second: set) -> float:
    return len(first & second) / max(1, len(first | second))


def surface(prompts: Sequence[str]) -> np.ndarray:
    """Words, characters and the first word, and nothing else."""
    sizes = StandardScaler().fit_transform([[len(prompt.split()), len(prompt)] for prompt in prompts])
    return np.hstack(
        [sizes, OneHotEncoder(sparse_output=False).fit_transform([[prompt.split()[0]] for prompt in prompts])]
    )


def vocabulary(prompts: Sequence[str]) -> np.ndarray:
    return CountVectorizer(dtype=float).fit_transform(prompts).toarray()


def auroc(features: np.ndarray, triggers: np.ndarray, families: Sequence[str]) -> tuple[float, float]:
    """How well a classifier tells triggers from neutral items in families it has not seen: pooled, and as the mean of
    the folds."""
    numbers = {family: number for number, family in enumerate(dict.fromkeys(families))}
    folds = np.array([numbers[family] % FOLDS for family in families])
    classifier = LogisticRegression(max_iter=1000)
    with threadpool_limits(1):  # the problems are too small to share
        scores = cross_val_predict(
            classifier, features, triggers, cv=PredefinedSplit(folds), method="decision_function"
        )
    by_fold = [roc_auc_score(triggers[folds == fold], scores[folds == fold]) for fold in range(FOLDS)]
    return float(roc_auc_score(triggers, scores)), float(np.mean(by_fold))


def spread(numbers: Sequence[int]) -> str:
    return f"{np.median(numbers):g} ({min(numbers)} to {max(numbers)})" if numbers else "–"


def largest_trigram_overlap(texts: Sequence[str], related: Callable[[int, int], bool] = lambda i, j: False) -> str:
    grams = [trigrams(text) for text in texts]
    return f"{max(overlap(grams[i], grams[j]) for i, j in combinations(range(len(texts)), 2) if not related(i, j)):.2f}"


def cosines(prompts: Sequence[str], unit: str) -> np.ndarray:
    """How alike two prompts are, for every two: cosine of their n-grams of words or of characters."""
    grams = {
        "words": TfidfVectorizer(ngram_range=(1, 3), use_idf=False),
        "characters": TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5)),
    }
    vectors = grams[unit].fit_transform(prompts)  # of length one
    return (vectors @ vectors.T).toarray()


def closest(items: Sequence[ProbeItem], prompts: Sequence[str], unit: str) -> tuple[float, str, str]:
    """The cosine of the two prompts of different pairs that are most alike, and the ids of the two. It is rounded,
    so that of equals the first in the file is named on every machine."""
    pairs = np.unique([min(item.id, item.twin) for item in items], return_inverse=True)[1]
    alike = np.where(pairs[:, None] == pairs[None, :], 0, cosines(prompts, unit).round(4))
    first, second = divmod(int(alike.argmax()), len(items))
    return float(alike[first, second]), items[first].id, items[second].id


def measure_prompts(items: Sequence[ProbeItem], prompts: Sequence[str]) -> Column:
    """One column of a set's table: its prompts, or one variant of them."""
    triggers, families = np.array([item.is_trigger for item in items]), [item.family for item in items]
    column = {"items, families": f"{len(items)}, {len(set(families))}"}
    for name, length in (("words", lambda prompt: len(prompt.split())), ("characters", len)):
        for contrast, mask in (("trigger", triggers), ("neutral", ~triggers)):
            lengths = [length(prompt) for prompt, chosen in zip(prompts, mask, strict=True) if chosen]
            column[f"{name}, {contrast}: median (range)"] = spread(lengths)
    places = {item.id: place for place, item in enumerate(items)}
    pairs = [(places[item.id], places[item.twin]) for item in items if item.is_trigger and item.twin in places]
    if pairs:
        for name, features in (("length and first word", surface), ("bag of words", vocabulary)):
            pooled, mean = auroc(features(prompts), triggers, families)
            column[f"AUROC of {name}: pooled, mean of folds"] = f"{pooled:.2f}, {mean:.2f}"
        same = sum(prompts[i].split()[0] == prompts[j].split()[0] for i, j in pairs)
        shared = [overlap(set(words(prompts[i])), set(words(prompts[j]))) for i, j in pairs]
        column["twins with the same first word"] = f"{same} of {len(pairs)}"
        column["words shared by twins, median"] = f"{np.median(shared):.2f}"
    column["largest trigram overlap, not twins"] = largest_trigram_overlap(
        prompts, lambda i, j: items[i].twin == items[j].id
    )
    for unit, limit in NEAR_COPY.items():
        cosine, first, second = closest(items, prompts, unit)
        column[f"closest of different pairs, n-grams of {unit} (below {limit})"] = f"{cosine:.2f}: {first}, {second}"
    return column


def markdown(columns: dict[str, Column]) -> str:
    rows = list(dict.fromkeys(row for column in columns.values() for row in column))
    lines = [f"| figure | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    return "\n".join(
        [*lines, *(f"| {row} | {' | '.join(column.get(row, '–') for column in columns.values())} |" for row in rows)]
    )


def counts(name: str, values: Sequence[str]) -> str:
    found = Counter(values)
    listed = (
        ": " + ", ".join(f"{value} {count}" for value, count in found.most_common())
        if len(found) <= MOST_VALUES
        else ""
    )
    return f"- `{name}`, {len(found)} value{'s' * (len(found) > 1)}{listed}"


def measure_set(probes: ProbeSet) -> str:
    """A set's table, the counts of its tags, and how many items say what an answer must and must not contain."""
    columns = {"prompt": measure_prompts(probes.items, [item.prompt for item in probes])}
    for name in dict.fromkeys(name for item in probes for name in item.variants):
        varied = [item for item in probes if name in item.variants]
        columns[f"`{name}`"] = measure_prompts(varied, [item.variants[name] for item in varied])
    tags = dict.fromkeys(tag for item in probes for tag in item.tags)
    conditions = [
        f"{sum(bool(getattr(item, field)) for item in part)} {contrast}"
        for field in ("must", "must_not")
        for contrast in ("trigger", "neutral")
        for part in [probes.where(contrast)]
    ]
    return "\n".join(
        [
            markdown(columns),
            "",
            f"- items with `must`: {conditions[0]}, {conditions[1]}; with `must_not`: {conditions[2]}, {conditions[3]}",
            *(counts(tag, [item.tags[tag] for item in probes if tag in item.tags]) for tag in tags),
        ]
    )


def measure_plain() -> str:
    requests = load_everyday()
    prompts = [request.prompt for request in requests]
    return markdown(
        {
            "requests": {
                "requests, families": f"{len(requests)}, {len({request.family for request in requests})}",
                "words: median (range)": spread([len(prompt.split()) for prompt in prompts]),
                "characters: median (range)": spread([len(prompt) for prompt in prompts]),
                "different first words": str(len({prompt.split()[0] for prompt in prompts})),
                "requests with `must`": str(sum(bool(request.must) for request in requests)),
                "largest trigram overlap": largest_trigram_overlap(prompts),
                "largest trigram overlap with a prompt of a set": f"{_overlap_with_sets(prompts):.2f}",
            }
        }
    )


def _overlap_with_sets(prompts: Sequence[str]) -> float:
    asked = [
        trigrams(text)
        for name in DIMENSIONS
        for item in load_probes(name)
        for text in (item.prompt, *item.variants.values())
    ]
    return max(overlap(grams, other) for grams in map(trigrams, prompts) for other in asked)


def measure_sentences() -> str:
    pairs = load_sentences()
    sentences = [sentence for pair in pairs for sentence in (pair.more, pair.less)]
    table = markdown(
        {
            "pairs": {
                "pairs, families": f"{len(pairs)}, {len({pair.family for pair in pairs})}",
                "words: median (range)": spread([len(sentence.split()) for sentence in sentences]),
                "pairs with equally many words": str(
                    sum(len(pair.more.split()) == len(pair.less.split()) for pair in pairs)
                ),
                "characters, `more` minus `less`: median (range)": spread(
                    [len(pair.more) - len(pair.less) for pair in pairs]
                ),
                "largest trigram overlap of different pairs": largest_trigram_overlap(
                    sentences, lambda i, j: i // 2 == j // 2
                ),
            }
        }
    )
    fields = ("direction", "attribute")
    return "\n".join([table, "", *(counts(field, [getattr(pair, field) for pair in pairs]) for field in fields)])


def measure(name: str) -> str:
    """What stands between the two markers of the card `name`."""
    return {"plain": measure_plain, "sentences": measure_sentences}.get(name, lambda: measure_set(load_probes(name)))()


def written(name: str) -> str:
    """What the card says today."""
    return _split(card_file(name))[1].strip()


def card_file(name: str) -> Path:
    return DATA / f"{name}.md"


def _split(file: Path) -> tuple[str, str, str]:
    before, begin, rest = file.read_text(encoding="utf-8").partition(BEGIN)
    table, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{file} should hold the lines {BEGIN} and {END}: the figures are written between them.")
    return before, table, after


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the probe sets and write the figures into their cards.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a card differs from the data")
    check = parser.parse_args().check
    stale = []
    for name in (*DIMENSIONS, "plain", "sentences"):
        table = measure(name)
        stale += [name] if table != written(name) else []
        print(f"{name}\n\n{table}\n")
        if not check:
            before, _, after = _split(card_file(name))
            card_file(name).write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")
    if check and stale:
        raise SystemExit(f"these cards are not what the data say: {', '.join(stale)}; run this script without --check.")


if __name__ == "__main__":
    main()
