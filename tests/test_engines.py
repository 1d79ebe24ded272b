"""Backends over HTTP: against llama.cpp's own server, and against a stub that misbehaves in every way at hand."""

import importlib.util
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from conftest import CHATML, make_model, make_tokenizer
from greedy_modes import ask_all, share_alike
from llama_server import make_tokenizer_with_a_merge, write_gguf

from mechdrift.audits.config import Audit
from mechdrift.audits.pipeline import audit
from mechdrift.behaviour.backends import fidelity, http
from mechdrift.behaviour.backends.choosing import check_servers, make_generator
from mechdrift.behaviour.backends.fidelity import check_fidelity, measure_fidelity
from mechdrift.behaviour.backends.hugging_face import HuggingFace
from mechdrift.behaviour.backends.protocol import Request
from mechdrift.behaviour.backends.written import check_engines
from mechdrift.behaviour.generation import ask
from mechdrift.behaviour.one_call import score
from mechdrift.behaviour.sampling import Budget
from mechdrift.behaviour.two_stages import Question
from mechdrift.pairs.loading import LanguageModel, ModelSource, load_model
from mechdrift.pairs.named import load_pair
from mechdrift.pairs.pair import Pair
from mechdrift.probes.sets import load_probes
from mechdrift.records import SIDES, Fidelity, MechdriftError

END = 0
HAS_VLLM = importlib.util.find_spec("vllm") is not None
QUESTIONS = [Question(id=str(n), prompt=prompt) for n, prompt in enumerate(["Why is the sky blue?", "Hi", "An ant?"])]


