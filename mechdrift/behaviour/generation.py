"""Asking the models: batched generation with thinking and answer kept apart.

An instruct model answers as it is used (think mode `none`). A reasoning model gets an opened think block (`own`),
thinks until it closes the block or its thinking budget ends, and then answers; when the budget ends, mechdrift closes
the block and asks for the answer, and the completion is marked `closed=False` (and `stopped=True` where the model
ended its turn within the block, instead of the budget). `off` prefills an empty block; `donor` a
given one. What is thinking and what is answer is cut from token ids, at the ids of the close marker.

Prompts are sorted by length, left-padded, and decoded with a key-value cache by Hugging Face's own `generate`, greedily
or as several samples at a temperature; rows that have finished leave the batch early, which saves about half of the
time where budgets are longer than answers. Every finished batch is appended to a JSON-lines store, so a killed
generation goes on where it stopped, with the same samples: each batch is seeded by what it asks.
"""

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from mechdrift.activations.batching import pad
from mechdrift.behaviour.sampling import GREEDY, Budget, Sampling
from mechdrift.hooks import HookPoint, edit
from mechdrift.pairs.loading import LanguageModel
from mechdrift.pairs.pair import Pair
from mechdrift.pairs.precision import default_dtype_for_generation
from mechdrift.probes.rendering import Renderer, find
from mechdrift.progress import progress
from mechdrift.records import Completion, Completions, MechdriftError, ProbeSet, Side, ThinkMode

PROMPTS_PER_BATCH = 48
STEPS_AT_ONCE = 8  # decoding steps between two looks at which rows have finished


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
    budget: Budget = Budget(),  # noqa: B008 - a frozen default
    donor: Completions | None = None,
    samples: int = 1,
    temperature: float | None = None,
    seed: int = 0,
    dtype: str | None = None,
) -> Completions:
    """What does one model answer? Completions of a probe set, with thinking and answer kept apart.

    Args:
        pair: the two models.
        probes: what is asked.
        side: which model is asked.
        think: how the think block is filled: by default `"none"` for the instruct model and `"own"` for the
            reasoning model; `"off"` prefills an empty block, `"donor"` the thinking of other completions.
        budget: how many tokens the model may think and answer. A block that the budget cuts is closed by mechdrift,
            and the completion is marked `closed=False`.
        donor: the completions whose thinking is given, for think mode `"donor"`.
        samples: answers per item: one is greedy, more are drawn at the temperature.
        temperature: by default 0 for one answer and 0.7 for more.
        seed: of the samples.
        dtype: in which the model runs; by default what is fastest here.

    Returns:
        `Completions`; it iterates over its `Completion`s. Its `.frame` has a row per answer.

    Raises:
        MechdriftError: when `donor` is missing for think mode `"donor"`, and when a prompt and its budget do not
            fit into the model's context.

    Source:
        Decoding is Hugging Face's `generate`, https://huggingface.co/docs/transformers.

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
    return ask(
        loaded, questions, side, mode, budget=budget, sampling=sampling, description=f"Answers to {probes.name}, {side}"
    )


def ask(
    loaded: LanguageModel,
    questions: Sequence[Question],
    side: Side,
    think: ThinkMode,
    *,
    budget: Budget,
    sampling: Sampling = GREEDY,
    store: Path | None = None,
    description: str = "Answers",
) -> Completions:
    """Completions of `questions`, in their order; batches found in `store` are read, not generated."""
    done = _read_store(store)
    renderer, ends = Renderer(loaded.tokenizer), end_ids(loaded)
    asked = [replace(question, sample=sample) for question in questions for sample in range(sampling.samples)]
    waiting = [question for question in asked if (question.id, question.sample) not in done]
    prefixes = {q.id: _prefix(renderer, q, think) for q in waiting}
    to_think, to_answer = budget.tokens
    _check_room(loaded, prefixes, to_answer + (to_think if think == "own" else 0))
    waiting.sort(key=lambda q: len(prefixes[q.id]))
    with progress(description, len(asked)) as advance:
        advance(len(asked) - len(waiting))
        for start in range(0, len(waiting), PROMPTS_PER_BATCH):
            group = waiting[start : start + PROMPTS_PER_BATCH]
            with _seeded(sampling.seed, group[0]):
                rows = _complete(
                    loaded,
                    renderer,
                    group,
                    [prefixes[q.id] for q in group],
                    side,
                    think,
                    budget,
                    sampling.temperature,
                    ends,
                )
            done.update({(row.item_id, row.sample): row for row in rows})
            _append(store, rows)
            advance(len(group))
    return Completions(side=side, think=think, rows=tuple(done[question.id, question.sample] for question in asked))


def _check_room(loaded: LanguageModel, prefixes: Mapping[str, tuple[int, ...]], budget: int) -> None:
    """Raise when the longest prompt and the budget do not fit into the model's context."""
    room = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    longest = max(prefixes, key=lambda item_id: len(prefixes[item_id]), default=None)
    if room is not None and longest is not None and len(prefixes[longest]) + budget > room:
        raise MechdriftError(
            f"{longest} has {len(prefixes[longest])} tokens; with a budget of {budget} tokens to think and answer "
            "it does not fit into "
            f"the model's context of {room}: lower the budget, or leave the item out."
        )


