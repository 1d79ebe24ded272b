"""The command line: in this process where that is enough, as real processes where signals are sent."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import make_tokenizer, save_model
from cyclopts import CycloptsError
from parrots import refuses, save_parrot, thinks_then_refuses
from synthetic_run import build_run
from test_gate import whole

from mechdrift.audits.pipeline import Audit
from mechdrift.bench import machine as bench
from mechdrift.errors import MESSAGE
from mechdrift.pairs.chat import ChatOptions
from mechdrift.records import MechdriftError
from mechdrift.runs import Run, load_run

COMMANDS = ("audit", "look", "report", "compare", "trajectory", "repair", "card", "gate", "pairs", "probes", "bench")
COMMANDS += ("merge", "plan", "run", "work", "status", "export")
ROOT = Path(__file__).parents[1]


# Help


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_text_says_what_it_does_and_shows_an_example(mechdrift, command):
    code, out, err = mechdrift(command, "--help")
    assert (code, err) == (0, "")
    assert re.search(rf"Examples?:\n\n    mechdrift {command}", out)


def test_the_main_help_lists_the_commands_with_examples(mechdrift):
    for arguments in ((), ("--help",)):
        code, out, _ = mechdrift(*arguments)
        assert code == 0
        assert all(f"│ {command} " in out for command in COMMANDS)
        assert "Examples:\n\n    mechdrift audit  " in out


def test_every_field_of_the_configuration_is_an_option_with_a_help_text(mechdrift):
    _, out, _ = mechdrift("audit", "--help")
    options = dict(re.findall(r"│ --([a-z-]+) +(?:[A-Z.]+ +)?(\S[^│]+?) *│", out))
    names = {field.name for field in (*fields(Audit), *fields(ChatOptions))} - {"chat"}  # whose fields are options
    assert set(options) == {name.replace("_", "-") for name in names} | {"debug", "dry-run", "step", "shard"}
    assert all(options.values())


def test_the_options_are_the_configuration(mechdrift, monkeypatch):
    given: list[Audit] = []
    monkeypatch.setattr(
        sys.modules["mechdrift.audits.pipeline"], "audit", lambda config: given.append(config) or Run(Path("somewhere"))
    )
    settings = {
        "pair": "p",
        "instruct": "i",
        "reasoning": "r",
        "adapter": "a",
        "null_model": "n",
        "revision": "v",
        "preset": "full",
        "dimensions": ("bias", "safety"),
        "out": Path("o"),
        "until_decided": True,
        "margin": 0.1,
        "seed": 7,
        "samples": 3,
        "temperature": 0.5,
        "judge": Path("j.toml"),
        "think": "auto",
        "answer": 200,
        "think_max": 500,
        "engine": "hf",
        "instruct_engine": "hf",
        "reasoning_engine": "hf",
        "device": "cpu",
        "dtype": "float32",
        "generation_dtype": "bfloat16",
        "device_map": "auto",
        "trust_remote_code": True,
        "layout": Path("l.toml"),
    }
    words = []
    for name, value in settings.items():
        words += [
            f"--{name.replace('_', '-')}",
            *(value if isinstance(value, tuple) else [] if value is True else [value]),
        ]
    assert mechdrift("audit", *words) == (0, f"report: {Path('somewhere/report.html')}\n", "")
    assert given == [Audit(**settings)]
    assert set(settings) == {field.name for field in fields(Audit)} - {"chat"}
    mechdrift("audit")
    mechdrift("audit", "mine", "--preset", "quick", "--seed", "3.0")
    assert given[1:] == [Audit(), Audit(pair="mine", preset="quick", seed=3)]


def test_lists_name_what_there_is(mechdrift):
    assert re.match(r"smollm2-sft +SFT +SmolLM2", mechdrift("pairs")[1])
    own, benchmarks = (part.splitlines() for part in mechdrift("probes")[1].split("\n\n"))
    assert own[0].split() == ["set", "items", "families", "licence", "source"]
    six = ["safety", "toxicity", "bias", "ethics", "privacy", "robustness"]
    assert [line.split()[0] for line in own[1:]] == [*six, "plain", "sentences"]
    assert all(int(items) >= 96 and int(families) >= 16 for _, items, families, *_ in map(str.split, own[1:]))
    assert benchmarks[0].split() == ["benchmark", "dimension", "items", "licence", "revision", "source"]
    assert {"xstest", "bbq", "gsm8k", "toxigen"} < {line.split()[0] for line in benchmarks[1:]}


# Errors


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    """Tiny models that make a pair, and some that make none; a run folder that is none."""
    root = tmp_path_factory.mktemp("folders")
    save_model(root / "parent")
    save_model(root / "child", seed=1)
    save_model(root / "wide", hidden_size=64)
    shutil.copytree(root / "parent", root / "mute", ignore=shutil.ignore_patterns("chat_template*"))
    make_tokenizer(None).save_pretrained(root / "mute")
    (root / "foreign").mkdir()
    (root / "foreign" / "notes.txt").write_text("mine")
    (root / "broken").mkdir()
    (root / "broken" / "run.json").write_text('{"schema"')
    return root


PAIR = "--instruct {0}/parent --reasoning {0}/child"
BAD = {
    "frobnicate": "Unknown command",
    "audit --nope 3": "Unknown option: --nope",
    "audit --preset huge": "quick.*standard.*full",
    "audit --preset": "--preset requires an argument",
    "audit --dimensions safety taste": "taste",
    "audit --dimensions": "dimensions",
    "audit --seed x": "--seed",
    "audit --seed -1": "seed should be 0 or more",
    "audit --seed 2.7": "--seed: a whole number is expected, not 2.7",
    "audit --think 99.5": "--think: .*99.5",
    "score --probes safety --samples 1.5": "--samples: a whole number is expected",
    "repair {0}/absent --pairs -0.5": "--pairs: a whole number is expected",
    "audit one two": "two",
    "audit gpt5": "unknown pair 'gpt5'",
    "audit --reasoning {0}/child": "need --instruct",
    "audit --instruct {0}/parent": "reasoning= or adapter=",
    "audit --instruct {0}/parent --reasoning {0}/absent": "no folder",
    "audit --instruct {0}/parent --reasoning {0}/wide": "width",
    "audit --instruct {0}/parent --reasoning {0}/mute": "chat template",
    "audit --instruct {0}/parent --adapter {0}/child": "not a LoRA adapter",
    "audit --instruct nobody/nothing --reasoning {0}/child": "check the network",
    f"audit {PAIR} --device toaster": "toaster",
    f"audit {PAIR} --device-map nowhere": "nowhere",
    f"audit {PAIR} --out {{0}}/foreign": "is not empty and is not a run folder",
    f"audit {PAIR} --out {{0}}/foreign/notes.txt": "cannot be made",
    f"audit {PAIR} --out {{0}}/broken": "run.json is damaged",
    "report": "RUN requires an argument",
    "report {0}/absent": "is not a run folder",
    "report {0}/foreign": "is not a run folder",
    "report {0}/broken": "run.json is damaged",
    "bench --preset quick": "Unknown option: --preset",
    "score --probes nothing": "unknown probe set",
    "score --probes xstest --path {0}/absent.csv": "absent.csv",
    "score --probes xstest --limit 0": "--limit should be 1 or more",
    "score --probes safety --samples 0": "--samples should be 1 or more",
    "score --probes safety --temperature 0": "--temperature should be above 0",
    "score --probes safety --temperature nan": "--temperature should be above 0",
    "score --probes safety --temperature 1e-300": "--temperature should be above 0",
    "score --probes safety --seed -1": "seed should be 0 or more",
    "score --probes safety --samples 1000000000000": "Give 1 to 10,000 samples",
    "bench --planted --seed -1": "seed should be 0 or more",
    "audit --seed 1000000000000000000000": "and below 2",
    "audit --samples 1000000000000": "at most 10,000",
    "audit --samples 2 --temperature nan": "temperature above 0",
    "score --probes safety --judge {0}/absent.toml": r"absent\.toml cannot be read",
    "audit --judge {0}/absent.toml": r"absent\.toml cannot be read",
    "audit --samples 0": "samples should be 1 or more",
}


@pytest.mark.parametrize(
    ("think_max", "told"),
    [
        ((), "no thought and no answer ended within the calibration, so all the room is counted"),
        (("--think-max", "5000"), "The time is not estimated: After the longest prompt and an answer of "),
    ],
)
def test_a_dry_run_says_what_would_be_asked_and_writes_nothing(mechdrift, folders, think_max, told):
    out = folders / "never"
    code, said, err = mechdrift("audit", *PAIR.format(folders).split(), "--dry-run", "--out", str(out), *think_max)
    assert (code, "mechdrift:" in err, out.exists()) == (0, False, False)
    assert "asked of each model:" in said
    assert told in said


@pytest.mark.parametrize("words", BAD)
def test_a_mistake_is_one_sentence_and_exit_code_1(mechdrift, folders, words):
    code, out, err = mechdrift(*words.format(folders).split())
    assert (code, out) == (1, "")
    assert re.fullmatch(r"mechdrift: [^\n]+\n", without_progress(err))
    assert re.search(BAD[words], err)


@pytest.mark.parametrize(("words", "kind"), [("audit gpt5", MechdriftError), ("audit --nope 3", CycloptsError)])
def test_debug_lets_the_error_through_with_its_traceback(mechdrift, words, kind):
    with pytest.raises(kind):
        mechdrift(*words.split(), "--debug")


def test_what_is_no_mistake_of_the_user_keeps_its_traceback(mechdrift, monkeypatch):
    monkeypatch.setattr("mechdrift.runs.load_run", lambda folder: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        mechdrift("report", "x")


def test_what_the_system_refuses_is_one_sentence(mechdrift):
    code, out, err = mechdrift("report", "x" * 300)
    assert (code, out) == (1, "")
    assert re.fullmatch(r"mechdrift: [^\n]*File name too long[^\n]*\n", err)


def test_signs_survive_a_pipe_of_another_encoding(tmp_path):
    whole(build_run(tmp_path / "run", pairs=4))
    done = subprocess.run(
        [sys.executable, "-m", "mechdrift.cli", "gate", str(tmp_path / "run"), "--max-drop", "safety=0.9"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "cp1252"},
    )
    assert done.returncode == 0, done.stderr
    assert "aligned answers in safety" in done.stdout.decode("utf-8")


def test_an_interrupt_exits_with_130_and_says_how_to_go_on(mechdrift, monkeypatch):
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["mechdrift.audits.pipeline"], "audit", interrupt)
    code, out, err = mechdrift("audit")
    assert (code, out) == (130, "")
    assert "interrupted" in err
    assert "the same command goes on from there" in err


# Score


def test_score_asks_both_models_and_prints_the_benchmark_s_own_rates(mechdrift, folders):
    benchmark = folders / "xstest_prompts.csv"
    benchmark.write_text(
        "id,prompt,type,label\n" + "".join(f"{i},Say {i}.,kind {i},{'safe' if i % 2 else 'unsafe'}\n" for i in range(6))
    )
    table = folders / "scores.csv"
    words = [
        *PAIR.format(folders).split(),
        "--path",
        str(benchmark),
        "--answer-tokens",
        "4",
        "--think-tokens",
        "4",
        "--out",
        str(table),
    ]
    code, out, _ = mechdrift("score", "--probes", "xstest", *words)
    assert code == 0
    assert "refus" in out
    lines = table.read_text().splitlines()
    assert lines[0].startswith("benchmark") or "metric" in lines[0]
    assert len(lines) > 2


def test_score_takes_the_engine_options_of_an_audit(mechdrift, folders):
    asked = ["score", "--probes", "privacy", *PAIR.format(folders).split(), "--think", "4", "--out", f"{folders}/p.csv"]
    assert "unknown engine 'sglang'" in mechdrift(*asked, "--engine", "sglang", "--device", "cpu")[2]
    assert "should be asked through one kind of engine" in mechdrift(*asked, "--reasoning-engine", "vllm")[2]


@pytest.fixture(scope="module")
def refusing(tmp_path_factory) -> Path:
    """A pair that refuses everything; the child's thought takes six tokens, its closing marker included."""
    root = tmp_path_factory.mktemp("refusing")
    save_parrot(root / "parent", refuses())
    save_parrot(root / "child", thinks_then_refuses(4))
    return root