@pytest.fixture(scope="session")
def loaded(tmp_path_factory) -> LanguageModel:
    """A tiny Qwen 2 whose tokenizer llama.cpp reads, too."""
    folder, tokenizer = tmp_path_factory.mktemp("engines"), make_tokenizer_with_a_merge(CHATML)
    model = make_model("qwen2", vocab_size=len(tokenizer), max_position_embeddings=4096)  # long attacks fit
    words = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    with torch.no_grad():  # it writes ASCII: llama.cpp tells no log-probability of half a character
        model.lm_head.weight[[i for i, word in enumerate(words) if not (word.isascii() and i != 1)]] = 0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_gguf(folder / "tiny.gguf", model, tokenizer)
    return load_model(ModelSource(name="tiny", path=str(folder)))


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="session")
def llama(loaded):
    """The address of llama.cpp's server on the same weights."""
    port = free_port()
    file = Path(loaded.source.path) / "tiny.gguf"
    script = Path(__file__).with_name("llama_server.py")
    server = subprocess.Popen(
        [sys.executable, script, file, str(port)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert server.stdout.readline().strip()
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()


def requests(count: int = 6, **changes) -> deque[Request]:
    random = torch.Generator().manual_seed(1)
    settings = {"max_tokens": 24, "ends": frozenset({END})} | changes
    return deque(
        Request(key=n, prompt=tuple(torch.randint(2, 258, (5 + 3 * n,), generator=random).tolist()), **settings)
        for n in range(count)
    )


real_server = pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="xllamacpp is not installed")


@pytest.mark.engine
@real_server
def test_a_real_server_writes_the_same_ids_with_the_same_log_probabilities(loaded, llama):
    """llama.cpp in float32; where ids part, the two likeliest tokens are near-ties of this random model."""
    ours = {request.key: written for request, written in HuggingFace(loaded).write(requests())}
    theirs = list(make_generator(llama, loaded).write(requests()))
    same = sum(written.ids == ours[request.key].ids for request, written in theirs)
    assert same >= 5
    assert [written.finish for request, written in theirs if written.ids == ours[request.key].ids]
    found = measure_fidelity(loaded, theirs)
    assert found.mean < 0.01
    assert found.n == sum(len(written.ids) for _, written in theirs)


@pytest.mark.engine
@real_server
def test_thinking_is_closed_and_answered_behind_a_real_server(loaded, llama):
    """The two stages are ours: the same completions as in this process, by ids."""
    settings = {"budget": Budget(think=12, answer=10)}
    ours = ask(loaded, QUESTIONS, "reasoning", "own", **settings)
    theirs = ask(loaded, QUESTIONS, "reasoning", "own", **settings, generator=make_generator(llama, loaded))
    assert [row.answer_ids for row in theirs] == [row.answer_ids for row in ours]
    assert [row.thinking_ids for row in theirs] == [row.thinking_ids for row in ours]


@pytest.mark.engine
@real_server
def test_every_mode_of_a_stress_test_goes_through_a_real_server(loaded, llama):
    """Blocks are given, cut and reopened, and requests repeated, by us: the same thoughts and answers, by ids, under
    every greedy mode."""
    assert share_alike(ask_all(loaded, "hf"), ask_all(loaded, llama)) >= 0.9  # near-ties of a random model


@pytest.mark.engine
@real_server
def test_a_server_with_another_model_is_found_out_by_its_vocabulary_or_its_log_probabilities(loaded, llama):
    other = make_generator(llama, LanguageModel(**{**vars_of(loaded), "tokenizer": make_tokenizer(CHATML)}))
    with pytest.raises(MechdriftError, match="another vocabulary"):
        next(other.write(requests()))
    theirs = list(make_generator(llama, loaded).write(requests()))
    stranger = LanguageModel(**{**vars_of(loaded), "model": make_model("qwen2", seed=7, vocab_size=259)})
    with pytest.raises(MechdriftError, match="does not serve tiny: its log-probabilities lie"):
        check_fidelity(stranger, "llama.cpp server", theirs)
    assert check_fidelity(loaded, "llama.cpp server", theirs).mean < 0.01


def vars_of(loaded: LanguageModel) -> dict:
    return {name: getattr(loaded, name) for name in LanguageModel.__slots__}


# A stub that speaks like vLLM


class Stub(BaseHTTPRequestHandler):
    """Writes the prompt's last id + 1, and so on; `mode` says what goes wrong."""

    mode = "well"
    asked: ClassVar[list[dict]] = []
    lists = ("tiny",)

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.reply({"data": [{"id": name, "owned_by": "vllm"} for name in self.lists]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/tokenize":
            return self.reply({"tokens": make_tokenizer().encode(body["prompt"], add_special_tokens=False)})
        type(self).asked.append(body)
        if self.mode == "never":
            time.sleep(3)
        if self.mode == "cut" or (self.mode == "cut after 2" and len(self.asked) > 2):
            self.connection.shutdown(socket.SHUT_RDWR)
            return None
        if self.mode == "refuses":
            return self.reply({"error": "no such model"}, 404)
        ids = [(body["prompt"][-1] + n) % 250 + 2 for n in range(1, body["max_tokens"] + 1)]
        choice = {"token_ids": ids, "logprobs": {"token_logprobs": [-0.5] * len(ids)}, "text": "words"}
        changed = {
            "text": {"token_ids": None},
            "no log-probabilities": {"logprobs": None},
            "strings": {"token_ids": [str(i) for i in ids]},
            "fewer": {"token_ids": ids[:-1]},
            "nothing": {"token_ids": [], "logprobs": {"token_logprobs": []}},
        }
        return self.reply({"choices": [choice | changed.get(self.mode, {})]})

    def reply(self, content: object, status: int = 200) -> None:
        data = b"<html>" if self.mode == "html" else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def stub(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    server.handle_error = lambda *_: None  # a client that gave up is no error here
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(Stub, "asked", [])
    monkeypatch.setattr(Stub, "mode", "well")
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def at(url: str, **changes) -> http.HTTP:
    return http.HTTP(
        url, make_tokenizer(), **({"retries": 1, "backoff": 0.01, "timeout": 2.0, "per_token": 0.0} | changes)
    )


def test_a_server_like_vllm_is_asked_for_ids_with_every_setting(stub):
    found = dict(at(stub).write(requests(2, max_tokens=4)))
    assert {request.key: len(written.ids) for request, written in found.items()} == {0: 4, 1: 4}
    body = Stub.asked[0]
    assert (body["return_token_ids"], body["temperature"], body["top_p"], body["repetition_penalty"]) == (True, 0, 1, 1)
    assert all(isinstance(i, int) for i in body["prompt"])
    assert at(stub).name == "vllm server"


def test_a_long_thought_is_waited_for_longer(stub, monkeypatch):
    waited, fetch = [], http.fetch

    def note(*given: object, timeout: float, **rest: object) -> bytes:
        waited.append(timeout)
        return fetch(*given, timeout=timeout, **rest)

    monkeypatch.setattr(http, "fetch", note)
    dict(at(stub, per_token=0.5).write(requests(1, max_tokens=40)))
    assert waited[-1] == 2.0 + 20
    assert set(waited[:-1]) == {2.0}


def test_what_a_server_writes_beyond_the_end_is_cut_off(stub):
    (request,) = requests(1, max_tokens=10)
    ends = frozenset({(request.prompt[-1] + 3) % 250 + 2})
    (found,) = at(stub).write(requests(1, max_tokens=10, ends=ends))
    assert (len(found[1].ids), found[1].finish) == (3, "end")


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("text", "without token ids and log-probabilities"),
        ("no log-probabilities", "without token ids and log-probabilities"),
        ("strings", "text instead of token ids"),
        ("fewer", "differ in number"),
        ("nothing", "ended an answer without an end token"),
        ("html", "is not JSON"),
        ("refuses", r"refused a request to /v1/completions \(.*status 404: .*no such model"),
        ("cut", "does not answer .* start it again; finished answers are stored"),
        ("never", "does not answer .*no reply within 0.5 s"),
    ],
)
def test_a_server_that_is_of_no_use_is_one_sentence(stub, monkeypatch, mode, said):
    monkeypatch.setattr(Stub, "mode", mode)
    with pytest.raises(MechdriftError, match=said) as raised:
        list(at(stub, timeout=0.5).write(requests(1)))
    assert str(raised.value).count(". ") == 0


def test_a_server_that_is_down_or_no_address_is_one_sentence():
    with pytest.raises(MechdriftError, match="does not answer"):
        list(at(f"http://127.0.0.1:{free_port()}").write(requests(1)))
    with pytest.raises(MechdriftError, match="not a web address"):
        at("localhost:8000")


def test_one_address_does_not_write_for_two_models(tiny_pair, stub, monkeypatch):
    """Unless its server lists both (a base model and its adapter) or they are one checkpoint in two modes."""
    parent, child = (tiny_pair.source(side) for side in SIDES)
    with pytest.raises(MechdriftError, match="serves one model, tiny, and the pair has two"):
        check_servers(tiny_pair, lambda side: stub)
    with pytest.raises(MechdriftError, match="serves one model, tiny, and the pair has two"):
        score(tiny_pair, load_probes("safety").sample(1), engine=stub)
    with pytest.raises(MechdriftError, match="serves one model, tiny, and the pair has two"):
        check_servers(tiny_pair, lambda side: stub, ("reasoning",))
    down = f"http://127.0.0.1:{free_port()}"  # the other model's server, which a shard of one model does not need
    check_servers(tiny_pair, lambda side: stub if side == "instruct" else down, ("instruct",))
    check_servers(tiny_pair, lambda side: down, is_begun=True)  # all answers may be kept
    with pytest.raises(MechdriftError, match="serves one model, tiny, and the pair has two"):
        check_servers(tiny_pair, lambda side: stub, is_begun=True)
    monkeypatch.setattr(Stub, "lists", (parent.name, child.name))
    check_servers(tiny_pair, lambda side: stub)
    assert at(stub, names=(child.path, child.name)).model == child.name
    with pytest.raises(MechdriftError, match="none of them is called another"):
        at(stub, names=("another",)).check_vocabulary()
    monkeypatch.setattr(Stub, "lists", (child.name,))
    with pytest.raises(MechdriftError, match=r"which is not the instruct model: give .* the other way round"):
        check_servers(tiny_pair, lambda side: stub if side == "instruct" else "hf")
    check_servers(load_pair(instruct=child.path, reasoning=child.path), lambda side: stub)


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        (None, "does not answer"),
        ("sglang", "unknown engine 'sglang'"),
        ("http://[::1", "not a web address"),
        pytest.param("vllm", "not installed", marks=pytest.mark.skipif(HAS_VLLM, reason="it is installed")),
    ],
)
def test_an_engine_that_cannot_write_is_found_before_weights_are_loaded(tiny_pair, monkeypatch, tmp_path, engine, said):
    monkeypatch.setattr(http.time, "sleep", lambda seconds: None)
    paths = {side: tiny_pair.source(side).path for side in SIDES}
    engine = engine or f"http://127.0.0.1:{free_port()}"
    config = Audit(**paths, engine=engine, preset="quick", out=tmp_path / "run")
    monkeypatch.setattr(Pair, "open", lambda *_: pytest.fail("weights were loaded"))
    with pytest.raises(MechdriftError, match=said):
        audit(config)


