"""How much work is each stage of an audit? It is counted from the plan, in units that can be timed on a machine
(`audits.calibration`). No weights are needed.

    written      tokens that a model writes
    prompts      tokens of prompts that it reads before it writes
    reread       tokens of what was written that it reads again, in the number format of writing
    read         tokens that pass through all layers, in the number format of the measurements inside
    unembedded   positions at which the distribution over the vocabulary is computed
    loaded       times that weights are loaded
    compared     times that all weights are hashed or compared
    statistics   units of resampling

The cost of a question depends most on how long the thought and the answer are (`Lengths`), which a calibration
measures. Tokens of prompts are counted. A cell of a patch grid runs (L+1)/2L of all layers on average, from the patched
position to the end (the staircase of `patching.replay`). A backward pass counts as two forward passes. Resampling
depends on no model: its units were counted in a profile of the quick preset.
"""

from collections.abc import Callable, Mapping
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
SWEPT = 14.0  # passes over the steered prompts, for the selection of a direction and its two curves
SENTENCE = 14  # tokens of one of the two sentences of a minimal pair
STATISTICS = {  # units (`calibration.time_statistics`) per dimension; of `drift` per dimension and layer
    "pair": 7.0,
    "scores": 11.0,
    "kl": 7.0,
    "drift": 1.4,
    "readouts": 8.0,
    "patch": 20.0,
}
PASSES_OVER_WEIGHTS = 4.0  # hashed, written, read and compared
DIVERGENCE = 0.3  # of the cost of `unembedded`, where two distributions are not compared


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Mean tokens of one model's prompts, thoughts and answers."""

    prompt: float
    think: float
    answer: float

    @property
    def written(self) -> float:
        return self.think + self.answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The work of one stage with one model, in the units that the module names."""

    written: float = 0.0
    prompts: float = 0.0
    reread: float = 0.0
    read: float = 0.0
    unembedded: float = 0.0
    loaded: float = 0.0
    compared: float = 0.0
    statistics: float = 0.0

    def seconds(self, pace: "Work") -> float:
        """The seconds that this work takes. `pace` holds the seconds of one unit of each kind."""
        return sum(getattr(self, field.name) * getattr(pace, field.name) for field in fields(self))


def work_of(
    plan: AuditPlan, lengths: Mapping[Side, Lengths], questions: int, layers: int, resident: bool
) -> dict[str, dict[Side, Work]]:
    """The work of every stage, by side. `questions` is how many are asked of each model; `resident` says whether the
    models stay in memory, so that each is loaded once."""
    return {
        stage.name: _stage(stage.name, plan, lengths, questions, layers, resident) for stage in stages_of(plan.config)
    }


def _stage(
    name: str, plan: AuditPlan, lengths: Mapping[Side, Lengths], questions: int, layers: int, resident: bool
) -> dict[Side, Work]:
    units = STATISTICS.get(name, 0.0) * len(plan.sets) * (layers if name == "drift" else 1) / len(SIDES)
    loads = name in ("pair", "pilot", "waves", "answers", "kl") or (not resident and name in ("drift", "patch"))
    found: dict[Side, Work] = {}
    for side in SIDES:
        asked = _Asked(plan=plan, lengths=lengths, side=side, questions=questions, layers=layers)
        own = OF_STAGES[name](asked) if name in OF_STAGES else {}
        found[side] = Work(loaded=float(loads), statistics=units, **own)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What the work of a stage with one model is computed from."""

    plan: AuditPlan
    lengths: Mapping[Side, Lengths]
    side: Side
    questions: int
    layers: int

    @property
    def own(self) -> Lengths:
        return self.lengths[self.side]

    @property
    def dimensions(self) -> int:
        return len(self.plan.sets)

    @property
    def items(self) -> int:
        return sum(map(len, self.plan.sets.values()))

    @property
    def in_waves(self) -> int:
        """Questions that are asked before the stage `answers`."""
        return 0 if self.plan.waves is None else self.items * self.plan.config.samples

    @property
    def answered(self) -> float:
        """Tokens of a prompt with the instruct model's answer, which both models read."""
        return self.own.prompt + self.lengths["instruct"].answer


def _of_pair(asked: _Asked) -> dict[str, float]:
    return {"read": CHECKED * asked.dimensions * asked.own.prompt, "compared": PASSES_OVER_WEIGHTS}


def _of_pilot(asked: _Asked) -> dict[str, float]:
    return {"written": QUESTIONS * asked.own.written, "prompts": QUESTIONS * asked.own.prompt}


def _of_waves(asked: _Asked) -> dict[str, float]:
    return {"written": asked.in_waves * asked.own.written, "prompts": asked.in_waves * asked.own.prompt}


def _of_answers(asked: _Asked) -> dict[str, float]:
    own, rest = asked.own, asked.questions - asked.in_waves
    again = asked.items * (own.prompt + asked.lengths["reasoning"].think)  # up to the first answer token
    asks_sentences = any(dimension_of(name).asks_sentences for name in asked.plan.sets)
    compared = 2 * SENTENCE * len(load_sentences()) * asks_sentences
    return {
        "written": rest * own.written,
        "prompts": rest * own.prompt,
        "reread": again + compared,
        "unembedded": DIVERGENCE * compared,
    }


def _of_kl(asked: _Asked) -> dict[str, float]:
    compared = asked.dimensions * 2 * asked.plan.size.kl
    return {"read": compared * asked.answered, "unembedded": compared * asked.lengths["instruct"].answer}


def _of_drift(asked: _Asked) -> dict[str, float]:
    size = asked.plan.size
    thoughts = asked.dimensions * 2 * size.thinking * (asked.own.prompt + asked.lengths["reasoning"].written)
    return {"read": asked.items * asked.answered + thoughts + SWEPT * 2 * size.steered * asked.own.prompt}


def _of_readouts(asked: _Asked) -> dict[str, float]:
    return {"unembedded": 4 * DIVERGENCE * asked.items}


def _of_patch(asked: _Asked) -> dict[str, float]:
    size = asked.plan.size
    return {"read": asked.dimensions * size.patched * _grid(size, asked.own.prompt, asked.layers)}


OF_STAGES: dict[str, Callable[[_Asked], dict[str, float]]] = {
    "pair": _of_pair,
    "pilot": _of_pilot,
    "waves": _of_waves,
    "answers": _of_answers,
    "kl": _of_kl,
    "drift": _of_drift,
    "readouts": _of_readouts,
    "patch": _of_patch,
}


def _grid(size: Size, prompt: float, layers: int) -> float:
    """Tokens that pass through all layers for all grids of one prompt with one model as recipient."""
    patched = len({*range(0, layers, size.layer_step), layers - 1})
    request = patched * prompt / 2  # the mean of the request is patched from its beginning
    cells = (request + patched * TEMPLATE * TEMPLATE / 2) / 2
    grafts = layers / size.layer_step * prompt / 2 if size.grafts else 0.0
    placebos = 3 * cells / TEMPLATE if size.grafts else 0.0
    return 2 * prompt + cells + grafts + placebos


# Measured on two cores with a model of 135 million parameters; only the proportions of the stages are used.
SOME_PACE = Work(
    written=0.004,
    prompts=0.001,
    reread=0.001,
    read=0.002,
    unembedded=0.001,
    loaded=3.0,
    compared=0.3,
    statistics=0.02,
)
SOME_PROMPT, SOME_THOUGHT, SOME_ANSWER = 60.0, 500.0, 60.0


def proportions(plan: AuditPlan, layers: int) -> dict[str, float]:
    """The work of each stage in seconds of some machine, before anything is measured. Only the proportions count: they
    give the time left."""
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
