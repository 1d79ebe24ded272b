"""Batched answers are what each prompt would get alone; thinking and answer are cut from ids; a killed run goes on."""

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count

import pytest
import torch
from conftest import FAMILIES, make_pair, make_tokenizer
from scipy.stats import chisquare
from test_rendering import NO_SYSTEM, glueing_tokenizer

from mechdrift.behaviour.backends.hugging_face import HuggingFace
from mechdrift.behaviour.backends.protocol import Generator, Request, Written, finish_of
from mechdrift.behaviour.generation import ask, generate
from mechdrift.behaviour.sampling import Budget, Sampling
from mechdrift.behaviour.two_stages import Question
from mechdrift.pairs.loading import LanguageModel
from mechdrift.probes.rendering import Renderer
from mechdrift.probes.sets import load_probes
from mechdrift.records import Fidelity, MechdriftError

END = 0
QUESTIONS = [
    Question(id=str(i), prompt=prompt)
    for i, prompt in enumerate(
        ["Why is the sky blue?", "Hi", "Name three rivers in Europe, please, and their length.", "Hi there", "?"]
    )
]


@pytest.fixture(scope="session")
def loaded(tiny_pair) -> LanguageModel:
    return tiny_pair.open("instruct")


@torch.inference_mode()
def alone(loaded: LanguageModel, ids: tuple[int, ...], budget: int) -> tuple[int, ...]:
    """The oracle: one prompt, no padding, no cache, no `generate`."""
    written: list[int] = []
    while len(written) < budget and written[-1:] != [END]:
        logits = loaded.model(torch.tensor([[*ids, *written]])).logits[0, -1]
        written.append(int(logits.argmax()))
    return tuple(written)


@pytest.mark.parametrize("family", FAMILIES)
def test_batched_answers_equal_one_by_one_answers(tmp_path, family):
    """Left padding, caches and sliding windows change nothing (the prompts are longer than the tiny models'
    windows)."""
    loaded = make_pair(tmp_path, family).open("instruct")
    completions = ask(loaded, QUESTIONS, "instruct", "off", budget=Budget(answer=8))
    renderer = Renderer(loaded.tokenizer)
    for question, row in zip(QUESTIONS, completions, strict=True):
        expected = alone(loaded, renderer.render(question.id, question.prompt, "off").ids, 8)
        assert row.answer_ids == tuple(i for i in expected if i != END)
        assert row.finished == (END in expected)
        assert row.item_id == question.id


def test_a_model_s_own_generation_settings_do_not_make_it_less_greedy(tmp_path):
    """Qwen 2.5 ships a repetition penalty, which would also see the padding."""
    loaded = make_pair(tmp_path).open("instruct")
    plain = ask(loaded, QUESTIONS, "instruct", "none", budget=Budget(answer=12))
    config = loaded.model.generation_config
    config.repetition_penalty, config.no_repeat_ngram_size, config.do_sample, config.temperature = 3.0, 2, True, 2.0
    assert ask(loaded, QUESTIONS, "instruct", "none", budget=Budget(answer=12)) == plain


def test_every_end_token_of_a_model_ends_its_answers(tmp_path):
    """Gemma ends a turn with a token that its tokenizer does not call the end."""
    loaded = make_pair(tmp_path).open("instruct")
    ids = Renderer(loaded.tokenizer).render("x", "Hi", "none").ids
    expected = alone(loaded, ids, 8)
    stop = next(i for i in count(2) if expected[i] not in expected[:i])
    loaded.model.generation_config.eos_token_id = [END, expected[stop]]
    (row,) = ask(loaded, [Question(id="x", prompt="Hi")], "instruct", "none", budget=Budget(answer=8))
    assert (row.answer_ids, row.finished) == (expected[:stop], True)


