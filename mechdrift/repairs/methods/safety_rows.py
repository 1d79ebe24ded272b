"""Training rows that hold the parent's behaviour: a share of safety data, the steepest cliffs, own safe thoughts.

safety-share   rows of the child's own right answers to reasoning tasks, and a share of safety rows: the parent's
               aligned answers to the seen triggers, behind a short thought that weighs them, and the child's own
               help with as many of the seen twins (the parent's, where the child did not help), behind one that
               finds no harm. That is how `smollm2-sft-guarded` was trained, but with the parent's help (5 % of STAR-1
               rows do so at scale, Safe-s1.1, https://arxiv.org/abs/2510.21285). Twins behind the child's own
               thoughts, which weigh nothing, taught it to decline: measured in `experiments/repairs`
cliff-rows     the same, but of the triggers only those whose projection falls most at the end of thinking
               (Cliff-as-a-Judge, https://arxiv.org/abs/2510.06036)
think-safe     the child answers the seen triggers under a reminder; what is judged aligned is learned without it
               (ThinkSafe, https://arxiv.org/abs/2601.23143)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np
import pandas as pd

from mechdrift.behaviour.generation import ask
from mechdrift.behaviour.labels import judge_all
from mechdrift.behaviour.sampling import Budget
from mechdrift.behaviour.two_stages import Question
from mechdrift.directions.thinking import POSITIONS, READOUT_ROLE, along_thinking
from mechdrift.records import SIDES, MechdriftError, ProbeItem
from mechdrift.repairs.evidence import Evidence
from mechdrift.repairs.record import Repair
from mechdrift.repairs.training import Recipe, Row
from mechdrift.repairs.using import in_use
from mechdrift.repairs.words import SENTENCES, Words, reminder

WEIGHED = SENTENCES[0].strip()
HARMLESS = "Nothing about this does harm, so I can answer."
LAST_QUARTER = "think[q4]"
MOST = 96  # safety rows: enough for some fifty steps of training, minutes on a CPU


def share_of_safety(evidence: Evidence, strength: float) -> Recipe:
    return mixed(evidence, safety_rows(evidence, evidence.items), strength)


def steepest_cliffs(evidence: Evidence, strength: float) -> Recipe:
    falls = cliffs(evidence)
    count = max(1, round(strength * len(falls)))
    steepest = set(sorted(falls, key=lambda item: falls[item])[:count])
    chosen = [item for item in evidence.items if item.id in steepest or not item.is_trigger]
    return mixed(evidence, safety_rows(evidence, chosen), 0.5)


def own_safe_thoughts(evidence: Evidence, strength: float) -> Recipe:
    """The strength is the number of sentences in the reminder."""
    used = in_use(evidence.pair, Words(start=reminder(strength)), "float32", "")
    triggers = [item for item in evidence.items if item.is_trigger]
    asked = [Question(id=item.id, prompt=item.prompt) for item in triggers]
    budget = Budget(think=evidence.think_budget, answer=64)
    written = ask(used.loaded, asked, "reasoning", used.think, budget=budget, generator=used.generator, is_model=False)
    said, rows = reminder(strength), []
    for probes in evidence.sets.values():
        judged = judge_all(probes, written.of(probes)).set_index("item")
        for row in written.of(probes):
            if _is_aligned(judged, probes[row.item_id]):
                thought = row.thinking.removeprefix(said).strip()
                rows.append(Row(prompt=probes[row.item_id].prompt, thinking=thought or WEIGHED, answer=row.answer))
    return Recipe(rows=(*rows, *evidence.own_tasks[: len(rows)]))


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetyRows:
    """Rows that answer triggers as the parent did, and rows that help with their twins."""

    triggers: tuple[Row, ...]
    twins: tuple[Row, ...]

    def drawn(self, rng: np.random.Generator) -> list[Row]:
        """As many of either, at random, at most `MOST` together; all of one kind where there is none of the other."""
        kinds = [kind for kind in (self.triggers, self.twins) if kind]
        count = min([MOST // 2, *map(len, kinds)])
        return [kind[place] for kind in kinds for place in rng.permutation(len(kind))[:count]]


def safety_rows(evidence: Evidence, items: Sequence[ProbeItem]) -> SafetyRows:
    """What to say to each item: a trigger as the parent did, a twin as the child did, where that was aligned."""
    triggers, twins = [], []
    for name, probes in evidence.sets.items():
        parent, child = (evidence.judged(name, side) for side in SIDES)
        for item in (item for item in items if item in probes.items):
            if item.is_trigger and _is_aligned(parent, item):
                triggers.append(Row(prompt=item.prompt, thinking=WEIGHED, answer=parent.answer[item.id]))
            elif not item.is_trigger and (helped := [each for each in (child, parent) if _is_aligned(each, item)]):
                twins.append(Row(prompt=item.prompt, thinking=HARMLESS, answer=helped[0].answer[item.id]))
    return SafetyRows(triggers=tuple(triggers), twins=tuple(twins))


def _is_aligned(judged: pd.DataFrame, item: ProbeItem) -> bool:
    """Whether a model's answer to an item is aligned, and says something."""
    aligned = judged.aligned.get(item.id, False)
    return bool(not pd.isna(aligned) and aligned and judged.answer[item.id].strip())


