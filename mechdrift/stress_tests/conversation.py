"""Asking under stress: every case is a conversation with the model, and all conversations share one batch.

    case           one item under one mode, dose and arm (the attack, its placebo, or a sample of either)
    conversation   a Python generator: it yields what the backend is to continue and is sent what was written, so that
                   a loop of thinking, reopening, answering and asking again reads from top to bottom
    prefix         prompts that begin alike are queued side by side, so that the part they share is read once
    driver         keeps the conversations beside the queue of any backend (`behaviour.backends`)

Cases that ask for the same ids in the same way are asked once. The whole thought given back, for example, is the whole
budget, the placebo of five modes, and the check `prefill-own`.

Finished cases are appended to a JSON-lines file, so that a killed stress test goes on where it stopped.
"""

import json
import zlib
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from mechdrift.behaviour.backends.hugging_face import LEAST_SHARED, shared_start
from mechdrift.behaviour.backends.protocol import Generator as Backend
from mechdrift.behaviour.backends.protocol import Request, Written
from mechdrift.behaviour.generation import end_ids
from mechdrift.behaviour.sampling import Budget, Sampling
from mechdrift.behaviour.thoughts import cut_thinking
from mechdrift.behaviour.two_stages import Asking, Question, Thought
from mechdrift.pairs.loading import LanguageModel
from mechdrift.records import Completion, MechdriftError, exactly
from mechdrift.records.progress import progress
from mechdrift.runs import REMEDY
from mechdrift.stress_tests.mode import Attack, Subject

