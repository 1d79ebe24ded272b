"""How fast is this machine with these two models, and how many tokens do the models write? Both are measured on ten
seconds of the stages' own work: five seconds per model, once its weights are loaded, and more where thoughts are long.

    written      seconds per token that is written. Some questions of the audit are asked with a few rows in a batch,
                 then with more. A decoding step of R rows takes a + b R seconds, so a token takes a / R + b seconds
                 at the audit's own number of rows
    lengths      tokens of a thought and of an answer. The length of a thought that the calibration cut is not known, so
                 each token is given the same chance to be the last: the mean is all tokens / thoughts that ended,
                 within the room there is. Where no thought ended, a few questions are asked for half a minute more;
                 where none ended then either, all the room is counted, and a note says so
    read         seconds per token of a prompt in plain passes, in the number format of writing (`reread`) and in that
                 of the measurements inside; and seconds per position that is unembedded
    statistics   seconds per unit of resampling

A machine that is busy with something else is slower now than it will be later. On a CPU the time that other processes
took is therefore subtracted, but never so much that less than the CPU seconds of this process remain.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import exp
from typing import TypeVar

import numpy as np
import psutil
import torch
from jaxtyping import Float
from scipy.optimize import nnls
from torch import Tensor

from mechdrift.activations.batching import forward_batches
from mechdrift.audits.plan import AuditPlan, analysis_dtype, generation_dtype
from mechdrift.audits.stages.pilot import question_groups
from mechdrift.audits.work import Lengths, Work
from mechdrift.behaviour.backends.choosing import make_generator
from mechdrift.behaviour.backends.hugging_face import ROWS_ON_CPU, ROWS_ON_GPU
from mechdrift.behaviour.divergence import coarse_kl, keep
from mechdrift.behaviour.generation import ask
from mechdrift.behaviour.pilot import choose, find_room
from mechdrift.behaviour.sampling import Budget
from mechdrift.behaviour.two_stages import Question
from mechdrift.pairs.loading import LanguageModel, fingerprint, resolve_device
from mechdrift.pairs.pair import Pair
from mechdrift.probes.rendering import Renderer
from mechdrift.records import SIDES, Completions, Rendered, Side, ThinkMode
from mechdrift.statistics.resampling import family_draws

SECONDS = 4.0  # of a model's writing; the rest of five go to reading
LONGER = 30.0  # seconds more, where no thought ended within those
FEW, SOME, MORE, STEPS = 4, 8, 16, 8  # rows (those of `LONGER` are some), and tokens that the few write
SLOWER = 1.5  # a step of more rows than of few, until it is measured
LEAST = 48  # tokens of thinking and answer that are waited for on any machine
POSITIONS = 64
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """One model on this machine: the pace of each unit of work in seconds, its lengths in tokens, and a `note` on what
    could not be measured (empty where everything was)."""

    pace: Work
    lengths: Lengths
    note: str


@dataclass(frozen=True, slots=True)
class Clock:
    """Times work. On a CPU with this many threads, the time that other processes took is subtracted; on a GPU (0
    threads) it is not."""

    threads: int

    def time(self, work: Callable[[], T]) -> tuple[T, float]:
        """The result of the work, and the seconds it took."""
        wall, own, everyone = time.perf_counter(), time.process_time(), _busy()
        found = work()
        wall, own = time.perf_counter() - wall, time.process_time() - own
        if not self.threads:
            return found, wall
        others = max(0.0, _busy() - everyone - own) / (wall * (psutil.cpu_count() or 1))
        return found, max(own / self.threads, wall * (1 - min(1.0, others)))


def _busy() -> float:
    """CPU seconds that all processes together have used."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0)


def calibrate(pair: Pair, plan: AuditPlan) -> dict[Side, Calibration]:
    """Calibrate both models, one after the other. They are opened as the audit would open them."""
    on_cpu = plan.config.device_map is None and resolve_device(plan.config.device) == "cpu"
    clock = Clock(torch.get_num_threads() if on_cpu else 0)
    return {side: calibrate_side(pair, plan, side, clock) for side in SIDES}


def calibrate_side(pair: Pair, plan: AuditPlan, side: Side, clock: Clock) -> Calibration:
    """One model's pace and lengths."""
    groups = question_groups(plan)
    questions, everything = choose(groups, MORE), [question for group in groups for question in group]
    pace, lengths, note = time_writing(pair, plan, side, questions, everything, clock)
    loaded, load = clock.time(lambda: pair.open(side, analysis_dtype(plan.config)))
    pace = replace(pace, loaded=max(pace.loaded, load), statistics=time_statistics(clock))
    pace = replace(pace, **time_reading(loaded, questions, clock))
    return Calibration(pace=pace, lengths=lengths, note=note)