def mixed(evidence: Evidence, safety: SafetyRows, share: float) -> Recipe:
    """Safety rows, and so many reasoning rows (again and again, if there are few) that the safety rows are the share;
    without reasoning rows, safety rows alone."""
    chosen = safety.drawn(np.random.default_rng(evidence.seed))
    own = islice(cycle(evidence.own_tasks), round((1 - share) / share * len(chosen)))
    return Recipe(rows=(*own, *chosen))


def cliffs(evidence: Evidence) -> dict[str, float]:
    """By trigger, how far the projection falls from the last quarter of the thinking to where the answer is decided."""
    name, layer = evidence.steered
    assert evidence.answers is not None  # the method says that it needs them
    answers = evidence.answers.completions(name, "reasoning")
    found = along_thinking(evidence.pair, evidence.sets[name], answers, evidence.directions[name], layer, draws=1)
    end, before = POSITIONS.index(READOUT_ROLE), POSITIONS.index(LAST_QUARTER)
    falls = found.reasoning[:, end] - found.reasoning[:, before]
    triggers = {item.id: float(fall) for item, fall in zip(found.probes, falls, strict=True) if item.is_trigger}
    if not triggers:
        raise MechdriftError(f"no thought about a {name} trigger was closed: give a larger budget.")
    return triggers


SHARE = Repair(
    name="safety-share",
    title="A share of safety data",
    paper="Safe-s1.1, https://arxiv.org/abs/2510.21285",
    about="Trains on the child's own reasoning and help, with a share of the parent's aligned answers to triggers.",
    needs=("parent", "probes", "answers", "gradients"),
    strengths=(0.25, 0.5),
    limits=(0.01, 1.0),
    dose="share of the rows",
    data=share_of_safety,
)
CLIFFS = Repair(
    name="cliff-rows",
    title="The steepest cliffs (Cliff-as-a-Judge)",
    paper="https://arxiv.org/abs/2510.06036",
    about="Trains on the parent's answers to the prompts at which the judgement falls most.",
    needs=("parent", "probes", "answers", "gradients"),
    strengths=(0.25, 0.5),
    limits=(0.01, 1.0),
    dose="share of the triggers",
    data=steepest_cliffs,
)
THINK_SAFE = Repair(
    name="think-safe",
    title="Own safe thoughts (ThinkSafe)",
    paper="https://arxiv.org/abs/2601.23143",
    about="Trains on what the child itself writes under a reminder, where that is aligned.",
    needs=("probes", "answers", "gradients"),
    strengths=(3,),
    limits=(1, len(SENTENCES)),
    dose="sentences of the reminder",
    data=own_safe_thoughts,
)
