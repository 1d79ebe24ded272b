"""Role columns: which tokens of a prompt a column of recorded activations stands for.

    template_tail               expands to one column per position, template_tail[-5] … template_tail[-1]
    answer[0], think_close[-1]  a single position, counted from the role's own start or end
    user, think, answer         all tokens of the role
    think[q1] … think[q4]       a quarter of them (of any role); `think[quarters]` expands to all four
    all                         the whole prompt

Of n tokens, quarter k holds those from floor((k - 1) n / 4) up to, not including, floor(k n / 4). Where there are fewer
than four tokens, a quarter that would be empty takes the token at which it begins (of two tokens: first, first,
second, second).

A model without think markers has no think block. In its prompts, `think_close[-1]` stands for the last token of the
tail, at which such a model decides its answer.
"""

import re
from collections.abc import Sequence

from mechdrift.records import MechdriftError, Rendered, Role, several

QUARTERS = ("q1", "q2", "q3", "q4")
BLOCK: set[Role] = {"think_open", "think", "think_close"}
BLOCK_END, TAIL_END = "think_close[-1]", "template_tail[-1]"
DEFAULT_ROLES = ("template_tail", BLOCK_END)


def role_columns(rendered: Sequence[Rendered], roles: str | Sequence[str]) -> tuple[str, ...]:
    """Expand role names to columns: `template_tail` becomes one per position, `think[quarters]` four, others stay.
    A column that is named twice is one. Raises where none is named."""
    columns: list[str] = []
    for role in several(roles):
        if role.endswith("[quarters]"):
            columns += [role.replace("quarters", quarter) for quarter in QUARTERS]
        elif role == "template_tail":
            width = min(stop - start for start, stop in (role_span(prompt, role) for prompt in rendered))
            columns += [f"template_tail[{i}]" for i in range(-width, 0)]
        else:
            columns.append(role)
    if not columns:
        raise MechdriftError(f"no role was given: give some of {', '.join(Role.__args__)}.")
    return tuple(dict.fromkeys(columns))


def role_span(prompt: Rendered, column: str) -> tuple[int, int]:
    """The half-open token span that a role column names in one prompt; `all` is the whole of it."""
    if column == "all":
        return 0, len(prompt.ids)
    if column == BLOCK_END and not BLOCK & set(prompt.roles):
        column = TAIL_END
    match = re.fullmatch(r"(\w+)(?:\[(-?\d+|q[1-4])\])?", column)
    if match is None or match[1] not in Role.__args__:
        raise MechdriftError(
            f"unknown role {column!r}: use one of {', '.join(Role.__args__)}, or one with an index such as 'answer[0]'."
        )
    if match[1] not in prompt.roles:
        raise MechdriftError(
            f"{prompt.item_id} has no role {match[1]!r} when rendered this way; it has {', '.join(prompt.roles)}."
        )
    start, stop = prompt.roles[match[1]]
    if match[2] is None:
        return start, stop
    if match[2] in QUARTERS:
        return _quarter(start, stop, QUARTERS.index(match[2]))
    position = int(match[2]) + (stop if match[2].startswith("-") else start)
    if not start <= position < stop:
        raise MechdriftError(f"{prompt.item_id}: {column!r} lies outside the role's {stop - start} tokens.")
    return position, position + 1


def _quarter(start: int, stop: int, index: int) -> tuple[int, int]:
    """A quarter of a span, at least one token; the module's text gives the rounding."""
    first, end = (start + (stop - start) * i // 4 for i in (index, index + 1))
    return first, max(end, first + 1)
