"""Asking the models: batched generation, with thinking and answer kept apart.

An instruct model answers as it is used (think mode `none`). A reasoning model gets an opened think block (`own`),
thinks until it closes the block or its thinking budget ends, and then answers; when the budget ends, mechdrift closes
the block and asks for the answer, and the completion is marked `closed=False` (and `stopped=True` where the model ended
its turn within the block, instead of the budget). `off` prefills an empty block; `donor` a given one. What is thinking
and what is answer is cut from token ids, at the ids of the close marker.

The two stages are the same on every backend (`backends`): a request for the thinking, which ends with the close marker
or the budget, and a request for the answer behind it. Every finished answer is appended to a JSON-lines store, so a
killed generation goes on where it stopped, with the same samples: each request is seeded by what it asks.
"""

import json
import sys
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

from mechdrift.behaviour.backends.choosing import make_generator
from mechdrift.behaviour.backends.fidelity import ANSWERS, check_fidelity
from mechdrift.behaviour.backends.hugging_face import HuggingFace
from mechdrift.behaviour.backends.protocol import Generator, Request, Written
from mechdrift.behaviour.pilot import fitting, run_pilot
from mechdrift.behaviour.sampling import AUTO, GREEDY, Budget, Sampling
from mechdrift.behaviour.thoughts import PROOF, Cut, ask_without_markers, closes_blocks, cut_block, cut_thinking
from mechdrift.pairs.catalogue import EMBEDDED_PAIRS
from mechdrift.pairs.loading import LanguageModel
from mechdrift.pairs.pair import Pair
from mechdrift.pairs.precision import default_dtype_for_generation
from mechdrift.probes.rendering import Renderer
from mechdrift.records import Completion, Completions, MechdriftError, ProbeSet, Side, ThinkMode
from mechdrift.records.foreign import shown
from mechdrift.records.progress import progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked, with an id to find the answer again; `thinking` is used in think mode `donor`."""

    id: str
    prompt: str
    thinking: tuple[int, ...] = ()
    sample: int = 0


def generate(
    pair: Pair,
    probes: ProbeSet,
    side: Side,
    *,
    think: ThinkMode | None = None,
    budget: Budget | None = None,
    think_max: int | None = None,
    donor: Completions | None = None,
    samples: int = 1,
    temperature: float | None = None,
    seed: int = 0,
    dtype: str | None = None,
    engine: str = "hf",
) -> Completions:
    """What does one model answer? Completions of a probe set, with thinking and answer kept apart.

    Args:
        pair: the two models.
        probes: what is asked.
        side: which model is asked.
        think: how the think block is filled: by default `"none"` for the instruct model and `"own"` for the
            reasoning model; `"off"` prefills an empty block, `"donor"` the thinking of other completions.
        budget: how many tokens the model may think and answer; by default those of the embedded pairs, and for
            every other pair `"auto"`: a pilot measures what the model needs. A block that the budget cuts is closed by
            mechdrift, and the completion is marked `closed=False`.
        think_max: the most tokens of thinking that the pilot tries; by default 16,384, or what the context leaves.
        donor: the completions whose thinking is given, for think mode `"donor"`.
        samples: answers per item: one is greedy, more are drawn at the temperature.
        temperature: by default 0 for one answer and 0.7 for more.
        seed: of the samples.
        dtype: in which the model runs; by default what is fastest here.
        engine: what writes: `"hf"`, `"vllm"`, or the address of a server of vLLM or llama.cpp.

    Returns:
        `Completions`; it iterates over its `Completion`s. Its `.frame` has a row per answer.

    Raises:
        MechdriftError: when `donor` is missing for think mode `"donor"`, and when a prompt and its budget do not
            fit into the model's context.

    Source:
        Continuous batching as in Orca, https://www.usenix.org/conference/osdi22/presentation/yu; greedy ids are those
        of Hugging Face's `generate`.

    Example:
        >>> answers = md.generate(pair, probes, "reasoning", budget=md.Budget(think=8, answer=8))
        >>> len(answers.frame) == len(probes)
        True
    """
    mode = think or ("none" if side == "instruct" else "own")
    if mode == "donor" and donor is None:
        raise MechdriftError("think mode 'donor' needs donor= completions, whose thinking is then given to this model.")
    thoughts = {row.item_id: row.thinking_ids for row in donor.first} if donor else {}
    questions = [Question(id=item.id, prompt=item.prompt, thinking=thoughts.get(item.id, ())) for item in probes]
    loaded = pair.open(side, dtype or default_dtype_for_generation())
    sampling = Sampling(
        samples=samples, temperature=(0.7 if samples > 1 else 0.0) if temperature is None else temperature, seed=seed
    )
    return ask_groups(
        loaded,
        [questions],
        side,
        mode,
        budget=budget or default_budget(pair),
        think_max=think_max,
        sampling=sampling,
        generator=make_generator(engine, loaded),
    )


def default_budget(pair: Pair) -> Budget:
    """The embedded pairs' own budget; for every other pair, what a pilot measures."""
    return Budget() if pair.name in EMBEDDED_PAIRS else AUTO