def ask_robustness(refusing: Path, think: int) -> list[str]:
    asked = f"--limit 8 --samples 2 --answer-tokens 4 --think-tokens {think} --out {refusing}/{think}.csv"
    return ["score", "--probes", "robustness", *PAIR.format(refusing).split(), *asked.split()]


def test_score_asks_a_built_in_set_and_its_variants_with_samples(mechdrift, refusing):
    code, out, _ = mechdrift(*ask_robustness(refusing, think=16))
    assert "mde: the smallest difference that this design finds in 80 % of cases" in out
    assert code == 0
    assert "judged by: refusal rules" in out
    assert "cannot tell" not in out
    scores = pd.read_csv(refusing / "16.csv").set_index("metric")
    assert (scores.n["aligned"], scores.n["over"], scores.n["drop"]) == (4, 4, 4)
    assert (scores.reasoning["aligned"], scores.reasoning["over"]) == (1, 1)


def test_score_of_thoughts_that_were_cut_says_that_it_cannot_tell_and_why(mechdrift, refusing):
    code, out, _ = mechdrift(*ask_robustness(refusing, think=4))
    assert code == 0
    assert "\ncannot tell: 100% of the thoughts were cut at 4 tokens; raise --think\n" in out
    scores = pd.read_csv(refusing / "4.csv").set_index("metric")
    assert (scores.n["aligned"], scores.n["over"], scores.n["drop"]) == (0, 0, 0)
    assert (scores.asked["aligned"], scores.incomplete_instruct["aligned"]) == (4, 0)
    assert scores.incomplete_reasoning["aligned"] == 8  # answers: two samples of four items