@dataclass
class Script:
    """A backend from outside the package: writes what is scripted for each prompt, and stops as backends do.

    `lines` maps a prompt to (thinking, answer). `at_once` requests are taken from the queue at a time, and `kill_at`
    counts them: the one of that number is interrupted.
    """

    loaded: LanguageModel
    lines: dict[str, tuple[str, str]]
    name: str = "script"
    at_once: int = 2
    kill_at: int = 0
    prefixes: list[str] = field(default_factory=list)

    def write(self, queue: deque[Request]) -> Iterator[tuple[Request, Written]]:
        while queue:
            for request in [queue.popleft() for _ in range(min(self.at_once, len(queue)))]:
                yield request, self._written(request)

    def _written(self, request: Request) -> Written:
        text = self.loaded.tokenizer.decode(request.prompt)
        self.prefixes.append(text)
        if len(self.prefixes) == self.kill_at:
            raise KeyboardInterrupt
        line = next(line for prompt, line in self.lines.items() if f"user\n{prompt}<|im_end|>" in text)
        written: list[int] = []
        for token in self.loaded.tokenizer.encode(line[0 if request.stop else 1], add_special_tokens=False):
            written.append(token)
            if finish := finish_of(request, written):
                break
        return Written(ids=tuple(written), log_probabilities=(-1.0,) * len(written), finish=finish or "length")


@pytest.fixture
def scripted(loaded, monkeypatch):
    """Scripts; what they write is not the model's, so its log-probabilities cannot be, either."""
    same = Fidelity(mean=0.0, q99=0.0, n=1)
    monkeypatch.setattr("mechdrift.behaviour.generation.check_fidelity", lambda *_: same)
    return lambda lines, **options: Script(loaded, lines, **options)


def ask_script(script: Script, side="reasoning", think="own", **options):
    options = {"budget": Budget()} | options
    return ask(script.loaded, questions(script), side, think, generator=script, **options)


def questions(script: Script) -> list[Question]:
    return [Question(id=f"q-{prompt}", prompt=prompt) for prompt in script.lines]


LINES = {
    "closes": ("Let me see.\n</think>\n\nThis is never read", "A whale.<|im_end|>junk"),
    "closes without a line break": ("Quick.</think>", "Yes.<|im_end|>"),
    "closes at once": ("</think>", "<|im_end|>"),
    "thinks too long": ("On and on. " * 20, "Never mind.<|im_end|>"),
    "ends in thought": ("I give up.<|im_end|></think>", "Still asked.<|im_end|>"),
    "answers too long": ("Hm.\n</think>", "Blah. " * 30),
    "names the marker": ("They write < /think> so.\n\n</think>", "It is </think>, see?<|im_end|>"),
}


def test_a_backend_is_anything_that_writes(loaded, scripted):
    assert isinstance(scripted({}), Generator)
    assert isinstance(HuggingFace(loaded), Generator)


def test_thinking_and_answer_are_cut_at_the_close_marker(loaded, scripted):
    script = scripted(LINES)
    completions = ask_script(script, budget=Budget(think=40, answer=32))
    rows = {row.item_id.removeprefix("q-"): row for row in completions}
    said = {prompt: (row.thinking, row.answer, row.closed, row.finished) for prompt, row in rows.items()}
    assert said == {
        "closes": ("Let me see.", "A whale.", True, True),
        "closes without a line break": ("Quick.", "Yes.", True, True),
        "closes at once": ("", "", True, True),
        "thinks too long": (("On and on. " * 20)[:40].strip(), "Never mind.", False, True),
        "ends in thought": ("I give up.", "Still asked.", False, True),
        "answers too long": ("Hm.", ("Blah. " * 30)[:32].strip(), True, False),
        "names the marker": ("They write < /think> so.", "It is </think>, see?", True, True),
    }
    decode = loaded.tokenizer.decode
    assert (
        decode(rows["names the marker"].thinking_ids) == "They write < /think> so.\n"
    )  # the last line break is the marker's
    assert all(END not in (*row.thinking_ids, *row.answer_ids) for row in completions)


def test_the_answer_is_asked_behind_the_closed_thinking(loaded, scripted):
    script = scripted(LINES)
    completions = ask_script(script, budget=Budget(think=40, answer=32))
    renderer = Renderer(loaded.tokenizer)
    expected = {
        loaded.tokenizer.decode(renderer.render("x", prompt, "own", thinking=row.thinking_ids).ids)
        for prompt, row in zip(LINES, completions, strict=True)
    }
    asked = [text for text in script.prefixes if "</think>\n\n" in text.split("assistant\n")[1]]
    assert len(asked) == len(LINES)
    assert set(asked) == expected


def test_a_marker_glued_to_line_breaks_still_closes(loaded, scripted):
    script = scripted({"why": ("Let me see.\n</think>\n\nNever read", "So.<|im_end|>")})
    script.loaded = replace(loaded, tokenizer=glueing_tokenizer(NO_SYSTEM))
    (row,) = ask_script(script, budget=Budget(think=30, answer=10))
    assert (row.thinking, row.answer, row.closed) == ("Let me see.", "So.", True)


