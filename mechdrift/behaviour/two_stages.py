"""The two requests behind an answer: the thinking, until the model closes it or its budget ends, and then the answer.

The stages are the same on every backend (`backends`). What is thinking and what is answer is cut from token ids
(`thoughts`). Each request has its own random numbers, which follow from what it asks.
"""

import zlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mechdrift.behaviour.backends.protocol import Generator, Request, Written
from mechdrift.behaviour.sampling import Budget, Sampling
from mechdrift.behaviour.thoughts import Cut, cut_block, cut_thinking
from mechdrift.probes.rendering import Renderer
from mechdrift.records import Completion, Side, ThinkMode


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A prompt with an id by which its answer is found; `thinking` is used in think mode `donor`."""

    id: str
    prompt: str
    thinking: tuple[int, ...] = ()
    sample: int = 0


@dataclass(frozen=True)
class Thought:
    """A question's thinking, written or given; `closed` by the model itself, or `stopped` by the end of its turn."""

    ids: tuple[int, ...]
    log_probabilities: tuple[float, ...] = ()
    closed: bool = True
    stopped: bool = False


@dataclass(frozen=True)
class _Stage:
    """What a request is for: a question's thinking (no `thought` yet), or its answer after `thought`."""

    question: Question
    thought: Thought | None


@dataclass(frozen=True)
class Asking:
    """The two stages of a question: the thinking, until the model closes it or its budget ends; then the answer."""

    renderer: Renderer
    side: Side
    think: ThinkMode
    budget: Budget
    sampling: Sampling
    ends: frozenset[int]

    def write(
        self, generator: Generator, questions: Sequence[Question], prefixes: Mapping[str, tuple[int, ...]]
    ) -> Iterator[tuple[Request, Written, Completion | None]]:
        """Yields what was written, in the order in which requests finish, with the completion where one is complete."""
        queue = deque(self.first(question, prefixes[question.id]) for question in questions)
        for request, written in generator.write(queue):
            yield request, written, self.take(request, written, queue)

    def written_again(
        self, questions: Sequence[Question], rows: Sequence[Completion], engine: str
    ) -> Iterator[tuple[Request, Written]]:
        """The thoughts and answers that `engine` wrote, from the completions, with their log-probabilities.

        They come in the order of the questions, so that a run that was killed and resumed compares the same answers.
        """
        for question, row in zip(questions, rows, strict=True):
            if row.engine != engine or (row.thinking_ids and self.think == "none"):
                continue  # a think block was cut out of this answer
            prompt = self.prefix(question)
            if self.think == "own":
                if row.thinking_log_probabilities:
                    yield self._again(prompt, row.thinking_ids, row.thinking_log_probabilities)
                prompt = (*prompt, *row.thinking_ids, *self.renderer.closing_after(row.thinking_ids))
            if row.answer_log_probabilities:
                yield self._again(prompt, row.answer_ids, row.answer_log_probabilities)

    def _again(
        self, prompt: tuple[int, ...], ids: tuple[int, ...], log_probabilities: tuple[float, ...]
    ) -> tuple[Request, Written]:
        request = Request(key=None, prompt=prompt, max_tokens=len(ids), ends=self.ends)
        return request, Written(ids=ids, log_probabilities=log_probabilities, finish="length")

    def prefix(self, question: Question) -> tuple[int, ...]:
        """The ids before the model begins to write its thinking (in mode `own`) or its answer."""
        rendered = self.renderer.render(question.id, question.prompt, self.think, thinking=question.thinking)
        if self.think != "own":
            return rendered.ids
        return rendered.ids[: rendered.roles["think_open"][1]]

    def first(self, question: Question, prefix: tuple[int, ...]) -> Request:
        """The first request of a question: for its thinking in mode `own`, else for its answer."""
        if self.think == "own":
            stop = self.renderer.close_marker
            return self._request(_Stage(question, None), prefix, self.budget.tokens[0], stop=stop)
        return self._request(_Stage(question, Thought(question.thinking)), prefix, self.budget.tokens[1])

    def take(self, request: Request, written: Written, queue: deque[Request]) -> Completion | None:
        """The completion, if an answer was written. If thinking was, the request for its answer goes to the queue's
        head."""
        question, thought = request.key.question, request.key.thought
        if thought is not None:
            return self.completion(question, thought, written)
        ids, closed = cut_thinking(self.renderer, written.ids, self.ends)
        stopped = written.finish == "end" and not closed
        stage = _Stage(question, Thought(ids, written.log_probabilities[: len(ids)], closed, stopped))
        prefix = (*request.prompt, *ids, *self.renderer.closing_after(ids))
        queue.appendleft(self._request(stage, prefix, self.budget.tokens[1], continues=request))
        return None

    def _request(
        self,
        stage: "_Stage",
        prompt: tuple[int, ...],
        max_tokens: int,
        stop: tuple[int, ...] = (),
        continues: Request | None = None,
    ) -> Request:
        """A request with its own seed, which does not depend on what else is asked."""
        part = "think" if stage.thought is None else "answer"
        named = f"{self.sampling.seed} {stage.question.sample} {stage.question.id} {part}"
        return Request(
            key=stage,
            prompt=prompt,
            max_tokens=max_tokens,
            ends=self.ends,
            stop=stop,
            temperature=self.sampling.temperature,
            seed=zlib.crc32(named.encode()),
            continues=continues,
        )

    def completion(self, question: Question, thought: "Thought", written: Written) -> Completion:
        """The completion of an answer after a thought. A think block at the answer's head is cut out of it."""
        finished = written.finish == "end"
        kept = written.ids[:-1] if finished else written.ids
        is_open = self.think == "none" and self.renderer.opens_a_block("none")
        if block := cut_block(self.renderer, kept, is_open):
            thought = self._with_block(thought, block, written)
            kept = block.answer
        start = len(written.ids) - finished - len(kept)
        decode = self.renderer.tokenizer.decode
        return Completion(
            item_id=question.id,
            sample=question.sample,
            side=self.side,
            think=self.think,
            closed=thought.closed,
            stopped=thought.stopped,
            finished=finished,
            thinking_ids=thought.ids,
            answer_ids=kept,
            thinking=decode(thought.ids).strip(),
            answer=decode(kept, skip_special_tokens=True).strip(),
            thinking_log_probabilities=thought.log_probabilities,
            answer_log_probabilities=written.log_probabilities[start : start + len(kept)],
        )

    def _with_block(self, thought: "Thought", block: Cut, written: Written) -> "Thought":
        """The thought that was at the head of an answer. After a thought of its own, a second one is dropped."""
        if thought.ids:
            return replace(thought, closed=thought.closed and block.closed)
        stop = block.start + len(block.thinking)
        return Thought(
            block.thinking,
            written.log_probabilities[block.start : stop],
            block.closed,
            stopped=written.finish == "end" and not block.closed,
        )
