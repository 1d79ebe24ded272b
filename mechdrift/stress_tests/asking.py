"""What a stress test asks, one model after the other.

    plain      every item as it is, which also gives the thoughts that modes build on
    elicited   the parent, with a think block opened for it: what it writes there is the donor's thought
    cases      every mode at every dose with its placebo, on triggers and on twins; where a mode acts on the thinking,
               of the child alone

A mode that does not apply leaves a row with the reason instead.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from mechdrift.behaviour.backends.choosing import make_generator
from mechdrift.behaviour.backends.protocol import Generator
from mechdrift.behaviour.dimensions.registry import dimension_of
from mechdrift.behaviour.generation import ask, settle_budget
from mechdrift.behaviour.judges.external import RefusalJudge
from mechdrift.behaviour.labels import RULES
from mechdrift.behaviour.pilot import LEAST
from mechdrift.behaviour.sampling import AUTO, Budget
from mechdrift.behaviour.two_stages import Question
from mechdrift.pairs.loading import LanguageModel
from mechdrift.probes.rendering import Renderer
from mechdrift.records import Completions, ProbeItem, ProbeSet, Side, ThinkMode
from mechdrift.stress_tests.conversation import Case, Driver, Reply, make_driver
from mechdrift.stress_tests.mode import Make, Mode, NotApplicable, Subject, check, words_of

ELICITED, ATTACK, PLACEBO = "elicited", "attack", "placebo"
NO_ROOM = "the context of {} tokens is too short for this dose"
NOT_ASKED = "acts on the thinking, which the parent has none of"
Engine = str | Mapping[Side, str] | Callable[[LanguageModel], Generator]
"""What writes: the name of an engine, for both models or by side, or a function that makes a backend of a loaded
model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StressPlan:
    """What one stress test asks: probe sets by dimension, modes with their doses, and how the models are asked."""

    sets: Mapping[str, ProbeSet]
    modes: tuple[Mode, ...]
    think: Mapping[Side, ThinkMode]
    budget: Budget = AUTO
    think_max: int | None = None
    seed: int = 0
    engine: Engine = "hf"
    dtype: str | None = None
    inside: tuple[str, ...] = ()
    judge: RefusalJudge = RULES

    @property
    def items(self) -> list[ProbeItem]:
        return [item for probes in self.sets.values() for item in probes]

    @property
    def needs_donor(self) -> bool:
        return self.think["reasoning"] == "own" and any("donor" in mode.needs for mode in self.modes)

    def engine_of(self, side: Side) -> str:
        """The name of the engine that asks one model; "" for a function."""
        if callable(self.engine):
            return ""
        return self.engine if isinstance(self.engine, str) else self.engine[side]

    def backend(self, loaded: LanguageModel, side: Side) -> Generator:
        return self.engine(loaded) if callable(self.engine) else make_generator(self.engine_of(side), loaded)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One model's replies: the plain ones and those of every case. `skipped` says why modes did not apply: by
    dimension, mode and dose, how many items there are of each reason."""

    budget: Budget
    plain: Completions
    cases: tuple[tuple[Case, Reply], ...]
    skipped: Mapping[tuple[str, str, float], Counter]


def ask_side(
    loaded: LanguageModel, side: Side, plan: StressPlan, elicited: Mapping[str, str], store: Path | None = None
) -> Asked:
    """Ask one model everything. `elicited` are the parent's thoughts by item, for the child. Finished answers are kept
    in files whose names begin with `store`."""
    backend = plan.backend(loaded, side)
    plain, budget = _ask_plainly(loaded, side, plan, backend, store)
    driver = make_driver(loaded, backend, budget, plan.seed)
    subjects = _subjects(loaded, side, plan, plain, elicited)
    cases, skipped = _cases(driver, subjects, plan, side)
    file = store and store.with_name(f"{store.name}-cases.partial.jsonl")
    replies = driver.ask(cases, file, f"Stressing {side}")
    if side == "instruct" and plan.needs_donor:
        thinking, more = _eliciting(driver, subjects, plan)
        replies, cases = replies | thinking.ask(more, file, "Thoughts of the parent"), cases + more
    return Asked(budget=budget, plain=plain, cases=tuple((case, replies[case.key]) for case in cases), skipped=skipped)


def _ask_plainly(
    loaded: LanguageModel, side: Side, plan: StressPlan, backend: Generator, store: Path | None
) -> tuple[Completions, Budget]:
    """The plain answers, and the budget, which is also that of all modes."""
    questions = [Question(id=item.id, prompt=item.prompt) for item in plan.items]
    # A function that makes a backend stands for a rule, whose log-probabilities are nobody's.
    asking = partial(
        ask, loaded, side=side, think=plan.think[side], generator=backend, is_model=not callable(plan.engine)
    )
    limits = {"budget": plan.budget, "think_max": plan.think_max, "store": store}
    budget, known = settle_budget(asking, loaded, [questions], side, plan.think[side], **limits)
    kept = store and store.with_name(f"{store.name}-plain.partial.jsonl")
    return asking(questions, budget=budget, known=known, store=kept, description=f"Asking {side}"), budget


def _subjects(
    loaded: LanguageModel, side: Side, plan: StressPlan, plain: Completions, elicited: Mapping[str, str]
) -> list[Subject]:
    renderer = Renderer(
        loaded.tokenizer
    )  # made now, because the plain answers may have shown that there are no markers
    own = {row.item_id: row.thinking_ids for row in plain}
    think = plan.think[side] if renderer.convention.open else "none"
    return [
        Subject(
            item=item,
            side=side,
            think=think,
            renderer=renderer,
            text=words_of(renderer, item),
            thoughts={
                "own": own[item.id],
                "twin": own.get(item.twin, ()),
                "donor": renderer.encode_answer(elicited[item.id]) if elicited.get(item.id, "").strip() else (),
            },
            is_refusal=dimension_of(item.dimension).is_refusal,
            seed=plan.seed,
        )
        for item in plan.items
    ]


def _cases(
    driver: Driver, subjects: Sequence[Subject], plan: StressPlan, side: Side
) -> tuple[list[Case], dict[tuple[str, str, float], Counter]]:
    """All cases of one model, and the reasons why modes do not apply to items."""
    found: list[Case] = []
    skipped: dict[tuple[str, str, float], Counter] = {}
    for mode in plan.modes:
        for dose in mode.doses:
            for subject in subjects:
                try:
                    found += _cases_of(driver, mode, dose, subject, side)
                except NotApplicable as reason:
                    key = (subject.item.dimension, mode.name, dose)
                    skipped.setdefault(key, Counter())[str(reason)] += 1
    return found, skipped


def _cases_of(driver: Driver, mode: Mode, dose: float, subject: Subject, side: Side) -> list[Case]:
    """One item's cases under a mode: the attack and its placebo, each as often as samples are drawn."""
    if mode.place == "thinking" and side == "instruct":
        raise NotApplicable(NOT_ASKED)
    arms: list[tuple[str, Make]] = [(ATTACK, mode.apply), *([(PLACEBO, mode.placebo)] if mode.placebo else [])]
    attacks = [(arm, check(mode, subject, make(subject, dose))) for arm, make in arms]
    if not all(driver.fits(attack) for _, attack in attacks):
        raise NotApplicable(NO_ROOM.format(f"{driver.room:,}"))
    return [
        Case(
            mode=mode.name,
            dose=dose,
            arm=arm,
            subject=subject,
            attack=attack,
            sample=sample,
            temperature=mode.temperature,
        )
        for arm, attack in attacks
        for sample in range(mode.samples(dose))
    ]