def test_only_own_thinking_is_generated(loaded, scripted):
    script = scripted({"why": ("never asked", "So.<|im_end|>")})
    thought = tuple(loaded.tokenizer.encode("Donated.", add_special_tokens=False))
    wanted = {"none": "", "off": "<think>\n\n</think>\n\n", "donor": "<think>\nDonated.\n</think>\n\n"}
    for think, block in wanted.items():
        question = Question(id="x", prompt="why", thinking=thought if think == "donor" else ())
        (row,) = ask(loaded, [question], "instruct", think, budget=Budget(answer=10), generator=script)
        assert script.prefixes[-1].split("assistant\n")[1] == block
        assert (row.answer, row.closed, row.thinking_ids) == ("So.", True, question.thinking)
    assert len(script.prefixes) == 3


MANY = {f"number {'x' * (17 * n % 11)}{n}": (f"é {n}\n</think>", f"ü\u2028{n}\x85.<|im_end|>") for n in range(7)}


def test_answers_come_in_the_order_of_the_questions(loaded, scripted):
    script = scripted(MANY)
    rows = ask_script(script, budget=Budget()).rows
    assert [row.item_id for row in rows] == [f"q-{prompt}" for prompt in MANY]
    assert [row.thinking for row in rows] == [f"é {n}" for n in range(7)]


@pytest.mark.parametrize("cut", [0, 1, 20, "inside a character"])
def test_a_killed_run_goes_on_where_it_stopped(loaded, scripted, tmp_path, cut):
    whole = ask_script(scripted(MANY))
    store = tmp_path / "answers.jsonl"
    killed = scripted(MANY, kill_at=11)  # a thought and an answer for four questions, and two thoughts without answers
    with pytest.raises(KeyboardInterrupt):
        ask_script(killed, store=store)
    content = store.read_bytes()
    assert content.count(b"\n") == 4
    cut = len(content) - content.rindex("ü".encode()) - 1 if cut == "inside a character" else cut
    store.write_bytes(content[: len(content) - cut])
    resumed = scripted(MANY)
    assert ask_script(resumed, budget=Budget(), store=store) == whole
    missing = 3 if cut == 0 else 4
    assert len(resumed.prefixes) == 2 * missing
    finished = scripted(MANY)
    assert ask_script(finished, budget=Budget(), store=store) == whole
    assert not finished.prefixes
    assert sorted(json.loads(line)["item_id"] for line in store.read_bytes().splitlines()) == sorted(
        f"q-{prompt}" for prompt in MANY
    )


@pytest.mark.parametrize(
    "damage", [b"not json", b"{}", b"[1]", b'{"item_id": "a", "thinking_ids": [], "answer_ids": [], "colour": 1}']
)
def test_a_damaged_store_is_named_with_its_line(loaded, scripted, tmp_path, damage):
    store = tmp_path / "answers.jsonl"
    script = scripted(MANY)
    ask_script(script, budget=Budget(), store=store)
    lines = store.read_bytes().splitlines()
    store.write_bytes(b"\n".join([lines[0], damage, *lines[2:]]) + b"\n")
    with pytest.raises(MechdriftError, match=r"answers\.jsonl, line 2"):
        ask_script(script, budget=Budget(), store=store)


def test_by_default_only_a_reasoning_model_thinks(tiny_pair):
    probes = load_probes("safety").sample(2)
    budget = Budget(think=3, answer=3)
    instruct, reasoning = (
        generate(tiny_pair, probes, side, budget=budget, dtype="float32") for side in ("instruct", "reasoning")
    )
    assert (instruct.think, reasoning.think) == ("none", "own")
    assert {row.thinking_ids for row in instruct} == {()}
    assert all(len(row.thinking_ids) <= 3 and len(row.answer_ids) <= 3 for row in reasoning)
    assert [row.item_id for row in reasoning] == [item.id for item in probes]


def test_donor_thinking_is_passed_on_by_item(tiny_pair):
    probes = load_probes("safety").sample(2)
    own = generate(tiny_pair, probes, "reasoning", budget=Budget(think=4, answer=2), dtype="float32")
    given = generate(tiny_pair, probes, "instruct", think="donor", donor=own, budget=Budget(answer=2), dtype="float32")
    assert [row.thinking_ids for row in given] == [row.thinking_ids for row in own]
    with pytest.raises(MechdriftError, match="needs donor="):
        generate(tiny_pair, probes, "instruct", think="donor")