@contextmanager
def _seeded(seed: int, first: Question) -> Iterator[None]:
    """Random numbers of a batch's own, which do not depend on the batches before it; the caller's stay as they were."""
    with torch.random.fork_rng():
        torch.manual_seed(zlib.crc32(f"{seed} {first.sample} {first.id}".encode()))
        yield


def _prefix(renderer: Renderer, question: Question, think: ThinkMode) -> tuple[int, ...]:
    """Everything up to where the model begins to write: its thinking in mode `own`, its answer otherwise."""
    rendered = renderer.render(question.id, question.prompt, think, thinking=question.thinking)
    if think != "own":
        return rendered.ids
    return rendered.ids[: rendered.roles["think_open"][1]]


def _complete(
    loaded: LanguageModel,
    renderer: Renderer,
    group: Sequence[Question],
    prefixes: Sequence[tuple[int, ...]],
    side: Side,
    think: ThinkMode,
    budget: Budget,
    temperature: float,
    ends: frozenset[int],
) -> list[Completion]:
    thoughts = [(question.thinking, True) for question in group]
    stopped = [False] * len(group)
    to_think, to_answer = budget.tokens
    if think == "own":
        written = _continue(loaded, prefixes, to_think, temperature, ends, stop_at=renderer.close_marker)
        stopped = [bool(ids) and ids[-1] in ends for ids in written]
        thoughts = [_cut_thinking(renderer, ids, ends) for ids in written]
        prefixes = [(*prefix, *ids, *renderer.close_ids) for prefix, (ids, _) in zip(prefixes, thoughts, strict=True)]
    answers = _continue(loaded, prefixes, to_answer, temperature, ends)
    decode = loaded.tokenizer.decode
    rows = []
    for question, (thinking, closed), stop, answer in zip(group, thoughts, stopped, answers, strict=True):
        finished = bool(answer) and answer[-1] in ends
        kept = answer[:-1] if finished else answer
        rows.append(
            Completion(
                item_id=question.id,
                sample=question.sample,
                side=side,
                think=think,
                closed=closed,
                stopped=stop and not closed,
                finished=finished,
                thinking_ids=thinking,
                answer_ids=kept,
                thinking=decode(thinking).strip(),
                answer=decode(kept, skip_special_tokens=True).strip(),
            )
        )
    return rows


def _cut_thinking(renderer: Renderer, written: tuple[int, ...], ends: frozenset[int]) -> tuple[tuple[int, ...], bool]:
    """The thinking ids before the close marker, and whether the model wrote that marker itself."""
    cut = find(written, renderer.close_marker)
    thinking = list(written[:cut])
    if cut is None:
        return tuple(i for i in thinking if i not in ends), False
    # The line break before the marker belongs to the marker: it is prefilled again with `close_ids`.
    lead = renderer.close_ids[: find(renderer.close_ids, renderer.close_marker) or 0]
    if lead and tuple(thinking[-len(lead) :]) == lead:
        thinking = thinking[: -len(lead)]
    return tuple(thinking), True


class _StopAfter(StoppingCriteria):
    """Ends each row for itself once it has just written `marker`."""

    def __init__(self, marker: Sequence[int]):
        self.marker = torch.tensor(marker)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor | None, **_: object) -> torch.Tensor:
        recent = input_ids[:, -len(self.marker) :]
        if recent.shape[1] < len(self.marker):
            return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        return (recent == self.marker.to(recent.device)).all(dim=1)


