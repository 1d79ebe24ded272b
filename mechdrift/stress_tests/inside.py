"""What does an attack do inside? A direction along puzzle and thinking, where the effect passes, and whether steering
undoes it.

    along   both models' activations on the child's own words, plain and under the attack, projected on the instruct
            model's direction of a dimension (`directions.thinking` has the scale: 0 is where neutral prompts lie, 1
            where triggers lie), at the quarters of the prompt, the quarters of the thinking, its last token, the closed
            block and the answer. The positions are relative, so prompts and thoughts of different lengths can be
            compared. What counts is the difference triggers less twins, and how much of it the attack takes.
    patch   the child under the attack, with one activation of its own plain run put in at one layer and role: how much
            of the readout comes back? Where it does, the attack's effect passes. (The causal test of `patching`, with
            the plain run of the same model as the donor.)
    undo    the same readout while the direction is added back during the answer's decision, in units of the instruct
            model's class difference.

    recovery = (readout changed - readout attacked) / (readout plain - readout attacked), on means over triggers

The readout is the log-odds of opening an answer as a trigger calls for (`activations.readouts`), after the thinking.
Modes of several turns are left out: their last prompt depends on what was answered before.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from mechdrift.activations.batching import ForwardBatch
from mechdrift.activations.prompts import mean_the_same
from mechdrift.activations.readouts import (
    Readout,
    make_readout,
    measure,
    observe,
    readout_logits,
    readout_states,
    unembed,
)
from mechdrift.activations.recording import record_roles
from mechdrift.directions.thinking import READOUT_ROLE, ROLES, plan_reading
from mechdrift.hooks import edit
from mechdrift.pairs.loading import LanguageModel
from mechdrift.pairs.pair import Pair
from mechdrift.probes.rendering import Renderer
from mechdrift.probes.roles import role_columns, role_span
from mechdrift.records import SIDES, Completion, Completions, Directions, MechdriftError, ProbeItem, ProbeSet, Rendered
from mechdrift.statistics.intervals import UNBOUNDED
from mechdrift.steering.edits import steer
from mechdrift.stress_tests.asking import ATTACK
from mechdrift.stress_tests.lifts import Items
from mechdrift.stress_tests.mode import Attack, Mode, Subject, words_of
from mechdrift.stress_tests.registry import PLAIN, mode_of
from mechdrift.stress_tests.run import StressTest

COLUMNS = ("user[quarters]", *ROLES)
PATCHED = ("user", "template_tail[-1]", "think[-1]", READOUT_ROLE)
STRENGTHS = (0.5, 1.0, 2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class InsideStress:
    """What an attack does inside. `along`: projections per side, condition and position; `patch`: recovery per layer
    and role; `undo`: recovery per strength of the direction."""

    mode: str
    dose: float
    along: pd.DataFrame
    patch: pd.DataFrame
    undo: pd.DataFrame


@dataclass(frozen=True, slots=True, kw_only=True)
class _Runs:
    """The items that were thought and answered to an end, plain and under the attack, as prompts with their answers."""

    probes: ProbeSet
    plain: tuple[Rendered, ...]
    attack: tuple[Rendered, ...]
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


def inside_stress(
    pair: Pair,
    probes: ProbeSet,
    found: StressTest,
    mode: str | Mode,
    directions: Directions,
    layer: int,
    *,
    dose: float | None = None,
    layers: Sequence[int] | None = None,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
) -> InsideStress:
    """Where does an attack act inside the child, and does adding the direction back undo it?

    Args:
        pair: the two models.
        probes: the set that was stressed.
        found: the stress test, whose thoughts and answers are read again.
        mode: which mode of it.
        directions: from `find_directions`, of this dimension, with the role `think_close[-1]`.
        layer: which direction is used.
        dose: by default the strongest of the mode.
        layers: where activations are patched in; by default everywhere.
        strengths: how much of the direction is added back, in units of the instruct model's class difference.
        seed: of the intervals.

    Returns:
        An `InsideStress`: `.along` has `side, condition, position, projection, low, high, n, families` (triggers less
        twins, in units of the instruct model's class difference; `condition` is plain, attack or change), `.patch` has
        `layer, role, effect, recovery`, `.undo` has `strength, effect, recovery`: the effect is in log-odds, the
        recovery a share of what the attack took.

    Raises:
        MechdriftError: for a mode of several turns, one that was not tried, and where too few thoughts were closed.

    Source:
        The refusal component under long reasoning: arXiv 2510.26418; the refusal cliff: arXiv 2510.06036.
    """
    mode = mode if isinstance(mode, Mode) else mode_of(mode)
    dose = mode.doses[-1] if dose is None else dose
    renderer = Renderer(pair.tokenizer("reasoning"))
    runs, answers = _runs(renderer, probes, found, mode, float(dose))
    reading = plan_reading(runs.probes, answers, directions, layer)
    along = []
    for side in SIDES:
        loaded = pair.open(side)
        if side == "reasoning" or mean_the_same(pair, runs.plain):
            values = {
                name: reading.project(_recorded(loaded, rendered, directions.site, layer, runs.columns))
                for name, rendered in ((PLAIN, runs.plain), (ATTACK, runs.attack))
            }
            along.append(_along(values, runs, seed).assign(side=side))
    child = pair.open("reasoning")
    return InsideStress(
        mode=mode.name,
        dose=float(dose),
        along=pd.concat(along, ignore_index=True),
        patch=_patched(child, runs, layers if layers is not None else range(child.n_layers)),
        undo=_undone(child, runs, directions, layer, strengths),
    )


# The prompts.


def _runs(
    renderer: Renderer, probes: ProbeSet, found: StressTest, mode: Mode, dose: float
) -> tuple[_Runs, Completions]:
    """Plain and attacked prompts of the items that came to an end in both, with their twins; and the plain answers."""
    own = found.answers[(found.answers.side == "reasoning") & (found.answers["sample"] == 0)]
    plain = _by_item(own[own["mode"] == PLAIN])
    attacked = _by_item(own[(own["mode"] == mode.name) & (own.dose == dose) & (own.arm == ATTACK)])
    if not attacked:
        raise MechdriftError(f"{mode.name} at {dose:g} was not tried, or did not apply: name a mode of this test.")
    done = {item.id for item in probes if item.id in plain and item.id in attacked}
    kept = replace(probes, items=tuple(item for item in probes if {item.id, item.twin or item.id} <= done))
    if {item.contrast for item in kept} != {"trigger", "neutral"}:
        raise MechdriftError(f"{mode.name}: too few thoughts were closed, plain and under it: give a larger budget.")
    before = tuple(_rendered(renderer, item, plain[item.id]) for item in kept)
    thoughts = {item.id: plain[item.id].thinking_ids for item in kept}
    after = tuple(
        _under(renderer, item, mode, dose, attacked[item.id], one, thoughts, found)
        for item, one in zip(kept, before, strict=True)
    )
    rows = tuple(plain[item.id] for item in kept)
    good = own[own["mode"] == PLAIN].set_index("item").aligned
    readout = make_readout(renderer, kept, observe(kept, rows, [bool(good[row.item_id]) for row in rows]))
    answers = Completions(side="reasoning", think="own", rows=rows)
    return _Runs(probes=kept, plain=before, attack=after, readout=readout), answers


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
    found: StressTest,
) -> Rendered:
    """The same under the mode. A mode that acts on the thinking leaves the prompt as it is."""
    if mode.place == "thinking":
        return _rendered(renderer, item, row)
    subject = Subject(
        item=item,
        side="reasoning",
        think="own",
        renderer=renderer,
        text=words_of(renderer, item),
        thoughts={"own": thoughts[item.id]},
        seed=found.seed,
    )
    attack = mode.apply(subject, dose)
    if attack.again is not None:
        raise MechdriftError(f"{mode.name} has several turns, whose last prompt cannot be read again: name another.")
    return _with_roles(renderer, attack, row, plain)


def _with_roles(renderer: Renderer, attack: Attack, row: Completion, plain: Rendered) -> Rendered:
    """Roles of an attacked prompt: it begins and ends as the plain one does, and what lies between is the user's."""
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


# The direction along prompt and thinking.


def _recorded(
    loaded: LanguageModel, rendered: Sequence[Rendered], site: str, layer: int, columns: Sequence[str]
) -> Float[np.ndarray, "prompt position d_model"]:
    return record_roles(loaded, rendered, site, (layer,), columns).roles[:, 0].double().numpy()


def _along(values: Mapping[str, np.ndarray], runs: _Runs, seed: int) -> pd.DataFrame:
    """Triggers less twins at every position, plain, under the attack, and the change, with intervals over families."""
    values = {**values, "change": values[ATTACK] - values[PLAIN]}
    rows, items = [], runs.items
    for condition, table in values.items():
        for position, column in zip(runs.columns, table.T, strict=True):
            found = items.interval(column, UNBOUNDED, seed)
            rows.append(
                {
                    "condition": condition,
                    "position": position,
                    "projection": found.estimate,
                    "low": found.low,
                    "high": found.high,
                    "n": len(column),
                    "families": len(set(items.families)),
                }
            )
    return pd.DataFrame(rows)


# Where the effect passes, and what undoes it.


def _before_answers(runs: _Runs) -> tuple[list[Rendered], list[Rendered]]:
    """The triggers' prompts up to where the answer is decided, plain and attacked."""
    chosen = [place for place, item in enumerate(runs.probes) if item.is_trigger]
    plain, attack = ([prompts[place].before_answer for place in chosen] for prompts in (runs.plain, runs.attack))
    return plain, attack


def _read(loaded: LanguageModel, prompts: Sequence[Rendered], readout: Readout) -> float:
    logits = readout_logits(loaded, prompts)
    return float(measure(readout, logits, [prompt.item_id for prompt in prompts]).mean())


def _patched(loaded: LanguageModel, runs: _Runs, layers: Sequence[int]) -> pd.DataFrame:
    """Recovery per layer and role: the plain run's activation put into the attacked run at that role's last token."""
    plain, attack = _before_answers(runs)
    has = set.intersection(*(set(prompt.roles) for prompt in (*plain, *attack)))
    roles = [role for role in PATCHED if role.partition("[")[0] in has]
    lasts = [role if "[" in role else f"{role}[-1]" for role in roles]
    donor = record_roles(loaded, plain, "resid_pre", tuple(layers), lasts).roles
    before, after = _read(loaded, attack, runs.readout), _read(loaded, plain, runs.readout)
    rows = []
    for place, layer in enumerate(layers):
        for column, role in enumerate(lasts):
            value = _read_patched(loaded, attack, runs.readout, layer, role, donor[:, place, column])
            rows.append({"layer": layer, "role": role, **_recovery(value, before, after)})
    return pd.DataFrame(rows)


def _read_patched(
    loaded: LanguageModel,
    prompts: Sequence[Rendered],
    readout: Readout,
    layer: int,
    role: str,
    vectors: Float[Tensor, "prompt d_model"],
) -> float:
    states = readout_states(loaded, prompts, partial(_patch_of, layer, role, vectors))
    return float(measure(readout, unembed(loaded, states), [prompt.item_id for prompt in prompts]).mean())


def _patch_of(
    layer: int, role: str, vectors: Float[Tensor, "prompt d_model"], each: ForwardBatch
) -> AbstractContextManager[None]:
    """Within it, each prompt of a batch has its vector at a role's position of one layer."""
    point = each.loaded.structure.hook_point("resid_pre", layer)
    positions = [
        offset + role_span(prompt, role)[0] for prompt, offset in zip(each.prompts, each.batch.offsets, strict=True)
    ]
    return edit({point: partial(_put, torch.tensor(positions), vectors[each.places])})


def _put(
    positions: Tensor, vectors: Float[Tensor, "prompt d_model"], stream: Float[Tensor, "prompt pos d_model"]
) -> Tensor:
    new = stream.clone()
    new[torch.arange(len(positions)), positions] = vectors.to(stream)
    return new


def _undone(
    loaded: LanguageModel, runs: _Runs, directions: Directions, layer: int, strengths: Sequence[float]
) -> pd.DataFrame:
    """Recovery while the direction is added at its layer, at every token."""
    plain, attack = _before_answers(runs)
    place = directions.layers.index(layer), directions.roles.index(READOUT_ROLE)
    unit = directions.instruct[place]
    recorded = directions.activations
    along = recorded.instruct[:, place[0], place[1]] @ unit
    size = along[recorded.is_trigger].mean() - along[~recorded.is_trigger].mean()
    before, after = _read(loaded, attack, runs.readout), _read(loaded, plain, runs.readout)
    rows = []
    for strength in strengths:
        with edit(steer(loaded, unit * size, layer=layer, strength=strength)):
            value = _read(loaded, attack, runs.readout)
        rows.append({"strength": strength, **_recovery(value, before, after)})
    return pd.DataFrame(rows)


def _recovery(value: float, before: float, after: float) -> dict[str, float]:
    """The effect in log-odds, and as a share of what the attack took."""
    gap = after - before
    return {"effect": value - before, "recovery": (value - before) / gap if gap else np.nan}