@pytest.mark.parametrize(("name", "quiet"), [("mechdrift", True), ("someone_elses_program", False)])
def test_an_interrupt_during_the_imports_is_one_sentence_for_the_command_only(name, quiet):
    code = f"import sys; sys.argv = [{name!r}]; import mechdrift; raise KeyboardInterrupt"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    said = done.stderr.strip().splitlines()
    assert (said == [MESSAGE]) == quiet
    assert ("Traceback" in done.stderr) != quiet


# Signals: one audit is killed while it asks, interrupted after that, and then allowed to finish


def start(folders: Path, out: Path) -> subprocess.Popen:
    fixed = ["--preset", "quick", "--dimensions", "safety", "--no-until-decided"]
    words = [*PAIR.format(folders).split(), *fixed, "--out", str(out)]
    environment = os.environ | {
        "MECHDRIFT_CACHE": str(out.parent / "cache"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    command, pipe = [sys.executable, "-m", "mechdrift.cli", "audit", *words], subprocess.PIPE
    # Shells start what runs in the background with interrupts ignored, and children inherit that.
    listen = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdout=pipe, stderr=pipe, preexec_fn=listen)


def send_when(process: subprocess.Popen, file: Path, number: signal.Signals, holds: bytes) -> tuple[int, str, str]:
    """Send a signal as soon as `file` is there and has a line that `holds` something; exit code, standard output,
    standard error."""
    while process.poll() is None and not (file.exists() and holds in file.read_bytes().rpartition(b"\n")[0]):
        time.sleep(0.02)
    process.send_signal(number)
    out, err = process.communicate()
    return process.returncode, out, err


@pytest.fixture(scope="module", autouse=True)
def background(folders, tmp_path_factory) -> Iterator[Future]:
    """The processes run while the other tests of this file do."""
    with ThreadPoolExecutor() as pool:
        yield pool.submit(tell, folders, tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def story(background) -> dict:
    return background.result()


def tell(folders: Path, out: Path) -> dict:
    """The three processes' ends, and what the folder held after each."""
    told, store = {"folder": out}, out / "answers-instruct.partial.jsonl"
    for _ in range(
        5
    ):  # on a busy machine the signal may come after the stage's end: then there is nothing to go on with
        told["killed"] = send_when(start(folders, out), store, signal.SIGKILL, b'"safety-')
        if store.exists() and not (out / "completions.parquet").exists():
            break
        shutil.rmtree(out)
    rows = [json.loads(line) for line in store.read_text().split("\n")[:-1]]
    told["finished rows"] = len(rows)
    # Leave a mark in the finished batch: were it asked again, the mark would go.
    store.write_text("".join(json.dumps(row | {"answer": "MARK"}) + "\n" for row in rows))
    told["interrupted"] = send_when(start(folders, out), out / "completions.parquet", signal.SIGINT, b"")
    told["left"] = {file.name: file.read_bytes() for file in out.iterdir() if file.is_file()}
    told["stages"] = load_run(out).finished
    told["damaged"] = load_run(out).damaged_stages()
    last = start(folders, out)
    texts = last.communicate()
    told["finished"] = last.returncode, *texts
    return told


def without_progress(err: str) -> str:
    """Standard error without the lines that say where a command stands."""
    return re.sub(r"\[\d\d:\d\d\] [^\n]+\n", "", err)


def test_a_killed_audit_keeps_its_finished_batches_and_does_not_ask_them_again(story):
    code, out, err = story["killed"]
    assert (code, out, without_progress(err)) == (-signal.SIGKILL, "", "")
    assert story["finished rows"] >= 1
    answers = load_run(story["folder"]).table("completions").groupby("side").answer.unique()
    assert "MARK" in list(answers.instruct)
    assert "MARK" not in list(answers.reasoning)


def test_an_interrupted_audit_exits_with_130_and_leaves_whole_files(story):
    code, out, err = story["interrupted"]
    assert (code, out) == (130, "")
    assert re.fullmatch(r"\nmechdrift: interrupted; [^\n]+\n", without_progress(err))
    assert not [name for name in story["left"] if name.endswith(".part")]
    assert story["stages"][0] == "pair"
    assert story["damaged"] == ()


def test_the_same_command_finishes_afterwards_and_prints_the_report(story):
    code, out, err = story["finished"]
    assert (code, out, without_progress(err)) == (0, f"report: {story['folder'] / 'report.html'}\n", "")
    told = re.findall(r"stage (\d) of 8", err)  # the unfinished stages only, each once
    assert told == [str(number) for number in range(len(story["stages"]) + 1, 9)]
    run = load_run(story["folder"])
    assert run.finished == ("pair", "pilot", "answers", "scores", "kl", "drift", "readouts", "patch")
    assert (story["folder"] / "report.html").stat().st_size > 10_000
    for stage in story["stages"]:  # what was finished before the interrupt was not made again
        for file in run.manifest["stages"][stage]["files"]:
            assert (story["folder"] / file).read_bytes() == story["left"][file]


# Bench


def test_bench_prints_one_aligned_line_per_measurement_of_equal_work(mechdrift, monkeypatch, tiny_pair):
    for name, value in {"load_pair": lambda name: tiny_pair, "ROUNDS": 1, "ANSWER_TOKENS": 4, "LAYER_STEP": 2}.items():
        monkeypatch.setattr(bench, name, value)
    code, out, _ = mechdrift("bench")
    assert code == 0
    header, *lines = out.splitlines()[1:]
    assert header.split() == ["what", "ratio", "spread", "target", "n"]
    assert [line.split(":")[0] for line in lines] == [*["capture"] * 3, "generation", *["patching"] * 3]
    end = header.index("target") + len("target")
    assert all(re.search(r"(<=|>=) \S+$", line[:end]) for line in lines)
    assert "6 sites at once" in lines[1]
    assert "12 of 12 answers are the same" in lines[3]
    # Replay, full passes and TransformerLens give the same numbers.
    assert float(re.search(r"largest difference .*? (\S+) +<= 1e-03", lines[6])[1]) < 1e-3


def test_sides_take_turns_in_changing_order_after_a_warm_up():
    order: list[str] = []
    seconds = bench.take_turns({"a": lambda: order.append("a"), "b": lambda: time.sleep(0.01) or order.append("b")}, 3)
    assert "".join(order) == "ba" + "ab" + "ba" + "ab"
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3}
    assert (seconds["b"] > np.maximum(seconds["a"], 0.009)).all()
