"""Asking the models: batched generation, with thinking and answer kept apart.

An instruct model answers as it is normally used (think mode `none`). A reasoning model gets an opened think block
(`own`), thinks until it closes the block or its thinking budget ends, and then answers. Where the budget ends first,
mechdrift closes the block and asks for the answer, and the completion is marked `closed=False` (and `stopped=True`
where the model ended its turn within the block). `off` prefills an empty block; `donor` a given one. Thinking and
answer are separated on token ids, at the ids of the close marker.

The two stages are the same on every backend (`two_stages`): a request for the thinking, which ends with the close
marker or the budget, and a request for the answer after it. Every finished answer is appended to a store of JSON lines
(`answer_store`), so that a killed generation resumes where it stopped, with the same samples: each request is seeded by
what it asks.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

from mechdrift.behaviour.answer_store import read_store, write_completions
from mechdrift.behaviour.backends.choosing import make_generator
from mechdrift.behaviour.backends.fidelity import ANSWERS, check_fidelity
from mechdrift.behaviour.backends.hugging_face import HuggingFace
from mechdrift.behaviour.backends.protocol import Generator, Request, Written
from mechdrift.behaviour.pilot import fitting, run_pilot
from mechdrift.behaviour.sampling import AUTO, GREEDY, Budget, Sampling
from mechdrift.behaviour.thoughts import PROOF, ask_without_markers, closes_blocks
from mechdrift.behaviour.two_stages import Asking, Question
from mechdrift.pairs.catalogue import EMBEDDED_PAIRS
from mechdrift.pairs.loading import LanguageModel
from mechdrift.pairs.pair import Pair
from mechdrift.pairs.precision import default_dtype_for_generation
from mechdrift.probes.rendering import Renderer
from mechdrift.records import Completion, Completions, MechdriftError, ProbeSet, Side, ThinkMode
from mechdrift.records.foreign import shown
from mechdrift.records.progress import progress


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
        dtype: the number format in which the model runs; by default the fastest on this machine.
        engine: the backend: `"hf"`, `"vllm"`, or the address of a server of vLLM or llama.cpp.

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
    """Completions of all questions, group by group, with one budget: the given one, or that of a pilot over them.

    `store` is the prefix of the files in which finished answers are kept, including those of the pilot.
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
    """The given budget, or that of a pilot over all questions; and the pilot's answers that need not be asked again.

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

    `generator` is the backend, by default the loaded model in this process (`backends.hugging_face`); `loaded` always
    gives the tokenizer, the template and the ids that end a turn. The backend's log-probabilities are compared with the
    model's, and an engine that serves another model raises `MechdriftError`. `is_model=False` skips that, for a writer
    that does not claim to be the model, such as a rule.
    """
    done = {(row.item_id, row.sample): row for row in known} | read_store(store)
    generator = generator or HuggingFace(loaded)
    renderer = Renderer(loaded.tokenizer)
    if think == "own" and any(row.think == "none" for row in done.values()):
        renderer = ask_without_markers(renderer)  # the stored answers showed that this model has no markers
    think = think if renderer.convention.open else "none"
    # Answers in another think mode are asked again: they are from before the markers were given up.
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
    may_be_another = is_model and not isinstance(generator, HuggingFace)
    _tell_engines(done, generator.name, len(waiting))
    with progress(description, len(asked)) as advance:
        advance(len(asked) - len(waiting))
        for part in (trial, waiting[len(trial) :]):
            for request, written, row in asking.write(generator, part, prefixes):
                if may_be_another and len(compared) < ANSWERS:
                    compared.append((request, written))
                    if len(compared) == ANSWERS:  # early, before another model has answered everything
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
    sampled = list(islice(asking.written_again(asked, rows, generator.name), ANSWERS)) if is_model else []
    fidelity = check_fidelity(loaded, generator.name, sampled) if sampled else None
    return Completions(side=side, think=think, rows=rows, fidelity=fidelity)


def _has_to_prove_itself(renderer: Renderer, think: ThinkMode, done: Iterable[Completion]) -> bool:
    """Whether no answer has shown yet that this model closes think blocks with the markers of its convention."""
    return think == "own" and not renderer.settings.apart and not any(row.closed for row in done)


def _tell_engines(done: Mapping[tuple[str, int], Completion], name: str, waiting: int) -> None:
    """Say on standard error where stored answers of another engine are kept."""
    others = Counter(row.engine for row in done.values() if row.engine != name)
    if others and waiting:
        stored = " and ".join(f"{count} by {engine or 'an older version'}" for engine, count in others.items())
        line = f"mechdrift: {stored} are kept; {name} writes the other {waiting} answers."
        print(shown(line), file=sys.stderr)


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
