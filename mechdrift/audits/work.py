"""How much work is each stage of an audit? Counted from its plan, in the units in which a machine can be timed
(`audits.calibration`); no weights are needed.

    written      tokens that a model writes               prompts     tokens of prompts that it reads before
    read         tokens that pass through all layers, in the format of what is measured inside
    unembedded   positions whose distribution over the vocabulary is taken
    loaded       times that weights are read              compared    times that all of them are hashed or compared
    statistics   units of resampling

A question costs what the model writes on it, so how long its thoughts and answers are decides: `Lengths`, which a
calibration measures. Tokens of prompts are counted; those of cells of a patch grid follow from the staircase of
`patching.replay`: (L+1)/2L of all layers, from the patched position to the end. A backward pass counts as two forward
ones. Resampling depends on no model: its units were counted in a profile of the quick preset.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from mechdrift.audits.config import Size
from mechdrift.audits.plan import AuditPlan
from mechdrift.audits.stages.order import stages_of
from mechdrift.audits.stages.pair import CHECKED
from mechdrift.audits.stages.questions import asked_of
from mechdrift.behaviour.dimensions.registry import dimension_of
from mechdrift.behaviour.pilot import QUESTIONS
from mechdrift.probes.sets import load_sentences
from mechdrift.records import SIDES, Side

TEMPLATE = 8  # positions between the request and the answer: those that a grid patches beside the request's mean
SWEPT = 14.0  # passes over the steered prompts that a selection of directions and its two curves take
SENTENCE = 14  # tokens of one of the two sentences of a minimal pair
STATISTICS = {  # units (`calibration.time_statistics`) of each dimension; of `drift` of each of its layers, too
    "pair": 7.0,
    "scores": 11.0,
    "kl": 7.0,
    "drift": 1.4,
    "readouts": 8.0,
    "patch": 20.0,
}
PASSES_OVER_WEIGHTS = 4.0  # hashed, written, read and compared
DIVERGENCE = 0.3  # of a position over the vocabulary: without a comparison of two distributions


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """What one model is asked and writes, in tokens: of a prompt, and in the mean of a thought and an answer."""

    prompt: float
    think: float
    answer: float

    @property
    def written(self) -> float:
        return self.think + self.answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one stage takes of one model; see the module."""

    written: float = 0.0
    prompts: float = 0.0
    read: float = 0.0
    unembedded: float = 0.0
    loaded: float = 0.0
    compared: float = 0.0
    statistics: float = 0.0

    def seconds(self, pace: "Work") -> float:
        """At a machine's pace: seconds of one unit of each."""
        return sum(getattr(self, field.name) * getattr(pace, field.name) for field in fields(self))


def work_of(
    plan: AuditPlan, lengths: Mapping[Side, Lengths], questions: int, layers: int, resident: bool
) -> dict[str, dict[Side, Work]]:
    """The work of every stage, by side. `questions` are asked of each model; `resident` says that models small enough
    stay in memory, so that they are loaded once."""
    return {
        stage.name: _stage(stage.name, plan, lengths, questions, layers, resident) for stage in stages_of(plan.config)
    }


def _stage(
    name: str, plan: AuditPlan, lengths: Mapping[Side, Lengths], questions: int, layers: int, resident: bool
) -> dict[Side, Work]:
    dimensions, items = len(plan.sets), sum(map(len, plan.sets.values()))
    in_waves = 0 if plan.waves is None else items * plan.config.samples  # asked before the stage `answers`
    units = STATISTICS.get(name, 0.0) * dimensions * (layers if name == "drift" else 1) / len(SIDES)
    loads = name in ("pair", "pilot", "waves", "answers", "kl") or (not resident and name in ("drift", "patch"))
    taken = {"loaded": float(loads), "statistics": units}
    followed = lengths["reasoning"]
    found: dict[Side, Work] = {}
    for side in SIDES:
        own = lengths[side]
        answered = own.prompt + lengths["instruct"].answer  # both models read the instruct model's answers
        if name == "pair":
            work = {"read": CHECKED * dimensions * own.prompt, "compared": PASSES_OVER_WEIGHTS}
        elif name == "pilot":
            work = {"written": QUESTIONS * own.written, "prompts": QUESTIONS * own.prompt}
        elif name == "waves":
            work = {"written": in_waves * own.written, "prompts": in_waves * own.prompt}
        elif name == "answers":
            again = items * (own.prompt + followed.think)  # what is unembedded before the first answer token
            compared = (
                2 * SENTENCE * len(load_sentences()) * any(dimension_of(each).asks_sentences for each in plan.sets)
            )
            rest = questions - in_waves
            work = {"written": rest * own.written, "prompts": rest * own.prompt + again + compared}
            work |= {"unembedded": DIVERGENCE * compared}
        elif name == "kl":
            compared = dimensions * 2 * plan.size.kl
            work = {"read": compared * answered, "unembedded": compared * lengths["instruct"].answer}
        elif name == "drift":
            thoughts = dimensions * 2 * plan.size.thinking * (own.prompt + followed.written)
            swept = SWEPT * 2 * plan.size.steered * own.prompt
            work = {"read": items * answered + thoughts + swept}
        elif name == "readouts":
            work = {"unembedded": 4 * DIVERGENCE * items}
        elif name == "patch":
            work = {"read": dimensions * plan.size.patched * _grid(plan.size, own.prompt, layers)}
        else:
            work = {}
        found[side] = Work(**taken | work)
    return found


def _grid(size: Size, prompt: float, layers: int) -> float:
    """Tokens that pass through all layers for one prompt's grids into one model."""
    patched = len({*range(0, layers, size.layer_step), layers - 1})
    request = patched * prompt / 2  # the mean of the request is patched from its beginning
    cells = (request + patched * TEMPLATE * TEMPLATE / 2) / 2
    grafts = layers / size.layer_step * prompt / 2 if size.grafts else 0.0
    placebos = 3 * cells / TEMPLATE if size.grafts else 0.0
    return 2 * prompt + cells + grafts + placebos


# A machine of two cores with a model of 135 million parameters: only the stages' proportions count.
SOME_PACE = Work(written=0.004, prompts=0.001, read=0.002, unembedded=0.001, loaded=3.0, compared=0.3, statistics=0.02)
SOME_PROMPT, SOME_THOUGHT, SOME_ANSWER = 60.0, 500.0, 60.0


def proportions(plan: AuditPlan, layers: int) -> dict[str, float]:
    """What each stage is of an audit, as seconds of some machine, before anything is measured: for the time left."""
    think = plan.config.budget.think
    thought = min(think, SOME_THOUGHT) / 2 if isinstance(think, int) else SOME_THOUGHT
    lengths = {
        side: Lengths(prompt=SOME_PROMPT, think=thought if plan.modes[side] == "own" else 0.0, answer=SOME_ANSWER / 2)
        for side in SIDES
    }
    sets, others = asked_of(plan)
    questions = (sum(map(len, (*sets, *others))) + plan.size.tasks) * plan.config.samples
    work = work_of(plan, lengths, questions, layers, resident=True)
    return {name: sum(each.seconds(SOME_PACE) for each in sides.values()) for name, sides in work.items()}