def test_a_server_that_is_cut_off_in_the_middle_loses_nothing(tiny_pair, stub, monkeypatch, tmp_path):
    """What was finished is stored, and the same call goes on when the server is back."""
    loaded, store = tiny_pair.open("instruct"), tmp_path / "answers.jsonl"
    settings = {"budget": Budget(answer=4), "store": store}
    monkeypatch.setattr(fidelity, "ANOTHER_MODEL", 100.0)  # the stub is no model
    monkeypatch.setattr(Stub, "mode", "cut after 2")
    with pytest.raises(MechdriftError, match="does not answer"):
        ask(loaded, QUESTIONS, "instruct", "none", **settings, generator=at(stub, concurrency=1))
    assert len(store.read_text().splitlines()) == 2
    monkeypatch.setattr(Stub, "mode", "well")
    before = len(Stub.asked)
    assert len(ask(loaded, QUESTIONS, "instruct", "none", **settings, generator=at(stub))) == 3
    assert len(Stub.asked) == before + 1


def test_an_engine_that_is_not_known_or_not_installed_is_one_sentence(loaded):
    with pytest.raises(MechdriftError, match="unknown engine 'sglang': use one of hf, vllm, http"):
        make_generator("sglang", loaded)
    if not HAS_VLLM:
        with pytest.raises(MechdriftError, match=r"pip install 'mechdrift\[vllm\]'"):
            make_generator("vllm", loaded)