def end_ids(loaded: LanguageModel) -> frozenset[int]:
    """Ids that end an assistant turn: the tokenizer's, and those of the model's own generation settings (Gemma's
    `<end_of_turn>`)."""
    own = loaded.model.generation_config.eos_token_id
    ids = (loaded.tokenizer.eos_token_id, *(own if isinstance(own, list) else [own]))
    return frozenset(i for i in ids if i is not None)


@torch.inference_mode()
def _continue(
    loaded: LanguageModel,
    prefixes: Sequence[tuple[int, ...]],
    budget: int,
    temperature: float,
    ends: frozenset[int],
    stop_at: Sequence[int] = (),
) -> list[tuple[int, ...]]:
    """Continuations of at most `budget` tokens, cut after the end token or `stop_at`; greedy at temperature 0.

    `generate` decodes finished rows along until the whole batch is done. So it is called for a few steps at a time, and
    rows that have finished leave the batch, and their keys and values the cache, in between.
    """
    pad_id = loaded.tokenizer.pad_token_id
    pad_id = pad_id if pad_id is not None else min(ends, default=0)
    batch = pad(prefixes, pad_id, side="left")
    ids, mask = batch.ids.to(loaded.device), batch.mask.to(loaded.device)
    criteria = StoppingCriteriaList([_StopAfter(stop_at)]) if stop_at else None
    start, written, cache = ids.shape[1], [()] * len(prefixes), None
    going = torch.arange(len(prefixes))
    # Every setting is given, or a model's own would count.
    chosen = {"do_sample": temperature > 0, "temperature": temperature or None} | (
        {"top_p": 1.0, "top_k": 0} if temperature else {"top_p": None, "top_k": None}
    )
    # Torch would copy the unembedding once per row for the last position of a batch, a strided slice: 2.7 GB for 48
    # rows of SmolLM2.
    whole = {HookPoint(loaded.structure.unembed, "input"): torch.Tensor.contiguous}
    while len(going) and ids.shape[1] < start + budget:
        with edit(whole):
            out = loaded.model.generate(
                ids,
                attention_mask=mask,
                past_key_values=cache,
                max_new_tokens=min(STEPS_AT_ONCE, start + budget - ids.shape[1]),
                pad_token_id=pad_id,
                eos_token_id=sorted(ends) or None,
                stopping_criteria=criteria,
                return_dict_in_generate=True,
                repetition_penalty=1.0,
                no_repeat_ngram_size=0,
                **chosen,
            )
        rows = [_cut(row, ends, tuple(stop_at)) for row in out.sequences[:, start:].tolist()]
        for index, row in zip(going.tolist(), rows, strict=True):
            written[index] = row
        keep = torch.tensor(
            [i for i, row in enumerate(rows) if not _has_ended(row, ends, tuple(stop_at))], dtype=torch.long
        )
        mask = torch.nn.functional.pad(mask, (0, out.sequences.shape[1] - ids.shape[1]), value=1)[keep]
        ids, cache, going = out.sequences[keep], out.past_key_values, going[keep]
        if len(keep):
            cache.batch_select_indices(keep.to(loaded.device))
    return written


def _has_ended(row: tuple[int, ...], ends: frozenset[int], stop_at: tuple[int, ...]) -> bool:
    return row[-1] in ends or (bool(stop_at) and row[-len(stop_at) :] == stop_at)


def _cut(ids: Sequence[int], ends: frozenset[int], stop_at: tuple[int, ...]) -> tuple[int, ...]:
    """A row without what `generate` padded behind its end."""
    end = next((i + 1 for i, token in enumerate(ids) if token in ends), len(ids))
    marker = find(ids[:end], stop_at) if stop_at else None
    return tuple(ids[: end if marker is None else marker + len(stop_at)])


def _read_store(store: Path | None) -> dict[tuple[str, int], Completion]:
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
            ids = {name: tuple(row[name]) for name in ("thinking_ids", "answer_ids")}
            found = Completion(**(row | ids))
            rows[found.item_id, found.sample] = found
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise MechdriftError(
                f"{store}, line {number}: not a stored completion; remove the file, and the models are asked again."
            ) from error
    return rows


def _append(store: Path | None, rows: Sequence[Completion]) -> None:
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