def time_writing(
    pair: Pair,
    plan: AuditPlan,
    side: Side,
    questions: Sequence[Question],
    everything: Sequence[Question],
    clock: Clock,
) -> tuple[Work, Lengths, str]:
    """The pace of loading, of reading prompts and of writing; the lengths; and a note on what could not be measured.
    A few `questions` are asked, in the room that all leave. Raises `MechdriftError` where they leave none."""
    dtype, mode = generation_dtype(plan.config), plan.modes[side]
    loaded, load = clock.time(lambda: pair.open(side, dtype))
    writer = make_generator(plan.config.engine_of(side), loaded)
    room = find_room(loaded, everything, mode, plan.config.budget, plan.config.think_max)
    settings = {"side": side, "think": mode, "generator": writer, "is_model": False, "description": "Calibrating"}
    asking = partial(ask, loaded, **settings)
    asking(questions[:2], budget=Budget(think=1, answer=2))  # the first pass prepares
    _, reading = clock.time(lambda: asking(questions, budget=Budget(think=1, answer=1)))
    few, seconds = clock.time(lambda: asking(questions[:FEW], budget=Budget(think=STEPS, answer=STEPS)))
    budget = within(room, int(SECONDS * _longest(few) / max(SLOWER * seconds, 1e-3)), mode)
    more, longer = clock.time(lambda: asking(questions, budget=budget))
    equations = np.array([[_longest(rows), _written(rows)] for rows in (few, more)])
    taken = np.array([seconds - reading * FEW / len(questions), longer - reading]).clip(min=0)
    step, token = map(float, nnls(equations, taken)[0])
    rows = min(len(everything), ROWS_ON_CPU if clock.threads else ROWS_ON_GPU)
    rendered = _rendered(loaded, questions)
    prompt = float(np.mean([len(asked.ids) for asked in rendered]))
    if mode == "own" and not any(row.closed for row in more):
        budget = within(room, int(LONGER / max(step + token * SOME, 1e-5)), mode)
        more = asking(questions[:SOME], budget=budget) if budget.tokens[0] > _longest(more) else more
    lengths, note = lengths_of(more, room, prompt)
    pace = Work(
        written=step / rows + token,
        prompts=reading / (prompt * len(questions)),
        reread=time_passes(loaded, rendered, clock)[1],
        loaded=load,
    )
    pair.close(dtype)
    return pace, lengths, note


def within(room: Budget, tokens: int, mode: ThinkMode) -> Budget:
    """The part of the room that there is time for: this many tokens, three quarters of them for thinking."""
    tokens = max(tokens, LEAST)
    think, answer = (3 * tokens // 4, tokens // 4) if mode == "own" else (1, tokens)
    return Budget(think=min(think, room.tokens[0]), answer=min(answer, room.tokens[1]))


def lengths_of(written: Completions, room: Budget, prompt: float) -> tuple[Lengths, str]:
    """How long thoughts and answers are within the room there is, and a note on what is not known."""
    most_think, most_answer = room.tokens
    thoughts = [(len(row.thinking_ids), not row.is_cut) for row in written] if written.think == "own" else []
    whole = [row for row in written if row.closed] or list(written)
    answers = [(len(row.answer_ids), row.finished) for row in whole]
    think, ends = expected(thoughts, most_think)
    answer, stops = expected(answers, most_answer)
    unknown = [name for name, known in (("thought", ends), ("answer", stops)) if not known]
    note = f"no {' and no '.join(unknown)} ended within the calibration, so all the room is counted" if unknown else ""
    return Lengths(prompt=prompt, think=think, answer=answer), note


def expected(seen: Sequence[tuple[int, bool]], most: int) -> tuple[float, bool]:
    """The mean length of at most so many tokens, from lengths and whether each is whole; and whether it is known."""
    ended = sum(whole for _, whole in seen)
    if not seen:
        return 0.0, True
    if not ended:
        return float(most), False
    mean = sum(length for length, _ in seen) / ended
    return mean if ended == len(seen) else mean * (1 - exp(-most / mean)), True


def time_reading(loaded: LanguageModel, questions: Sequence[Question], clock: Clock) -> dict[str, float]:
    """Seconds per token through all layers, per position over the vocabulary, and for hashing the weights once."""
    states, seconds = time_passes(loaded, _rendered(loaded, questions), clock)
    with torch.inference_mode():
        some = torch.cat([each.flatten(0, 1) for each in states])[:POSITIONS]
        _, over = clock.time(lambda: _compare(loaded, some))
    _, hashing = clock.time(lambda: fingerprint(loaded.model))
    return {"read": seconds, "unembedded": over / len(some), "compared": hashing}


def time_passes(loaded: LanguageModel, prompts: Sequence[Rendered], clock: Clock) -> tuple[list[Tensor], float]:
    """The last states of prompts, and the seconds per token of a pass through all layers."""
    with torch.inference_mode():
        states, _ = clock.time(lambda: [each.run() for each in forward_batches(loaded, prompts)])  # prepares
        _, seconds = clock.time(lambda: [each.run() for each in forward_batches(loaded, prompts)])
    return states, seconds / sum(len(prompt.ids) for prompt in prompts)


def _compare(loaded: LanguageModel, states: Float[Tensor, "pos d_model"]) -> Tensor:
    kept = keep(loaded.structure.logits(states).float().log_softmax(-1).cpu(), None)
    return coarse_kl(kept, kept)


def time_statistics(clock: Clock) -> float:
    """Seconds of one unit of resampling: eight times 2,000 draws of 64 families, with 64 sums per draw."""
    values = np.linspace(0, 1, 64 * 64).reshape(64, 64)
    _, seconds = clock.time(lambda: [family_draws(64, 2000, seed) @ values for seed in range(8)])
    return seconds


def _rendered(loaded: LanguageModel, questions: Sequence[Question]) -> list[Rendered]:
    renderer = Renderer(loaded.tokenizer)
    return [renderer.render(question.id, question.prompt, "none") for question in questions]


def _longest(rows: Completions) -> int:
    return max(len(row.thinking_ids) + len(row.answer_ids) for row in rows)


def _written(rows: Completions) -> int:
    return sum(len(row.thinking_ids) + len(row.answer_ids) for row in rows)