def test_sides_that_different_engines_wrote_are_refused():
    check_engines({"instruct": ("transformers 5.9.0, float32",), "reasoning": ("transformers 5.24.0, float32",)})
    with pytest.raises(MechdriftError, match=r"different engines or number formats .*bfloat16.*float32"):
        check_engines({"instruct": ("transformers 5.9.0, bfloat16",), "reasoning": ("transformers 5.9.0, float32",)})
    with pytest.raises(MechdriftError, match="one kind of engine"):
        Audit(reasoning_engine="http://localhost:8000")
    Audit(instruct_engine="http://localhost:8000", reasoning_engine="http://localhost:8001")


def test_answers_of_another_engine_are_gone_on_from_and_it_is_said(tiny_pair, stub, tmp_path, capsys):
    loaded, store = tiny_pair.open("instruct"), tmp_path / "answers.jsonl"
    settings = {"budget": Budget(answer=4), "store": store}
    ask(loaded, QUESTIONS[:1], "instruct", "none", **settings)
    assert capsys.readouterr().err == ""
    with pytest.raises(MechdriftError, match="The vllm server does not serve"):  # the stub's log-probabilities
        ask(loaded, QUESTIONS, "instruct", "none", **settings, generator=at(stub))
    told = capsys.readouterr().err
    assert re.fullmatch(r"mechdrift: 1 by transformers \S+, float32 are kept; vllm server writes .*\n", told)


def test_a_score_is_written_by_the_engine_that_was_asked_for(tiny_pair, stub, monkeypatch, capsys):
    monkeypatch.setattr(fidelity, "ANOTHER_MODEL", 100.0)  # the stub is no model
    monkeypatch.setattr(Stub, "lists", tuple(tiny_pair.source(side).name for side in SIDES))
    probes = load_probes("robustness").sample(2)
    score(tiny_pair, probes, budget=Budget(think=4, answer=4), engine=stub)
    assert {body["model"] for body in Stub.asked} == set(Stub.lists)
    assert len(Stub.asked) >= 2 * len(probes)
    told = capsys.readouterr().err
    for side in ("instruct", "reasoning"):
        assert re.search(rf"the {side} model's answers: vllm server; log-probabilities within \d\.\d+ nats", told)
    assert "more than number formats explain" in told


def test_a_fidelity_beyond_number_formats_is_doubted():
    assert "serve these weights" not in str(Fidelity(mean=0.03, q99=0.2, n=100))
    assert "serve these weights" in str(Fidelity(mean=0.2, q99=1.0, n=100))