def _eliciting(driver: Driver, subjects: Sequence[Subject], plan: StressPlan) -> tuple[Driver, list[Case]]:
    """The parent, with a think block opened for it, and as many tokens as the child may think. Its answer is not
    used."""
    think = LEAST.tokens[0] if plan.budget.think == "auto" else plan.budget.think
    driver = replace(driver, budget=Budget(think=think, answer=1))
    asked = [(subject, replace(subject, think="own").ask()) for subject in subjects if subject.renderer.convention.open]
    return driver, [
        Case(mode=ELICITED, dose=0, arm=ELICITED, subject=subject, attack=attack)
        for subject, attack in asked
        if driver.fits(attack)
    ]


def elicited_thoughts(asked: Asked) -> dict[str, str]:
    """What the parent wrote into the block that was opened for it, by item."""
    return {case.subject.item.id: reply.completion.thinking for case, reply in asked.cases if case.mode == ELICITED}


def grouped(asked: Asked) -> Iterator[tuple[tuple[str, float, str], list[tuple[Case, Reply]]]]:
    """The cases by mode, dose and arm."""
    groups: dict[tuple[str, float, str], list[tuple[Case, Reply]]] = {}
    for case, reply in asked.cases:
        groups.setdefault((case.mode, case.dose, case.arm), []).append((case, reply))
    yield from groups.items()
