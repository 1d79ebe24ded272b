"""Which item an answer belongs to. It is found in this order, and never by guessing between two items:

    text    one of the texts that came with the answer is the item's prompt, up to white space, and no other item's
    id      the other tool's id is the item's, as in logs that mechdrift exported. A number that a tool counted by
            itself is no id: in a probe file whose items are called 1, 2, 3 it would name another prompt
    part    one item's prompt, and no other's, is part of such a text, or the text is part of the prompt. This is for
            prompts that one of the two tools wrapped in instructions. Texts below 20 characters are not searched for

Answers that belong to no item are left out and counted.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from mechdrift.behaviour.imported.record import OutsideAnswer, OutsideAnswers
from mechdrift.records import Completion, Completions, Side, ThinkMode

LEAST = 20  # characters that are looked for within others


def match(items: Mapping[str, Sequence[str]], answers: Iterable[OutsideAnswer]) -> dict[str, list[OutsideAnswer]]:
    """Answers by the id of their item; `items` are the texts of each item, by its id."""
    known = {name: [_plain(text) for text in texts] for name, texts in items.items()}
    by_text: dict[str, set[str]] = defaultdict(set)
    for name, texts in known.items():
        for text in texts:
            by_text[text].add(name)
    found: dict[str, list[OutsideAnswer]] = defaultdict(list)
    places: dict[tuple[str, tuple[str, ...]], str | None] = {}  # answers to one prompt are matched once
    for answer in answers:
        key = (answer.id, answer.asked)
        if key not in places:
            places[key] = _item_of(known, by_text, answer)
        if place := places[key]:
            found[place].append(answer)
    return found


def _item_of(known: Mapping[str, Sequence[str]], by_text: Mapping[str, set[str]], answer: OutsideAnswer) -> str | None:
    texts = [text for text in map(_plain, answer.asked) if text]
    for text in texts:
        if len(names := by_text.get(text, ())) == 1:
            return next(iter(names))
    if answer.id in known:
        return answer.id
    for text in texts:
        names = {name for name, prompts in known.items() if any(_holds(text, prompt) for prompt in prompts)}
        if len(names) == 1:
            return names.pop()
    return None


def _holds(text: str, prompt: str) -> bool:
    """Whether one of the two is part of the other."""
    shorter, longer = sorted((text, prompt), key=len)
    return len(shorter) >= LEAST and shorter in longer


def _plain(text: str) -> str:
    return " ".join(text.split())


def as_completions(items: Mapping[str, Sequence[str]], answers: OutsideAnswers, side: Side) -> Completions:
    """The answers to these items as completions, in the order of the items. Samples are numbered again, in the order of
    an item's answers in the file."""
    mode: ThinkMode = "none" if side == "instruct" else "own"
    found = match(items, answers.rows)
    rows = [
        Completion(
            item_id=name,
            side=side,
            think=mode,
            thinking=answer.thinking,
            answer=answer.answer,
            thinking_ids=(),
            answer_ids=(),
            closed=answer.closed,
            stopped=answer.stopped,
            finished=answer.finished,
            sample=sample,
            engine=answers.tool,
        )
        for name in items
        for sample, answer in enumerate(sorted(found.get(name, ()), key=lambda answer: answer.sample))
    ]
    return Completions(side=side, think=mode, rows=tuple(rows))


def describe(answers: OutsideAnswers, completions: Completions, name: str, items: int) -> str:
    """A sentence that says how many of a file's answers were matched."""
    asked = len(Counter(row.item_id for row in completions))
    said = (
        f"{completions.side}: {len(completions)} of {len(answers.rows)} answers of {answers.model or 'the model'} "
        f"({answers.tool}) are to {asked} of the {items} prompts of {name}"
    )
    if answers.failed:
        said += f"; {answers.failed} samples ended in an error"
    if not answers.is_ending_known:
        said += "; the file does not say which answers were cut off, so all count as finished but for open think blocks"
    return f"{said}."
