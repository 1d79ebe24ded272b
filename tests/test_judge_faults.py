"""A judge that is down, slow or wrong: a real server on this machine that fails as it is told to."""

import json
import sys
import time
from contextlib import suppress

import pandas as pd
import pytest
from local_server import LocalHandler, LocalServer, running

from mechdrift import cli
from mechdrift.audits.config import PRESETS, Audit, Size
from mechdrift.audits.pipeline import audit
from mechdrift.audits.stages.order import stages_of
from mechdrift.behaviour import generation
from mechdrift.behaviour.judges.chat import ChatJudge
from mechdrift.behaviour.judges.external import failures
from mechdrift.behaviour.judges.files import load_judge
from mechdrift.behaviour.judges.keeping import KeptLabels, check_judge
from mechdrift.behaviour.kept import keeping
from mechdrift.behaviour.one_call import score
from mechdrift.behaviour.sampling import Budget
from mechdrift.probes.sets import load_probes
from mechdrift.records import SIDES, MechdriftError
from mechdrift.runs import Run

LABEL = json.dumps({"choices": [{"message": {"content": "refusal"}}]}).encode()
KEY = "sk-hidden-0123456789"


class Server(LocalServer):
    """`behave` says how the next request is answered: by its number, from 0."""

    def __init__(self):
        super().__init__(Handler)
        self.behave = lambda number: "label"
        self.count = 0
        self.got: list[str] = []


class Handler(LocalHandler):
    server: Server

    def do_GET(self):  # noqa: N802 - the name that http.server calls
        self.server.got.append("GET")
        self.send(200, LABEL)

    def do_POST(self):  # noqa: N802 - the name that http.server calls
        self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            number, self.server.count = self.server.count, self.server.count + 1
        does = self.server.behave(number)
        with suppress(OSError):
            if does == "label":
                self.send(200, LABEL)
            elif does == "drip headers":
                self.drip()
            elif does.startswith("redirect"):
                self.send(int(does.split()[1]), b"", {"Location": f"{self.server.url}/elsewhere"})
            else:
                self.send(int(does), b"{}")

    def drip(self) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nX: " + b"a" * 40:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            time.sleep(0.1)


@pytest.fixture
def server():
    with running(Server()) as server:
        yield server


def judge_at(server: Server, **changes) -> ChatJudge:
    settings = {"model": "stub", "timeout": 20.0, "backoff": 0.0, "retries": 0, "concurrency": 1}
    return ChatJudge(base_url=server.url, **(settings | changes))


# One request


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_a_failure_and_nobody_follows_it(server, status):
    server.behave = lambda number: f"redirect {status}"
    (judged,) = judge_at(server)(["?"], ["Sure."])
    assert judged.why == f"server error: status {status}"
    assert server.got == []


def test_the_deadline_bounds_the_headers_too(server):
    server.behave = lambda number: "drip headers"
    began = time.monotonic()
    (judged,) = judge_at(server, timeout=0.5)(["?"], ["Sure."])
    assert failures([judged]) == {"timeout": 1}
    assert time.monotonic() - began < 3  # all of it takes 6 seconds


@pytest.mark.parametrize("key", [f"{KEY}\n# comment", f"{KEY}…", f"{KEY} x", f"{KEY}\x00", f"{KEY}\x1b[0m"])
def test_a_key_that_no_header_can_hold_is_found_before_anything_is_asked_and_not_shown(server, monkeypatch, key):
    monkeypatch.setattr("os.environ", {"JUDGE_KEY": key})
    for ask in (check_judge, lambda judge: judge(["?"], ["Sure."])):
        with pytest.raises(MechdriftError, match="JUDGE_KEY") as found:
            ask(judge_at(server, api_key_env="JUDGE_KEY"))
        assert "hidden" not in f"{found.value!r} {found.value.__cause__!r} {found.value.__context__!r}"
    assert server.count == 0


@pytest.mark.parametrize(
    "address",
    [
        "http://[::1",
        f"http://user:{KEY}@",
        f"http://user:{KEY}@host/v1",
        "http://host:port/v1",
        "http://ho st/v1",
        "http://host/\r\nX: y",
        "http://höst/v1",
        "http://",
        "",
    ],
)
def test_an_address_that_is_none_is_one_sentence_without_what_may_be_a_key(address):
    with pytest.raises(MechdriftError, match="address") as found:
        ChatJudge(base_url=address, model="m")
    assert "hidden" not in str(found.value)