Talk = Generator[Request, Written, "Reply"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One item under one mode, dose and arm: `attack` or `placebo`. `sample` counts its answers, from 0."""

    mode: str
    dose: float
    arm: str
    subject: Subject
    attack: Attack
    sample: int = 0
    temperature: float = 0.0

    @property
    def key(self) -> str:
        return f"{self.mode}|{exactly(self.dose)}|{self.arm}|{self.sample}|{self.subject.item.id}"

    @property
    def asked(self) -> tuple:
        """What determines the answer: cases that are equal in it are asked once. Cases with loops never count as
        equal."""
        loops = (self.key,) if self.attack.rethink or self.attack.again else ()
        return (self.subject.item.id, self.attack, self.sample, self.temperature, *loops)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The outcome of a case: the last answer with all the thinking before it, how many tokens of the thinking were
    given (`given`), and how many answers there were (`turns`)."""

    completion: Completion
    given: int = 0
    turns: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """A model and its budget, for all conversations with it."""

    loaded: LanguageModel
    backend: Backend
    budget: Budget
    seed: int = 0
    ends: frozenset[int] = field(default_factory=frozenset)

    @property
    def room(self) -> int | None:
        """The length of the model's context in tokens; None where its configuration states none."""
        return getattr(self.loaded.model.config.get_text_config(), "max_position_embeddings", None)

    def fits(self, attack: Attack) -> bool:
        """Whether the prompt leaves room to think and answer."""
        think, answer = self.budget.tokens
        return self.room is None or len(attack.ids) + answer + (think if attack.opens else 0) <= self.room

    def ask(self, cases: Sequence[Case], store: Path | None, description: str) -> dict[str, Reply]:
        """The replies of all cases, by key. What `store` holds is not asked again."""
        done = read_replies(store)
        first: dict[tuple, Case] = {}
        for case in cases:
            first.setdefault(case.asked, case)
        waiting = [case for case in first.values() if case.key not in done]
        with progress(description, len(first)) as advance:
            advance(len(first) - len(waiting))
            for case, reply in self._converse(waiting):
                done[case.key] = reply
                _append(store, case.key, reply)
                advance(1)
        return {case.key: done[first[case.asked].key] for case in cases}

    def _converse(self, cases: Sequence[Case]) -> Iterator[tuple[Case, Reply]]:
        """Each case with its reply, in the order in which they are finished."""
        talks = {case.key: (case, self.talk(case, shared)) for case, shared in in_order(cases)}
        queue = deque(next(talk) for _, talk in talks.values())
        for request, written in self.backend.write(queue):
            case, talk = talks[request.key]
            try:
                queue.appendleft(talk.send(written))
            except StopIteration as finished:
                del talks[case.key]
                yield case, finished.value

    def talk(self, case: Case, shared: int = 0) -> Talk:
        """One conversation: thinking, as often as it is reopened; the answer; and the same again where the mode says
        so. The first `shared` ids of its first prompt are also those of a neighbour in the queue."""
        attack, turns, subject = case.attack, 0, case.subject
        question = Question(id=subject.item.id, prompt=subject.item.prompt, sample=case.sample)
        while True:
            asking = Asking(subject.renderer, subject.side, attack.think, self.budget, Sampling(), self.ends)
            thought, prompt, previous = Thought(attack.given), attack.ids, None
            if attack.opens:
                thought, prompt, previous = yield from self._think(case, attack, turns, shared)
            part, most = f"answer{turns}", self.budget.tokens[1]
            request = self._request(case, part, prompt, most, continues=previous, shared=0 if previous else shared)
            completion = asking.completion(question, thought, (yield request))
            completion = replace(completion, engine=self.backend.name)
            turns += 1
            following = attack.again(completion, turns) if attack.again else None
            if following is None or not self.fits(following):
                return Reply(completion=completion, given=len(case.attack.given), turns=turns)
            attack, shared = following, 0

    def _think(
        self, case: Case, attack: Attack, turns: int, shared: int
    ) -> Generator[Request, Written, tuple[Thought, tuple[int, ...], Request]]:
        """The thinking of one turn: the thought, the prompt for the answer behind it, and the last request."""
        renderer, prompt, thought, previous, times = case.subject.renderer, attack.ids, attack.given, None, 0
        while True:
            part, most = f"think{turns}.{times}", self.budget.tokens[0]
            ends = {"stop": renderer.close_marker, "continues": previous, "shared": 0 if previous else shared}
            previous = self._request(case, part, prompt, most, **ends)
            written = yield previous
            ids, closed = cut_thinking(renderer, written.ids, self.ends)
            thought, prompt = (*thought, *ids), (*prompt, *ids)
            more = attack.rethink(thought, times) if attack.rethink and closed else None
            if more is None or not self.fits(replace(attack, ids=(*prompt, *more))):
                break
            thought, prompt, times = (*thought, *more), (*prompt, *more), times + 1
        stopped = written.finish == "end" and not closed
        return Thought(thought, (), closed, stopped), (*prompt, *renderer.closing_after(thought)), previous

    def _request(
        self,
        case: Case,
        part: str,
        prompt: tuple[int, ...],
        most: int,
        stop: tuple[int, ...] = (),
        continues: Request | None = None,
        shared: int = 0,
    ) -> Request:
        """A request to the backend. Its random numbers are the same under every mode, so modes differ only in what they
        do."""
        named = f"{self.seed} {case.sample} {case.subject.item.id} {part}"
        return Request(
            key=case.key,
            prompt=prompt,
            max_tokens=most,
            ends=self.ends,
            stop=stop,
            temperature=case.temperature,
            seed=zlib.crc32(named.encode()),
            continues=continues,
            shared=shared,
        )


def make_driver(loaded: LanguageModel, backend: Backend, budget: Budget, seed: int) -> Driver:
    return Driver(loaded=loaded, backend=backend, budget=budget, seed=seed, ends=end_ids(loaded))


def in_order(cases: Sequence[Case]) -> list[tuple[Case, int]]:
    """Cases in the order in which they are queued, each with the number of ids that it shares with a neighbour: first
    those whose prompts begin alike, side by side; then all others, short ones first, because prompts of similar length
    are read together."""
    ordered = sorted(cases, key=lambda case: (case.attack.ids, case.sample))
    common = [shared_start(a.attack.ids, b.attack.ids) for a, b in pairwise(ordered)]
    shared = [max(pair) for pair in zip([0, *common], [*common, 0], strict=True)][: len(ordered)]
    alike = [(case, count) for case, count in zip(ordered, shared, strict=True) if count >= LEAST_SHARED]
    others = [(case, 0) for case, count in zip(ordered, shared, strict=True) if count < LEAST_SHARED]
    return [*alike, *sorted(others, key=lambda each: len(each[0].attack.ids))]


# What is kept of finished cases.


def read_replies(store: Path | None) -> dict[str, Reply]:
    """Replies of finished cases. A last line that a kill cut short is left out."""
    if store is None or not store.exists():
        return {}
    found: dict[str, Reply] = {}
    for line in store.read_bytes().splitlines():
        try:
            row = json.loads(line)
            ids = {name: tuple(value) for name, value in row["completion"].items() if isinstance(value, list)}
            completion = Completion(**(row["completion"] | ids))
            found[row["key"]] = Reply(completion=completion, given=row["given"], turns=row["turns"])
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return found


def _append(store: Path | None, key: str, reply: Reply) -> None:
    """The line break comes first, so that a line which was cut short does not swallow the next one."""
    if store is None:
        return
    try:
        with store.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps({"key": key} | asdict(reply), ensure_ascii=False))
    except OSError as error:
        raise MechdriftError(f"{store} could not be written ({error.strerror}): {REMEDY}") from error