def ask_groups(
    loaded: LanguageModel,
    groups: Sequence[Sequence[Question]],
    side: Side,
    think: ThinkMode,
    *,
    budget: Budget,
    think_max: int | None = None,
    sampling: Sampling = GREEDY,
    store: Path | None = None,
    generator: Generator | None = None,
) -> Completions:
    """Completions of all questions, group by group, in one budget: the given one, or that of a pilot over them.

    `store` is what the names of the files begin with in which finished answers are kept, those of the pilot among them.
    """
    asking = partial(ask, loaded, side=side, think=think, generator=generator)
    budget, known = settle_budget(
        asking, loaded, groups, side, think, budget=budget, think_max=think_max, sampling=sampling, store=store
    )
    settings = {"budget": budget, "sampling": sampling, "known": known, "description": f"Asking {side}"}
    settings["store"] = store and store.with_name(f"{store.name}.partial.jsonl")
    found = [asking(group, **settings) for group in groups]
    fidelity = next((each.fidelity for each in found if each.fidelity), None)
    return Completions(side=side, think=think, rows=tuple(row for each in found for row in each), fidelity=fidelity)


def settle_budget(
    asking: Callable[..., Completions],
    loaded: LanguageModel,
    groups: Sequence[Sequence[Question]],
    side: Side,
    think: ThinkMode,
    *,
    budget: Budget,
    think_max: int | None = None,
    sampling: Sampling = GREEDY,
    store: Path | None = None,
) -> tuple[Budget, Sequence[Completion]]:
    """The given budget, or that of a pilot over all questions with its answers that need not be asked again.

    `asking` is `ask` of this model in this think mode.
    """
    if not budget.is_auto:
        return budget, ()
    pilot = run_pilot(
        partial(asking, description=f"Pilot, {side}"),
        loaded,
        groups,
        side,
        think,
        wanted=budget,
        think_max=think_max,
        sampling=sampling,
        store=store and store.with_name(f"{store.name}-pilot"),
    )
    return pilot.budget, fitting(pilot.answers, pilot.budget, sampling)