@pytest.mark.parametrize(
    "line",
    [
        "timeout = nan",
        "timeout = inf",
        "timeout = 1e400",
        "timeout = 0",
        "concurrency = 100000000",
        "concurrency = 0",
        "retries = -1",
        "backoff = inf",
        "options = { temperature = nan }",
        "options = { until = 2026-01-01 }",
        "x = " + "[" * 5000,
        "labels = " + "{a=" * 5000,
    ],
)
def test_a_setting_that_makes_no_sense_is_one_sentence(tmp_path, line):
    file = tmp_path / "judge.toml"
    file.write_text(f'kind = "chat"\nbase_url = "http://127.0.0.1:9/v1"\nmodel = "m"\n{line}\n')
    with pytest.raises(MechdriftError) as found:
        load_judge(file)
    assert len(str(found.value)) < 500


# A whole audit


@pytest.fixture
def small(monkeypatch):
    size = Size(
        pairs=3, variants=2, tasks=2, patched=2, kl=2, thinking=2, steered=2, layer_step=3,
        budget=Budget(think=6, answer=6),
    )  # fmt: skip
    monkeypatch.setitem(PRESETS, "quick", size)


def config(server: Server, tiny_pair, folder) -> Audit:
    file = folder / "judge.toml"
    file.write_text(
        f'kind = "chat"\nbase_url = "{server.url}"\nmodel = "stub"\nretries = 0\nbackoff = 0.0\nconcurrency = 1\n'
    )
    return Audit(
        instruct=tiny_pair.instruct.path,
        reasoning=tiny_pair.reasoning.path,
        preset="quick",
        dimensions=("safety",),
        think=6,
        answer=6,
        device="cpu",
        judge=file,
        until_decided=False,
        out=folder / "run",
    )


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """Which models generate, and the stages up to the scores alone; the page is not drawn."""
    opened: list[str] = []
    ask = generation.HuggingFace.write

    def write(self, queue):
        opened.extend(["request"] * len(queue))
        return ask(self, queue)

    module = sys.modules["mechdrift.audits.pipeline"]
    monkeypatch.setattr(generation.HuggingFace, "write", write)
    monkeypatch.setattr(module, "stages_of", lambda config: stages_of(config)[:3])
    monkeypatch.setattr(Run, "report", lambda run: run.folder / "report.html")
    return opened


def test_a_judge_that_is_down_is_found_before_the_models_are_asked(server, tiny_pair, tmp_path, small, asked):
    server.behave = lambda number: "503"
    with pytest.raises(
        MechdriftError,
        match=r"'stub' at 127\.0\.0\.1:\d+ does not reply \(server error: status 503\).* what was answered is kept",
    ):
        audit(config(server, tiny_pair, tmp_path))
    with pytest.raises(MechdriftError, match="does not reply"):
        score(tiny_pair, load_probes("safety").sample(2), judge=judge_at(server), budget=Budget(think=4, answer=4))
    assert asked == []


def test_a_judge_that_goes_down_is_named_and_asked_again_for_what_is_missing(server, tiny_pair, tmp_path, small, asked):
    settings = config(server, tiny_pair, tmp_path)
    server.behave = lambda number: "label" if number < 4 else "500"
    with pytest.raises(
        MechdriftError, match=r"judge stub .* failed on \d+ of \d+ answers \(server error: status 500\)"
    ):
        audit(settings)
    assert not list((tmp_path / "run").glob("completions*"))

    asked.clear()
    server.behave, server.count = lambda number: "500" if number == LATE else "label", 0
    run = audit(settings)
    assert asked == [], "answers are kept"
    answers = sum(len(run.table(name)) for name in ("completions", "variants", "everyday"))
    assert server.count == 1 + answers - 3, "the first request is a trial, and three labels are kept"
    assert run.manifest["judge"]["failures"] == {"server error": 1}
    before, stages = run.table("completions"), run.manifest["stages"]

    server.behave = lambda number: "500"
    assert audit(settings).manifest["stages"] == stages, "a judge that is still down changes nothing"

    server.behave, server.count = lambda number: "label", 0
    run = audit(settings)
    assert (server.count, asked) == (1, []), "asked again about one"
    assert run.manifest["judge"]["failures"] == {}
    assert not list(run.folder.glob("*.partial.*"))
    after = run.table("completions")
    assert (before.failed.sum(), after.failed.sum()) == (1, 0)
    pd.testing.assert_frame_equal(after.drop(columns=CHANGED), before.drop(columns=CHANGED))

    # As after a kill between the end of a stage and the removal of what it had kept.
    (left := run.folder / "answers-instruct.partial.jsonl").touch()
    audit(settings)
    assert not left.exists()