def test_the_tokenizer_of_these_tests_writes_one_token_a_byte():
    """Budgets above are counted in characters."""
    assert len(make_tokenizer().encode("On and on. ", add_special_tokens=False)) == 11


def test_a_store_that_cannot_be_written_is_one_sentence(loaded, scripted, tmp_path):
    script = scripted({"short": ("", "Yes.<|im_end|>")})
    with pytest.raises(MechdriftError, match=r"could not be written .*free space"):
        ask_script(script, "instruct", "none", store=tmp_path / "missing" / "store.jsonl")


# Samples


def test_samples_are_drawn_from_the_model_s_own_distribution(loaded):
    """First tokens of 600 samples against the softmax: a chi-squared test over the likeliest tokens and the rest."""
    question, temperature = Question(id="x", prompt="Hi"), 0.5
    sampling = Sampling(samples=600, temperature=temperature, seed=3)
    rows = ask(loaded, [question], "instruct", "none", budget=Budget(answer=1), sampling=sampling)
    with torch.inference_mode():
        logits = loaded.model(torch.tensor([Renderer(loaded.tokenizer).render("x", "Hi", "none").ids])).logits[0, -1]
    p = (logits.double() / temperature).softmax(-1)
    p[END] = 0  # an answer that ended at once has no first token
    likely = p.topk(8).indices.tolist()
    first = [row.answer_ids[0] for row in rows if row.answer_ids]
    seen = [sum(token == found for found in first) for token in likely]
    expected = [float(p[token] / p.sum()) * len(first) for token in likely]
    observed, wanted = [*seen, len(first) - sum(seen)], [*expected, len(first) - sum(expected)]
    assert chisquare(observed, wanted).pvalue > 1e-3


def test_samples_come_item_by_item_and_the_same_again(loaded):
    sampling = Sampling(samples=3, temperature=1.0, seed=1)
    rows, again = (
        ask(loaded, QUESTIONS, "reasoning", "own", budget=Budget(think=6, answer=6), sampling=sampling).rows
        for _ in range(2)
    )
    assert rows == again
    assert [(row.item_id, row.sample) for row in rows] == [(q.id, n) for q in QUESTIONS for n in range(3)]
    assert len({row.answer for row in rows if row.item_id == "0"}) > 1
    other = ask(
        loaded, QUESTIONS, "reasoning", "own", budget=Budget(think=6, answer=6), sampling=replace(sampling, seed=2)
    ).rows
    assert other != rows


def test_a_killed_sampling_goes_on_with_the_same_samples(loaded, tmp_path, monkeypatch):
    sampling = Sampling(samples=2, temperature=1.0)
    settings = {"budget": Budget(answer=6), "sampling": sampling}
    whole = ask(loaded, QUESTIONS, "instruct", "none", **settings)
    backend = HuggingFace(loaded, rows=2)

    class Killed:
        name = "killed"

        def write(self, queue):
            for number, found in enumerate(backend.write(queue)):
                if number == 3:
                    raise KeyboardInterrupt
                yield found

    with pytest.raises(KeyboardInterrupt):
        ask(loaded, QUESTIONS, "instruct", "none", **settings, store=tmp_path / "store.jsonl", generator=Killed())
    torch.manual_seed(99)
    assert ask(loaded, QUESTIONS, "instruct", "none", **settings, store=tmp_path / "store.jsonl") == whole


def test_sampling_leaves_the_caller_s_random_numbers_alone(loaded):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    ask(loaded, QUESTIONS[:1], "instruct", "none", budget=Budget(answer=2), sampling=Sampling(temperature=1.0))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(("samples", "temperature"), [(0, 0.7), (2, 0.0), (1, -1.0)])
def test_samples_that_cannot_be_drawn_are_refused(samples, temperature):
    with pytest.raises(MechdriftError, match="temperature"):
        Sampling(samples=samples, temperature=temperature)


def test_what_does_not_fit_into_the_context_is_named(loaded):
    room = loaded.model.config.max_position_embeddings
    with pytest.raises(MechdriftError, match=rf"^long has \d+ tokens; .* context of {room}"):
        ask(
            loaded,
            [QUESTIONS[0], Question(id="long", prompt="so " * room)],
            "instruct",
            "none",
            budget=Budget(answer=4),
        )