def ask(
    loaded: LanguageModel,
    questions: Sequence[Question],
    side: Side,
    think: ThinkMode,
    *,
    budget: Budget,
    sampling: Sampling = GREEDY,
    store: Path | None = None,
    known: Sequence[Completion] = (),
    description: str = "Answers",
    generator: Generator | None = None,
    is_model: bool = True,
) -> Completions:
    """Completions of `questions`, in their order; those `known`, or found in `store`, are not generated again.

    `generator` writes, by default the loaded model in this process (`backends.hugging_face`); `loaded` always gives
    the tokenizer, the template and the ids that end a turn. Its log-probabilities are compared with the model's, and
    another model's are refused; `is_model=False` is for a writer that does not claim to be the model, such as a rule.
    """
    done = {(row.item_id, row.sample): row for row in known} | read_store(store)
    generator = generator or HuggingFace(loaded)
    renderer = Renderer(loaded.tokenizer)
    if think == "own" and any(row.think == "none" for row in done.values()):
        renderer = ask_without_markers(
            renderer
        )  # as this model's first thoughts showed, in the run that is gone on with
    think = think if renderer.convention.open else "none"
    # Answers in another think mode, from before the markers were given up, are asked again.
    done = {key: row for key, row in done.items() if row.think == think}
    asking = Asking(renderer, side, think, budget, sampling, end_ids(loaded))
    asked = [replace(question, sample=sample) for question in questions for sample in range(sampling.samples)]
    waiting = [question for question in asked if (question.id, question.sample) not in done]
    prefixes = {question.id: asking.prefix(question) for question in waiting}
    to_think, to_answer = budget.tokens
    _check_room(loaded, prefixes, to_answer + (to_think if think == "own" else 0))
    waiting.sort(key=lambda question: len(prefixes[question.id]))
    trial = waiting[:PROOF] if _has_to_prove_itself(renderer, think, done.values()) else []
    compared: list[tuple[Request, Written]] = []
    serves_another = is_model and not isinstance(generator, HuggingFace)  # or might
    _tell_engines(done, generator.name, len(waiting))
    with progress(description, len(asked)) as advance:
        advance(len(asked) - len(waiting))
        for part in (trial, waiting[len(trial) :]):
            for request, written, row in asking.write(generator, part, prefixes):
                if serves_another and len(compared) < ANSWERS:
                    compared.append((request, written))
                    if len(compared) == ANSWERS:  # before everything is asked of another model
                        check_fidelity(loaded, generator.name, compared)
                if row is not None:
                    row = replace(row, engine=generator.name)
                    done[row.item_id, row.sample] = row
                    write_completions(store, [row])
                    advance(1)
            if trial and part is trial and not closes_blocks(renderer, loaded.source.name, list(done.values())):
                ask_without_markers(renderer)
                options = {"budget": budget, "sampling": sampling, "store": store, "description": description}
                return ask(loaded, questions, side, "none", generator=generator, is_model=is_model, **options)
    rows = tuple(done[question.id, question.sample] for question in asked)
    told = list(islice(asking.written_again(asked, rows, generator.name), ANSWERS)) if is_model else []
    fidelity = check_fidelity(loaded, generator.name, told) if told else None
    return Completions(side=side, think=think, rows=rows, fidelity=fidelity)


def _has_to_prove_itself(renderer: Renderer, think: ThinkMode, done: Iterable[Completion]) -> bool:
    """Whether no answer has shown yet that this model closes think blocks with the markers of its convention."""
    return think == "own" and not renderer.settings.apart and not any(row.closed for row in done)


def _tell_engines(done: Mapping[tuple[str, int], Completion], name: str, waiting: int) -> None:
    """Say where answers of another engine are gone on from."""
    others = Counter(row.engine for row in done.values() if row.engine != name)
    if others and waiting:
        told = " and ".join(f"{count} by {engine or 'an older version'}" for engine, count in others.items())
        line = f"mechdrift: {told} are kept; {name} writes the other {waiting} answers."
        print(shown(line), file=sys.stderr)


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
        """All that was written, with the completion where that ended one, in the order in which they are finished."""
        queue = deque(self.first(question, prefixes[question.id]) for question in questions)
        for request, written in generator.write(queue):
            yield request, written, self.take(request, written, queue)

    def written_again(
        self, questions: Sequence[Question], rows: Sequence[Completion], engine: str
    ) -> Iterator[tuple[Request, Written]]:
        """What `engine` wrote, from the completions: a thought or an answer each, with its log-probabilities.

        In the order of the questions, so that a run that was killed and went on compares the same as one that was not.
        """
        for question, row in zip(questions, rows, strict=True):
            if row.engine != engine or (row.thinking_ids and self.think == "none"):
                continue  # a block at the head of an answer was cut out of it
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
        """Everything up to where the model begins to write: its thinking in mode `own`, its answer otherwise."""
        rendered = self.renderer.render(question.id, question.prompt, self.think, thinking=question.thinking)
        if self.think != "own":
            return rendered.ids
        return rendered.ids[: rendered.roles["think_open"][1]]

    def first(self, question: Question, prefix: tuple[int, ...]) -> Request:
        if self.think == "own":
            stop = self.renderer.close_marker
            return self._request(_Stage(question, None), prefix, self.budget.tokens[0], stop=stop)
        return self._request(_Stage(question, Thought(question.thinking)), prefix, self.budget.tokens[1])

    def take(self, request: Request, written: Written, queue: deque[Request]) -> Completion | None:
        """The completion, once the answer is there; thinking puts the question for its answer at the queue's head."""
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
        """Each request has its own random numbers, which do not depend on what else is asked."""
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
        """What was written as the answer behind a thought, as a record; a block at its head is cut out of it."""
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
        """A thought that stood at the head of an answer; behind a thought of its own, a second one is dropped."""
        if thought.ids:
            return replace(thought, closed=thought.closed and block.closed)
        stop = block.start + len(block.thinking)
        return Thought(
            block.thinking,
            written.log_probabilities[block.start : stop],
            block.closed,
            stopped=written.finish == "end" and not block.closed,
        )