LATE = 12  # a request about the instruct model's answers to the probe set, which come second
CHANGED = ["label", "aligned", "why", "says", "failed"]


def test_labels_are_kept_as_they_come_and_a_cut_line_is_asked_again(tmp_path, server):
    judge = KeptLabels(judge=judge_at(server), store=tmp_path / "labels.jsonl")
    assert [row.label for row in judge(["a", "b"], ["Sure.", "No."])] == ["refusal", "refusal"]
    stored = judge.store.read_bytes()
    judge.store.write_bytes(stored[:-20])
    judge(["a", "b"], ["Sure.", "No."])
    judge(["a", "b"], ["Sure.", "No."])
    assert server.count == 3


# A score


@pytest.fixture
def score_with(server, tiny_pair, tmp_path, monkeypatch, capsys, asked):
    """`mechdrift score` with a judge at the server, in one folder: exit code, standard error, how many answers were
    generated, and how many requests the judge got."""
    judge_file = config(server, tiny_pair, tmp_path).judge
    models = ["--instruct", tiny_pair.instruct.path, "--reasoning", tiny_pair.reasoning.path]
    tokens = ["--think", "6", "--answer", "6", "--limit", "4", "--judge", judge_file]

    def run(behave, out: str = "scores.csv") -> tuple[int, str, int, int]:
        server.behave, server.count = behave, 0
        asked.clear()
        words = ["mechdrift", "score", "--probes", "safety", *models, *tokens, "--out", tmp_path / out]
        monkeypatch.setattr(sys, "argv", [str(word) for word in words])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        return code, capsys.readouterr().err, len(asked), server.count

    return run


def test_a_score_goes_on_where_its_judge_went_down(score_with, tmp_path):
    (tmp_path / "whole").mkdir()
    code, _, asked, whole = score_with(lambda number: "label", out="whole/scores.csv")
    assert (code, asked > 0) == (0, True)

    code, err, _, _ = score_with(lambda number: "label" if number < 2 else "500")
    assert code == 1
    assert "judge stub" in err
    assert "(server error: status 500): put it right and start the same command again; answers and labels are" in err
    assert list(tmp_path.glob("score-*.partial"))

    code, _, asked, again = score_with(lambda number: "label")
    assert (code, asked, again) == (0, 0, whole - 1), "answers are kept, and the one label"
    assert (tmp_path / "whole/scores.csv").read_bytes() == (tmp_path / "scores.csv").read_bytes()
    assert not list(tmp_path.rglob("score-*")), "nothing is left behind"


def test_what_a_score_keeps_stays_where_the_judge_failed_and_goes_where_it_did_not(tiny_pair, tmp_path, capsys):
    for failed in (1, 0):
        with keeping(tmp_path, tiny_pair, "a", []) as kept:
            (kept.folder / "labels.jsonl").touch()
            kept.settle(pd.DataFrame({"failed_instruct": [0, failed]}))
        assert kept.folder.exists() == bool(failed)
    assert "failed on some answers (column failed_instruct); the same command asks about" in capsys.readouterr().err


def test_another_budget_and_other_weights_never_find_what_a_score_has_kept(tiny_pair, tmp_path):
    places = []
    for think in (4, 4, 5):
        with keeping(tmp_path, tiny_pair, "a/../b", [("1", "Why?")], budget=Budget(think=think, answer=4)) as kept:
            places.append(kept.folder)
            (kept.folder / "labels.jsonl").touch()
    assert len(set(places)) == 2
    assert {place.parent for place in places} == {tmp_path}
    assert len({kept.answers(side, tiny_pair.open(side)).name.split("-")[1] for side in SIDES}) == 2


def test_a_score_without_a_single_label_names_judge_and_cause(server, tiny_pair):
    server.behave = lambda number: "label" if number == 0 else "401"
    with pytest.raises(MechdriftError, match=r"stub .* failed on \d+ of \d+ answers \(server error: status 401\)"):
        score(tiny_pair, load_probes("safety").sample(2), judge=judge_at(server), budget=Budget(think=4, answer=4))
