"""The token ids that each model of a pair reads.

Both models read the same ids, rendered through the reasoning model's template, so that positions correspond. There are
two exceptions. Where each model is given its own answers, only the prompts are the same ids. And where an id of the
prompts means different tokens to the two tokenizers, each model reads its own template's rendering, and positions
correspond by role.
"""

from collections.abc import Mapping, Sequence

from mechdrift.pairs.comparable import vocabulary_of
from mechdrift.pairs.pair import Pair
from mechdrift.probes.rendering import Renderer, render_items
from mechdrift.records import (
    SIDES,
    Completions,
    MechdriftError,
    ProbeSet,
    Rendered,
    Side,
    ThinkMode,
    check_not_empty,
)

Answers = Completions | Mapping[Side, Completions]
"""Completions that follow the prompts: the same for both models, or those of each side."""


def render_sides(pair: Pair, probes: ProbeSet, think: ThinkMode, answers: Answers | None) -> dict[Side, list[Rendered]]:
    """What each model reads: the same ids, or, where each side has its own answers, the same prompts with those.

    Where an id of the prompts means different tokens to the two tokenizers, each model reads its own template's
    rendering. Raises `MechdriftError` where an item has no answer, or a model lacks a token of its prompts.
    """
    if not isinstance(answers, Mapping):
        rendered = render_probes(pair, probes, think, answers)
        if mean_the_same(pair, rendered):
            return dict.fromkeys(SIDES, rendered)
        sides = {side: render_with(Renderer(pair.tokenizer(side)), probes, think, answers) for side in SIDES}
        check_rows(pair, sides)
        return sides
    if set(answers) != set(SIDES):
        raise MechdriftError(
            f"answers of each side are a mapping with the keys {' and '.join(SIDES)}, not "
            f"{', '.join(answers) or 'none'}."
        )
    return {side: render_probes(pair, probes, think, answers[side]) for side in SIDES}


def render_probes(pair: Pair, probes: ProbeSet, think: ThinkMode, answers: Completions | None) -> list[Rendered]:
    """Render through the reasoning model's template: the same token ids then serve both models."""
    return render_with(Renderer(pair.tokenizer("reasoning")), probes, think, answers)


def render_with(renderer: Renderer, probes: ProbeSet, think: ThinkMode, answers: Completions | None) -> list[Rendered]:
    """Each item as this renderer renders it, followed by its thinking (in the modes `own` and `donor`) and answer."""
    check_not_empty(probes)
    if answers is None:
        return render_items(renderer, probes.items, think)
    by_item = {row.item_id: row for row in answers.first}
    lacking = [item.id for item in probes if item.id not in by_item]
    if lacking:
        raise MechdriftError(
            f"{len(lacking)} of {len(probes)} items have no answer, such as {lacking[0]}: leave them out of the "
            "probe set."
        )
    return [
        renderer.render(
            item.id, item.prompt, think, thinking=by_item[item.id].thinking_ids, answer=by_item[item.id].answer_ids
        )
        for item in probes
    ]


def check_rows(pair: Pair, sides: Mapping[Side, Sequence[Rendered]]) -> None:
    """Raise where a prompt holds a token for which its model has no embedding. The thinking of a child may hold a token
    that its parent's vocabulary lacks."""
    for side, prompts in sides.items():
        rows, largest = vocabulary_of(pair, side), max((max(prompt.ids) for prompt in prompts), default=0)
        if largest >= rows:
            raise MechdriftError(
                f"token {largest} of the prompts is beyond the {rows} rows of {pair.source(side).name}'s vocabulary: "
                "leave out the items whose thinking or answer holds it."
            )


def mean_the_same(pair: Pair, rendered: Sequence[Rendered]) -> bool:
    """Whether every id of the prompts is the same token to both tokenizers. Some ids are not where a child renames a
    special token of its parent, as the R1 distillations of Qwen do."""
    ids = sorted({token for prompt in rendered for token in prompt.ids})
    ours, theirs = (pair.tokenizer(side).convert_ids_to_tokens(ids) for side in SIDES)
    return ours == theirs