@dataclass(frozen=True)
class Thought:
    """A question's thinking, written or given; `closed` by the model itself, or `stopped` by the end of its turn."""

    ids: tuple[int, ...]
    log_probabilities: tuple[float, ...] = ()
    closed: bool = True
    stopped: bool = False


@dataclass(frozen=True)
class _Stage:
    """What a request is for: a question's thinking, or, behind `thought`, its answer."""

    question: Question
    thought: Thought | None


def _check_room(loaded: LanguageModel, prefixes: Mapping[str, tuple[int, ...]], budget: int) -> None:
    """Raise when the longest prompt and the budget do not fit into the model's context."""
    room = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    longest = max(prefixes, key=lambda item_id: len(prefixes[item_id]), default=None)
    if room is not None and longest is not None and len(prefixes[longest]) + budget > room:
        raise MechdriftError(
            f"{longest} has {len(prefixes[longest])} tokens; with a budget of {budget} tokens to think and answer it "
            f"does not fit into the model's context of {room}: lower the budget, or leave the item out."
        )


def end_ids(loaded: LanguageModel) -> frozenset[int]:
    """Ids that end an assistant turn: the tokenizer's, and those of the model's own generation settings (Gemma's
    `<end_of_turn>`)."""
    own = loaded.model.generation_config.eos_token_id
    ids = (loaded.tokenizer.eos_token_id, *(own if isinstance(own, list) else [own]))
    return frozenset(i for i in ids if i is not None)


def read_store(store: Path | None) -> dict[tuple[str, int], Completion]:
    """Completions of finished batches. A last line that a kill cut short is dropped, also from the file."""
    if store is None or not store.exists():
        return {}
    rows = {}
    # Bytes: a kill may cut inside a character, and text would also be split at exotic line breaks inside JSON strings.
    whole, _, rest = store.read_bytes().rpartition(b"\n")
    if rest:
        try:
            store.write_bytes(whole + b"\n" if whole else b"")
        except OSError as error:
            raise _unusable(store, error) from error
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            row = json.loads(line)
            ids = {name: tuple(values) for name, values in row.items() if isinstance(values, list)}
            found = Completion(**(row | ids))
            rows[found.item_id, found.sample] = found
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise MechdriftError(
                f"{store}, line {number}: not a stored completion; remove the file, and the models are asked again."
            ) from error
    return rows


def write_completions(store: Path | None, rows: Sequence[Completion]) -> None:
    """Append completions to a file of JSON lines."""
    if store is None:
        return
    try:
        with store.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows))
    except OSError as error:
        raise _unusable(store, error) from error


def _unusable(store: Path, error: OSError) -> MechdriftError:
    return MechdriftError(
        f"{store} could not be written ({error.strerror}): free space or give another folder; the same "
        "command goes on from there."
    )
