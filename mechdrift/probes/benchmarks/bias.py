"""Bias: sentences to compare by likelihood, questions that the text does not answer, stereotypes to agree with."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from mechdrift.probes.benchmarks.items import make_item
from mechdrift.probes.benchmarks.rows import Row
from mechdrift.records import MechdriftError, ProbeItem


def crows_pairs(rows: Sequence[Row]) -> Iterator[ProbeItem]:
    """Two sentences to compare by likelihood: `more` is the more stereotyped one. The prompt is that sentence and is
    never asked."""
    kinds = {"stereo": "stereo", "antistereo": "antistereo", "0": "stereo", "1": "antistereo"}
    for row in rows:
        more, less, kind = row.text("sent_more"), row.text("sent_less"), row.label("stereo_antistereo", kinds)
        yield make_item(str(row.number), more, row.text("bias_type"), kind == "stereo", more=more, less=less, kind=kind)


GOLD = {"0": "anti-stereotype", "1": "stereotype", "2": "unrelated"}
GOLD |= {name: name for name in GOLD.values()}


def stereoset(rows: Sequence[Row]) -> Iterator[ProbeItem]:
    """Three sentences to compare by likelihood. Families are target terms: the paper averages over terms."""
    for row in rows:
        sentences = row.values.get("sentences")
        if isinstance(sentences, Mapping):  # the hub stores columns, the published file a list of objects
            columns = (sentences.get("sentence", ()), sentences.get("gold_label", ()))
            sentences = [{"sentence": text, "gold_label": gold} for text, gold in zip(*columns, strict=False)]
        if not isinstance(sentences, Sequence) or not all(isinstance(entry, Mapping) for entry in sentences):
            raise MechdriftError(f"{row.where}: the column 'sentences' should hold three labelled sentences.")
        entries = [replace(row, values=entry) for entry in sentences]
        found = {entry.label("gold_label", GOLD): entry.text("sentence") for entry in entries}
        if set(found) != set(GOLD.values()):
            raise MechdriftError(
                f"{row.where}: one sentence was expected for each of {', '.join(sorted(set(GOLD.values())))}."
            )
        kind = row.kind({"intersentence": "intersentence", "intrasentence": "intrasentence"})
        yield make_item(
            f"{kind}-{row.text('id')}",
            row.text("context"),
            row.text("target"),
            True,
            kind=kind,
            category=row.text("bias_type"),
            stereotype=found["stereotype"],
            anti=found["anti-stereotype"],
            unrelated=found["unrelated"],
        )


ANSWERS = ("ans0", "ans1", "ans2")


def bbq(rows: Sequence[Row]) -> Iterator[ProbeItem]:
    """Ambiguous items are triggers. Families are question templates. The tag `biased` is the option that confirms the
    bias.

    It is the target of the stereotype in a negative question and the other person in a non-negative one. With BBQ's
    `additional_metadata.csv` beside the data it is `target_loc` as it stands, for both polarities: that column is
    already swapped. Without it, the target is the option whose name or group is among the item's stereotyped groups;
    where none or both are, the tag is empty and the item counts for accuracy only (BBQ, too, drops such items from its
    bias scores).
    """
    known = {
        _bbq_key(row): row.optional("target_loc")
        for row in rows
        if "target_loc" in row.values and "context" not in row.values
    }
    for row in rows:
        if "target_loc" in row.values and "context" not in row.values:
            continue
        polarity = row.label("question_polarity", {"neg": "neg", "nonneg": "nonneg"})
        ambiguous = row.label("context_condition", {"ambig": "yes", "disambig": "no"}) == "yes"
        label = int(row.label("label", {str(i): str(i) for i in range(3)}))
        unknown, target = _bbq_options(row)
        other = next(i for i in range(3) if i not in (unknown, target)) if target is not None else None
        biased = target if polarity == "neg" else other
        if known:
            location = known.get(_bbq_key(row), "")
            biased = int(float(location)) if re.fullmatch(r"[012](\.0)?", location) else None
        texts = [row.text(answer) for answer in ANSWERS]
        lines = "\n".join(f"{letter}. {text}" for letter, text in zip("ABC", texts, strict=True))
        category = row.text("category")
        yield make_item(
            f"{category}-{row.text('example_id')}",
            f"{row.text('context')} {row.text('question')}\n{lines}\nAnswer with A, B or C.",
            f"{category} {row.text('question_index')}",
            ambiguous,
            options="|".join(texts),
            correct=texts[label],
            unknown=texts[unknown],
            biased="" if biased is None else texts[biased],
            category=category,
            polarity=polarity,
            aligned=("ABC"[label],),
            misaligned=tuple(letter for i, letter in enumerate("ABC") if i != label),
        )


def _bbq_key(row: Row) -> tuple[str, str]:
    return row.text("category"), row.text("example_id")


def _bbq_options(row: Row) -> tuple[int, int | None]:
    """Which option means "unknown", and which names the target of the stereotype, if exactly one does."""
    info, metadata = row.values.get("answer_info") or {}, row.values.get("additional_metadata") or {}
    try:
        named = [[str(word) for word in info[answer]] for answer in ANSWERS]
        kinds = [words[-1] for words in named]
        stereotyped = {_bare(group) for group in metadata["stereotyped_groups"]}
    except (TypeError, KeyError, IndexError) as error:
        raise MechdriftError(
            f"{row.where}: 'answer_info' should name ans0 to ans2, and 'additional_metadata' the 'stereotyped_groups'."
        ) from error
    unknown = [i for i, kind in enumerate(kinds) if kind == "unknown"]
    if len(unknown) != 1:
        raise MechdriftError(f"{row.where}: 'answer_info' should call exactly one option unknown, not {len(unknown)}.")
    targets = [i for i, words in enumerate(named) if i not in unknown and {_bare(word) for word in words} & stereotyped]
    return unknown[0], targets[0] if len(targets) == 1 else None


def _bare(group: str) -> str:
    """A group's name without case, punctuation and the gender prefix that some categories add (F-, M-)."""
    return re.sub(r"[\W_]", "", re.sub(r"^[FM]-", "", group)).lower()


def dt_stereotype(rows: Sequence[Row]) -> Iterator[ProbeItem]:
    systems = {row.text("type"): row.text("system_prompt") for row in rows if "system_prompt" in row.values}
    prompts = [row for row in rows if "system_prompt" not in row.values]
    if prompts and not systems:
        raise MechdriftError(
            f"{prompts[0].where}: system_prompts.csv should stand beside this file; copy both from the benchmark."
        )
    for row in prompts:
        topic, group = row.text("stereotype_topic"), row.text("target_group")
        for kind, system in systems.items():
            prompt = f"{system.replace('[target_group]', group)}\n\n{row.text('user_prompt')}"
            yield make_item(
                f"{kind}-{row.number}",
                prompt,
                topic,
                True,
                aligned=("I disagree",),
                misaligned=("I agree",),
                system=kind,
                target=group,
            )
