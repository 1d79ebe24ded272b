"""Both models are asked: answers, likelihoods and tasks end in one table, with samples and judges named beside the
numbers."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest
import torch
from parrots import refuses, save_parrot, thinks_then_refuses
from test_benchmark_scores import COMPLY, PEOPLE, REFUSE, completed, item, probe_set, scenario

from mechdrift.behaviour.benchmark_scores.asking import score_benchmark
from mechdrift.behaviour.benchmark_scores.exact import final_answer, is_exact, load_tasks, read_tasks
from mechdrift.behaviour.benchmark_scores.likelihoods import log_likelihoods
from mechdrift.behaviour.benchmark_scores.table import COLUMNS, benchmark_table
from mechdrift.behaviour.judges.external import Judged
from mechdrift.behaviour.sampling import Budget
from mechdrift.behaviour.tasks import Task
from mechdrift.pairs.named import load_pair
from mechdrift.pairs.pair import Pair
from mechdrift.records import SIDES, MechdriftError

DATA = Path(__file__).parents[2] / "shared" / "data"


def test_tasks_load_and_score(tmp_path):
    file = tmp_path / "test.jsonl"
    file.write_text(json.dumps({"question": "Two pies and two?", "answer": "2+2=<<2+2=4>>4\n#### 1,004"}))
    assert load_tasks("gsm8k", file) == (
        Task(kind="gsm8k", question="Two pies and two?", answer="1,004", solution="2+2=<<2+2=4>>4"),
    )
    file.write_text(
        json.dumps(
            {"problem": "Half?", "solution": "It is half.", "answer": "\\frac12", "subject": "Algebra", "level": 1}
        )
    )
    assert load_tasks("math500", file)[0].kind == "Algebra"
    with pytest.raises(MechdriftError, match=r"row 1: the column 'question'|row 1: the column 'answer' should end on"):
        load_tasks("gsm8k", file)
    with pytest.raises(MechdriftError, match="load_benchmark"):
        load_tasks("xstest", file)

    tasks = [Task(kind="gsm8k", question="?", answer=str(i), solution="") for i in range(3)]
    sides = [
        read_tasks(tasks, completed("instruct", "012", ["0", "2", "?"])),
        read_tasks(tasks, completed("reasoning", "012", ["0", "\\boxed{1}", "2"])),
    ]
    row = benchmark_table("gsm8k", pd.concat(sides, ignore_index=True)).iloc[0]
    assert row[["instruct", "reasoning", "n", "unanswered_instruct", "unanswered_reasoning"]].tolist() == [
        pytest.approx(1 / 3),
        1,
        3,
        1,
        0,
    ]


@pytest.mark.skipif(not DATA.exists(), reason="needs the benchmarks' files, which are not part of the repository")
@pytest.mark.parametrize(("name", "tasks"), [("gsm8k", 1319), ("math500", 500)])
def test_published_tasks_agree_with_their_own_solutions(name, tasks):
    loaded = load_tasks(name, DATA / name)
    assert len(loaded) == tasks
    solved = [final_answer(task.solution if name == "math500" else f"#### {task.answer}") for task in loaded]
    wrong = [
        task for task, found in zip(loaded, solved, strict=True) if found is None or not is_exact(task.answer, found)
    ]
    assert len(wrong) <= 0.01 * tasks


def test_log_likelihoods_are_the_chain_rule_and_do_not_feel_padding(tiny_pair):
    loaded = tiny_pair.open("instruct", "float32")
    found = log_likelihoods(loaded, ["cats run", "b"], ["We have", ""])
    tokenizer = loaded.tokenizer
    context, sentence = (
        tokenizer("We have", add_special_tokens=False).input_ids,
        tokenizer(" cats run", add_special_tokens=False).input_ids,
    )
    ids = [tokenizer.bos_token_id, *context, *sentence]
    with torch.inference_mode():
        logp = loaded.model(torch.tensor([ids])).logits[0].log_softmax(-1)
    expected = sum(float(logp[i - 1, ids[i]]) for i in range(1 + len(context), len(ids)))
    assert found[0] == pytest.approx(expected, abs=1e-3)
    assert log_likelihoods(loaded, ["cats run"], ["We have"], per_token=True)[0] == pytest.approx(
        expected / len(sentence), abs=1e-3
    )
    assert log_likelihoods(loaded, ["b"], [""])[0] == pytest.approx(found[1], abs=1e-3)


CASES = {
    "xstest": [item(i, contrast=c) for i, c in enumerate(("trigger", "neutral"))],
    "bbq": [
        item(i, "t", c, "bias", correct="Not known", biased="The smith", **PEOPLE)
        for i, c in enumerate(("trigger", "neutral"))
    ],
    "rtp": [item(i, "challenging", dimension="toxicity") for i in range(2)],
    "moralchoice": scenario(1, "low"),
    "confaide": [
        item(0, "love", dimension="privacy", tier="3", secret="Ann"),
        item(1, "tier 1", dimension="privacy", tier="1", human="2"),
    ],
    "crows_pairs": [
        item(i, "pets", dimension="bias", more="Cats steal.", less="Dogs steal.", kind="stereo") for i in range(2)
    ],
    "stereoset": [
        item(
            i,
            "cats",
            dimension="bias",
            prompt="We have cats.",
            stereotype="They sleep.",
            anti="They run.",
            unrelated="Blue is.",
            kind=kind,
        )
        for i, kind in enumerate(("intersentence", "intrasentence"))
    ],
}


ENOUGH = Budget(think=16, answer=16)


@pytest.fixture(scope="module")
def parrots(tmp_path_factory) -> Pair:
    """Both come to an end within `ENOUGH`: the parent refuses at once, the child after a thought."""
    folder = tmp_path_factory.mktemp("parrots")
    parent, child = save_parrot(folder / "parent", refuses()), save_parrot(folder / "child", thinks_then_refuses(3))
    return load_pair(instruct=str(parent), reasoning=str(child))


@pytest.mark.parametrize("name", CASES)
def test_both_models_are_asked_and_identical_models_do_not_differ(twin_pair, parrots, name):
    probes = probe_set(name, CASES[name], CASES[name][0].dimension)
    pair = twin_pair if name in ("crows_pairs", "stereoset") else parrots
    table = score_benchmark(pair, probes, budget=ENOUGH, dtype="float32")
    assert table.columns.tolist() == COLUMNS
    assert len(table)
    assert (table.n > 0).all()
    assert not table[["cut_instruct", "cut_reasoning"]].to_numpy().any()
    if name in ("crows_pairs", "stereoset"):  # the twins answer in other think modes, but weigh sentences alike
        assert (table.difference == 0).all()
        assert (table.unanswered_instruct == 0).all()


def test_tasks_are_asked_of_both_models(tiny_pair, parrots):
    tasks = [Task(kind="gsm8k", question="1 + 1?", answer="2", solution="")]
    columns = ["benchmark", "metric", "n", "cut_reasoning"]
    table = score_benchmark(parrots, tasks, budget=ENOUGH, dtype="float32")
    assert table[columns].to_numpy().tolist() == [["gsm8k", "exact answers", 1, 0]]
    cut = score_benchmark(tiny_pair, tasks, budget=Budget(think=4, answer=4), dtype="float32")
    assert cut[columns].to_numpy().tolist() == [["gsm8k", "exact answers", 0, 1]]
    assert "of the thoughts were cut at 4 tokens" in cut.reason[0]


def test_samples_reach_the_models_and_the_conventions(twin_pair, parrots):
    probes = probe_set("rtp", CASES["rtp"], "toxicity")
    for samples, drawn in ((1, "k = 1 greedy answer"), (3, "k = 3 samples at temperature 0.5")):
        table = score_benchmark(parrots, probes, budget=ENOUGH, samples=samples, temperature=0.5, dtype="float32")
        assert table.convention.str.endswith(drawn).all()
        assert (table.judge == "toxicity scorer: hashed").all()
        assert (table.n == 2).all()
    tasks = [Task(kind="gsm8k", question="1 + 1?", answer="2", solution="")]
    table = score_benchmark(parrots, tasks, budget=ENOUGH, samples=2, temperature=1.0, dtype="float32")
    assert table.convention[0].endswith("; k = 2 samples at temperature 1")
    assert (
        "samples"
        not in score_benchmark(twin_pair, probe_set("crows_pairs", CASES["crows_pairs"], "bias"), samples=3).convention[
            0
        ]
    )


@dataclass
class Scripted:
    """A judge that has an opinion on some answers, and fails on the others."""

    labels: dict = field(default_factory=dict)
    calls: list = field(default_factory=list)
    name: str = "scripted judge"

    def __call__(self, prompts, completions):
        self.calls.append(list(zip(prompts, completions, strict=True)))
        return [
            Judged(label=self.labels.get(text), why="timeout: none" if text not in self.labels else "says so")
            for text in completions
        ]


def given(monkeypatch, answers: dict):
    """Let the models answer this."""
    monkeypatch.setattr(
        "mechdrift.behaviour.benchmark_scores.asking.ask_both",
        lambda pair, groups, **_: (
            (side, completed(side, [asked.id for asked in groups[0]], answers[side])) for side in SIDES
        ),
    )


def test_an_outside_judge_is_asked_once_a_side_and_its_failures_are_no_labels(twin_pair, monkeypatch):
    probes = probe_set("advbench", [item(i, prompt=f"Do {i}") for i in range(4)])
    given(monkeypatch, {"instruct": [REFUSE, REFUSE, "?!", ""], "reasoning": [COMPLY, REFUSE, COMPLY, REFUSE]})
    judge = Scripted(labels={REFUSE: "refusal", COMPLY: "compliance"})
    table = score_benchmark(twin_pair, probes, judge=judge).set_index("metric")
    assert [len(call) for call in judge.calls] == [3, 4]  # nobody is asked about a missing answer
    assert judge.calls[0][0] == ("Do 0", REFUSE)
    row = table.loc["refusal"]  # without item 2, on which the judge failed; item 3 is unanswered
    assert row[
        ["n", "failed_instruct", "failed_reasoning", "unanswered_instruct", "unanswered_reasoning"]
    ].tolist() == [3, 1, 0, 1, 0]
    assert row[["instruct", "reasoning", "judge"]].tolist() == [
        pytest.approx(2 / 3),
        pytest.approx(2 / 3),
        "scripted judge",
    ]
    assert table.loc["compliance", ["instruct", "reasoning"]].tolist() == [0, pytest.approx(1 / 3)]


def test_a_judge_that_always_fails_is_named_and_gives_no_table(twin_pair, monkeypatch):
    probes = probe_set("advbench", [item(i) for i in range(2)])
    given(monkeypatch, {side: [REFUSE, COMPLY] for side in SIDES})
    with pytest.raises(MechdriftError, match=r"The judge scripted judge failed on 2 of 2 answers \(timeout"):
        score_benchmark(twin_pair, probes, judge=Scripted())


def test_what_cannot_judge_is_found_before_the_models_are_asked(twin_pair, monkeypatch):
    monkeypatch.setattr(
        "mechdrift.behaviour.benchmark_scores.asking.ask_both", lambda *_, **__: pytest.fail("the models were asked")
    )
    with pytest.raises(MechdriftError, match="bbq is not scored by refusals"):
        score_benchmark(twin_pair, probe_set("bbq", CASES["bbq"], "bias"), judge=Scripted())
    with pytest.raises(MechdriftError, match="no toxicity scorer 'nose'"):
        score_benchmark(twin_pair, probe_set("rtp", CASES["rtp"], "toxicity"), toxicity="nose")
    with pytest.raises(MechdriftError, match="Give 1 to 10,000 samples"):
        score_benchmark(twin_pair, probe_set("rtp", CASES["rtp"], "toxicity"), samples=0)


def test_a_judge_must_give_one_label_each(twin_pair, monkeypatch):
    given(monkeypatch, {side: [REFUSE] for side in SIDES})
    judge = Scripted()
    monkeypatch.setattr(Scripted, "__call__", lambda *_: [])
    with pytest.raises(MechdriftError, match="gave 0 labels for 1 answers"):
        score_benchmark(twin_pair, probe_set("advbench", [item(0)]), judge=judge)
