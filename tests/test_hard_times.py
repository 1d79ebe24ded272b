"""Numbers that overflow, memory and disks that end, signals: one sentence each, and nothing lost."""

import os
import signal
import threading
import time
from dataclasses import replace

import pytest
import torch
from conftest import make_model, make_tokenizer, save_model
from synthetic_run import build_run

import mechdrift as md
from mechdrift import cli
from mechdrift.audits.config import Audit
from mechdrift.audits.pipeline import audit
from mechdrift.records import MechdriftError
from mechdrift.runs import load_run


def command(monkeypatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["mechdrift", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


@pytest.mark.parametrize("factor", [3e37, 2e38])  # only squares overflow; the activations do
def test_activations_that_overflow_are_named_in_the_first_stage(tmp_path, factor):
    child = make_model()
    with torch.no_grad():
        weight = child.model.layers[2].mlp.down_proj.weight
        weight.div_(weight.abs().max()).mul_(factor)
        assert weight.isfinite().all()
    child.save_pretrained(tmp_path / "child")
    make_tokenizer().save_pretrained(tmp_path / "child")
    parent = save_model(tmp_path / "parent")
    settings = Audit(
        instruct=str(parent), reasoning=str(tmp_path / "child"), preset="quick", dimensions=("safety",), think=4,
        answer=4, device="cpu", out=tmp_path / "run",
    )  # fmt: skip
    with pytest.raises(MechdriftError, match=r"child model produced a NaN or infinite .* layer 2, .* item safety-"):
        audit(settings)
    assert load_run(tmp_path / "run").finished == ()


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_model_whose_logits_are_no_numbers_writes_nothing_that_is_judged(tmp_path, monkeypatch, capsys, number):
    child = make_model()
    with torch.no_grad():
        child.model.layers[2].mlp.down_proj.weight[0, 0] = number
    child.save_pretrained(tmp_path / "broken")
    make_tokenizer().save_pretrained(tmp_path / "broken")
    parent = save_model(tmp_path / "parent")
    sides = ("--instruct", parent, "--reasoning", tmp_path / "broken", "--think", 4, "--answer", 4, "--device", "cpu")
    asked = ("score", "--probes", "safety", "--limit", 2, "--out", tmp_path / "scores")
    assert command(monkeypatch, *asked, *sides) == 1
    said = capsys.readouterr().err
    assert "broken gives NaN or infinite logits: its weights are damaged" in said
    assert "Traceback" not in said


def test_an_output_matrix_of_its_own_beside_a_tied_one_is_said(tmp_path):
    parent = save_model(tmp_path / "parent", tie_word_embeddings=True)
    child = make_model(tie_word_embeddings=True)
    child.config.tie_word_embeddings = False
    with torch.no_grad():
        child.lm_head.weight = torch.nn.Parameter(child.model.embed_tokens.weight * 1.04)
    child.save_pretrained(tmp_path / "child")
    make_tokenizer().save_pretrained(tmp_path / "child")
    from mechdrift.pairs.lineage import audit_pair

    found = audit_pair(md.load_pair(instruct=str(parent), reasoning=str(tmp_path / "child")), ["Hello"])
    assert found.facts["instruct"]["output_matrix"] == "the embedding"
    assert found.facts["reasoning"]["output_matrix"] == "its own, 4.0% of the norm away from the embedding"
    assert any("the output matrices differ in kind" in warning for warning in found.warnings)


@pytest.mark.parametrize("what", ["collect", "patch", "attribute", "graft", "score", "find_directions"])
def test_an_empty_probe_set_is_one_sentence(tiny_pair, what):
    full = md.load_probes("safety").sample(2)
    empty = replace(full, items=())
    if what == "find_directions":
        acts = md.collect(tiny_pair, full, layers=(0,), roles=("template_tail[-1]",))
        call, argument = (
            md.find_directions,
            replace(acts, probes=empty, instruct=acts.instruct[:0], reasoning=acts.reasoning[:0]),
        )
        with pytest.raises(MechdriftError, match="the probe set 'safety' is empty"):
            call(argument)
        return
    with pytest.raises(MechdriftError, match="the probe set 'safety' is empty"):
        getattr(md, what)(tiny_pair, empty)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_out_of_memory_is_one_sentence(monkeypatch, capsys, error, tmp_path):
    run = build_run(tmp_path / "run", pairs=2, without=("patch", "patch_items", "placebos", "grafts", "steering"))

    def fail(*_):
        raise error

    monkeypatch.setattr("mechdrift.runs.Run.report", fail)
    assert command(monkeypatch, "report", run.folder) == 1
    said = capsys.readouterr().err
    assert said.startswith("mechdrift: out of memory; what was finished is kept")
    assert said.count("\n") == 1
    monkeypatch.setattr("mechdrift.runs.Run.report", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        command(monkeypatch, "report", run.folder)


@pytest.mark.skipif(os.name != "posix", reason="no SIGTERM")
def test_sigterm_is_one_sentence_and_its_own_exit_code(monkeypatch, capsys, tmp_path):
    run = build_run(tmp_path / "run", pairs=2, without=("patch", "patch_items", "placebos", "grafts", "steering"))
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("mechdrift.runs.Run.report", lambda *_: time.sleep(20))
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
    assert command(monkeypatch, "report", run.folder) == 143
    assert "what was finished is kept" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_report_goes_where_there_is_room(monkeypatch, tmp_path, capsys):
    run = build_run(tmp_path / "run", pairs=2, without=("patch", "patch_items", "placebos", "grafts", "steering"))
    before = {file: file.read_bytes() for file in run.folder.rglob("*") if file.is_file()}
    page = run.report(tmp_path / "pages" / "mine")
    assert page == tmp_path / "pages" / "mine" / "report.html"
    assert (page.parent / "figures" / "scores.html").is_file()
    assert {file: file.read_bytes() for file in run.folder.rglob("*") if file.is_file()} == before


def test_a_table_that_could_not_be_written_is_found_before_models_are_asked(monkeypatch, capsys, tmp_path):
    for out in (tmp_path / "no" / "such" / "x.csv", tmp_path):
        assert command(monkeypatch, "score", "--instruct", tmp_path / "none", "--probes", "safety", "--out", out) == 1
        assert "cannot be written: give a file in a folder that exists" in capsys.readouterr().err
