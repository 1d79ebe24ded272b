"""The answers of a stress test as teacher-forced prompts, plain and under an attack, so that they can be read again.

Items count whose thought and answer came to an end both plainly and under the attack, with their twins. An attacked
prompt begins and ends as the plain one does; everything between belongs to the role `user`, then come the thought, the
marker that closes it, and the answer. Modes of several turns are left out: their last prompt depends on the answers
before it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Bool

from mechdrift.activations.readouts import Readout, make_readout, observe
from mechdrift.directions.thinking import ROLES
from mechdrift.probes.rendering import Renderer
from mechdrift.probes.roles import role_columns
from mechdrift.records import Completion, Completions, MechdriftError, ProbeItem, ProbeSet, Rendered
from mechdrift.stress_tests.asking import ATTACK
from mechdrift.stress_tests.lifts import Items
from mechdrift.stress_tests.mode import Attack, Mode, Subject, words_of
from mechdrift.stress_tests.registry import PLAIN

COLUMNS = ("user[quarters]", *ROLES)


@dataclass(frozen=True, slots=True, kw_only=True)
class BothPrompts:
    """Prompts with their thoughts and answers, plain and under the attack, in the order of `probes`; which of these
    answers are aligned, in rows plain and attack; and a readout that was calibrated on the plain answers."""

    probes: ProbeSet
    plain: tuple[Rendered, ...]
    attack: tuple[Rendered, ...]
    aligned: Bool[np.ndarray, "2 prompt"]
    readout: Readout

    @property
    def items(self) -> Items:
        is_trigger = np.array([item.is_trigger for item in self.probes])
        return Items(is_trigger=is_trigger, families=np.array([item.family for item in self.probes]))

    @property
    def columns(self) -> tuple[str, ...]:
        """The positions that every prompt has."""
        prompts = (*self.plain, *self.attack)
        roles = set.intersection(*(set(prompt.roles) for prompt in prompts))
        return role_columns(prompts, [column for column in COLUMNS if column.partition("[")[0] in roles])


def both_prompts(
    renderer: Renderer, probes: ProbeSet, answers: pd.DataFrame, mode: Mode, dose: float, seed: int
) -> tuple[BothPrompts, Completions]:
    """Both prompts of every item that came to an end in both, and the plain answers as records; `answers` and `seed`
    are the stress test's."""
    own = answers[(answers.side == "reasoning") & (answers["sample"] == 0)]
    asked = own[own["mode"] == PLAIN], own[(own["mode"] == mode.name) & (own.dose == dose) & (own.arm == ATTACK)]
    plain, attacked = map(_by_item, asked)
    if asked[1].empty:
        raise MechdriftError(f"{mode.name} at {dose:g} was not tried, or did not apply: name a mode of this test.")
    done = {item.id for item in probes if item.id in plain and item.id in attacked}
    kept = replace(probes, items=tuple(item for item in probes if {item.id, item.twin or item.id} <= done))
    if {item.contrast for item in kept} != {"trigger", "neutral"}:
        raise MechdriftError(f"{mode.name}: too few thoughts were closed, plain and under it: give a larger budget.")
    before = tuple(_rendered(renderer, item, plain[item.id]) for item in kept)
    thoughts = {item.id: plain[item.id].thinking_ids for item in kept}
    after = tuple(
        _under(renderer, item, mode, dose, attacked[item.id], one, thoughts, seed)
        for item, one in zip(kept, before, strict=True)
    )
    rows = tuple(plain[item.id] for item in kept)
    good = [table.set_index("item").aligned for table in asked]
    aligned = np.array([[bool(each[item.id]) for item in kept] for each in good])
    readout = make_readout(renderer, kept, observe(kept, rows, aligned[0].tolist()))
    both = BothPrompts(probes=kept, plain=before, attack=after, aligned=aligned, readout=readout)
    return both, Completions(side="reasoning", think="own", rows=rows)


def _by_item(table: pd.DataFrame) -> dict[str, Completion]:
    """The answers that were finished, as records."""
    rows = table[table.closed.astype(bool) & table.aligned.notna() & (table.answer_tokens > 0)]
    return {
        row["item"]: Completion(
            item_id=row["item"],
            side="reasoning",
            think=row["think"],
            thinking=row["thinking"],
            answer=row["answer"],
            thinking_ids=tuple(map(int, row["thinking_ids"])),
            answer_ids=tuple(map(int, row["answer_ids"])),
            closed=True,
            finished=bool(row["finished"]),
        )
        for row in rows.to_dict("records")
    }


def _rendered(renderer: Renderer, item: ProbeItem, row: Completion) -> Rendered:
    """A plain prompt with a thought (or an empty block) and its answer."""
    think = "donor" if row.thinking_ids else "off"
    return renderer.render(item.id, item.prompt, think, thinking=row.thinking_ids, answer=row.answer_ids)


def _under(
    renderer: Renderer,
    item: ProbeItem,
    mode: Mode,
    dose: float,
    row: Completion,
    plain: Rendered,
    thoughts: Mapping[str, tuple[int, ...]],
    seed: int,
) -> Rendered:
    """The prompt under the mode, with its thought and answer. A mode that acts on the thinking leaves the prompt as it
    is."""
    if mode.place == "thinking":
        return _rendered(renderer, item, row)
    subject = Subject(
        item=item,
        side="reasoning",
        think="own",
        renderer=renderer,
        text=words_of(renderer, item),
        thoughts={"own": thoughts[item.id]},
        seed=seed,
    )
    attack = mode.apply(subject, dose)
    if attack.again is not None:
        raise MechdriftError(f"{mode.name} has several turns, whose last prompt cannot be read again: name another.")
    return _with_roles(renderer, attack, row, plain)


def _with_roles(renderer: Renderer, attack: Attack, row: Completion, plain: Rendered) -> Rendered:
    """An attacked prompt with roles. It begins and ends as the plain one does; everything between is the user's."""
    ends = [plain.roles[role] for role in ("template_tail", "think_open") if role in plain.roles]
    tail = sum(stop - start for start, stop in ends)
    system = plain.roles.get("system", (0, 0))[1]
    parts = {
        "system": attack.ids[:system],
        "user": attack.ids[system : len(attack.ids) - tail],
        **_split(attack.ids[len(attack.ids) - tail :], plain),
        "think": row.thinking_ids,
        "think_close": renderer.closing_after(row.thinking_ids),
        "answer": row.answer_ids,
    }
    ids: list[int] = []
    roles: dict[str, tuple[int, int]] = {}
    for role, part in parts.items():
        if part:
            roles[role] = (len(ids), len(ids) + len(part))
            ids += part
    return Rendered(item_id=row.item_id, ids=tuple(ids), roles=roles)


def _split(tail: tuple[int, ...], plain: Rendered) -> dict[str, tuple[int, ...]]:
    start, stop = plain.roles["template_tail"]
    return {"template_tail": tail[: stop - start], "think_open": tail[stop - start :]}
