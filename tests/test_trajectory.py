"""A folder of checkpoints, from its history to its page, on tiny models with adapters made here."""

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_model, make_tokenizer
from peft import LoraConfig, get_peft_model

from mechdrift import cli, trajectory
from mechdrift.audits.config import Size
from mechdrift.audits.plan import Stage
from mechdrift.audits.stages import kl
from mechdrift.behaviour.sampling import Budget
from mechdrift.pairs.named import load_parent
from mechdrift.pairs.pair import Pair
from mechdrift.records import MechdriftError
from mechdrift.runs import Run, load_run
from mechdrift.trajectories import figures as training
from mechdrift.trajectories.history import read_history
from mechdrift.trajectories.run import Trajectory
from mechdrift.trajectories.stages import SIZES

SMALL = Size(pairs=6, variants=0, tasks=12, patched=0, kl=2, thinking=0, steered=0, budget=Budget(think=5, answer=5))
STEPS = (5, 10, 20)
trajectory_module = sys.modules["mechdrift.trajectories.run"]  # the package's attribute of this name is the function


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(SIZES, "quick", SMALL)


def save_adapter(folder: Path, base: Path, size: float, seed: int = 0) -> None:
    """An adapter on two projections, `size` times one and the same random change."""
    torch.manual_seed(seed)
    adapted = get_peft_model(
        make_model(), LoraConfig(r=2, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    )
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.copy_(size * torch.randn_like(parameter))
    adapted.save_pretrained(folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": str(base)}))


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A history whose adapters grow: at 5 it changes nothing."""
    root = tmp_path_factory.mktemp("history")
    make_model().save_pretrained(root / "parent")
    make_tokenizer().save_pretrained(root / "parent")
    for step, size in zip(STEPS, (0.0, 0.3, 0.6), strict=True):
        save_adapter(root / "run" / f"step-{step:05d}", root / "parent", size)
    write_history(root / "run", parent=str(root / "parent"))
    return root / "run"


def write_history(folder: Path, **changes: object) -> None:
    told = {
        "name": "tiny-sft",
        "route": "sft",
        "parent": "p",
        "parent_sha256": "",
        "seed": 1,
        "steps": list(STEPS),
        "unit": "optimizer steps",
        "tokens": [50, 100, 200],
    }
    (folder / "history.json").write_text(json.dumps(told | changes))


@pytest.fixture(scope="session")
def finished(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Trajectory:
    """A finished trajectory of two dimensions; tests that change it copy it first."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(SIZES, "quick", SMALL)
        return trajectory(checkpoints, dimensions=("safety", "bias"), out=tmp_path_factory.mktemp("out") / "tiny")


@pytest.fixture
def stages_run(monkeypatch) -> list[str]:
    """Which stages ran: the name of the run folder, then the stage's."""
    ran: list[str] = []
    parent, checkpoint = trajectory_module.parent_stages, trajectory_module.checkpoint_stages
    monkeypatch.setattr(trajectory_module, "parent_stages", lambda: _noted(ran, parent()))
    monkeypatch.setattr(trajectory_module, "checkpoint_stages", lambda run: _noted(ran, checkpoint(run)))
    return ran


def _noted(ran: list[str], stages: Sequence[Stage]) -> tuple[Stage, ...]:
    def noted(stage: Stage) -> Stage:
        def run(folder: Run, *arguments) -> dict:
            ran.append(f"{folder.folder.name}/{stage.name}")
            return stage.run(folder, *arguments)

        return replace(stage, run=run)

    return tuple(map(noted, stages))


@pytest.fixture
def no_page(monkeypatch) -> None:
    """The page is not drawn: other tests do that."""
    monkeypatch.setattr(Trajectory, "report", lambda found: found.run.folder)


# What is in it


def test_every_step_has_its_block_of_rows(finished: Trajectory, checkpoints: Path):
    table = finished.frame
    assert sorted(set(table.step)) == [0, *STEPS]
    assert dict(zip(table.step, table.tokens, strict=True)) == {0: 0, 5: 50, 10: 100, 20: 200}
    found = {step: set(part.quantity) for step, part in table.groupby("step")}
    measures = {
        "unclosed",
        "accuracy",
        "aligned",
        "over",
        "d_prime",
        "criterion",
        "incomplete",
        "incoherent",
        "cosine",
        "kl",
    }
    assert all(measures <= names for names in found.values())
    assert not table.duplicated(["step", "quantity", "dimension", "layer"]).any()
    aligned = table[table.quantity == "aligned"]
    assert set(aligned.dimension) == {"safety", "bias", "all"}
    written = pd.read_csv(finished.run.folder / "trajectory.csv")
    np.testing.assert_allclose(written.value, table.value, rtol=1e-4)
    pd.testing.assert_frame_equal(finished.run.table("trajectory"), table)
    pd.testing.assert_frame_equal(finished.run.table("halfway"), finished.halfway)


def test_an_adapter_of_nothing_changes_nothing_and_larger_ones_more(finished: Trajectory):
    table = finished.frame.set_index(["quantity", "dimension"])
    still = finished.frame[finished.frame.step == 5]
    cosine = still[(still.quantity == "cosine")]
    np.testing.assert_allclose(cosine.value, 1, atol=1e-5)
    np.testing.assert_allclose(still[still.quantity == "kl"].value, 0, atol=1e-6)
    np.testing.assert_allclose(still[still.quantity == "readout"].change, 0, atol=1e-4)
    kl = table.loc[("kl", "all")].sort_values("step").value.to_numpy()
    assert kl[0] == 0 < kl[2] < kl[3]


def test_cosines_are_those_of_compare_directions_at_every_layer(finished: Trajectory):
    run = load_run(finished.run.folder / "step-00020")
    drift = run.table("drift").set_index(["dimension", "layer"]).cosine
    for name, grams in run.tensors("products").items():
        for layer, (before, across, after) in enumerate(grams.sum(dim=(2, 3)).tolist()):
            if not np.isnan(drift[name, layer]):
                assert across / np.sqrt(before * after) == pytest.approx(drift[name, layer], abs=1e-5)


def test_scores_are_the_checkpoints_own_and_the_parent_is_the_same_throughout(finished: Trajectory):
    parents = []
    for step in STEPS:
        run = load_run(finished.run.folder / f"step-{step:05d}")
        table = run.table("completions")
        parents.append(table[table.side == "instruct"].set_index("item").answer)
        row = run.table("scores").query("dimension == 'safety' and headline").iloc[0]
        mine = finished.frame.query(f"step == {step} and quantity == 'aligned' and dimension == 'safety'").iloc[0]
        np.testing.assert_equal((mine.value, mine.change), (row.reasoning, row.difference))  # missing in both
    assert (parents[0] == parents[1]).all()
    assert (parents[0] == parents[2]).all()
    accuracy = finished.frame.query("quantity == 'accuracy'").set_index("step").n
    tasks = {step: load_run(finished.run.folder / f"step-{step:05d}").table("tasks") for step in STEPS}
    parent = tasks[5][tasks[5].side == "instruct"]
    assert len(parent) == SMALL.tasks
    assert accuracy[0] == (parent.missing == "").sum()
    assert (accuracy[list(STEPS)] == 0).all()  # no child closes its thought


def test_unclosed_thinking_is_counted_apart_and_its_answers_are_missing(finished: Trajectory):
    """Random models never close a think block: what they say behind it, forced, is no answer of theirs."""
    table = load_run(finished.run.folder / "step-00005").table("completions")
    child = table[table.side == "reasoning"]
    assert not child.closed.any()
    assert set(child.label) == {"incomplete"}
    assert child.aligned.isna().all()
    assert set(child.missing) <= {"cut", "loop", "stopped"}
    assert (child.forced_label == "").equals(child.answer.str.strip() == "")
    shares = finished.frame.query("quantity == 'unclosed'").sort_values("step").value
    assert list(shares) == [0, 1, 1, 1]
    scored = finished.frame.query("quantity == ['accuracy', 'aligned', 'incoherent'] and step > 0")
    assert scored.value.isna().all()
    judged = finished.halfway[finished.halfway.quantity.isin(["accuracy", "aligned"])]
    assert not judged.established.any()
    assert finished.halfway.half.isna().sum() >= len(judged)
    said = "\n".join(finished.sentences)
    assert "Think blocks that the model did not close: at most 100% (at optimizer step 5), 100% at" in said
    assert "because more than 5% of the answers are missing there: optimizer step 5 and optimizer step 10." in said
    assert "More than 5% of the answers are missing at the last checkpoint" in said


def test_a_null_model_without_thinking_is_asked_without_it(copied: Path, tmp_path: Path, no_page, monkeypatch):
    # In bfloat16 a model that was cast after merging has other rotary frequencies than one that was loaded so.
    monkeypatch.setattr("mechdrift.trajectories.stages.default_dtype_for_generation", lambda: "float32")
    write_history(copied, parent=_parent_of(copied), route="null")
    found = trajectory(copied, dimensions=("safety",), out=tmp_path / "out")
    answers = load_run(found.run.folder / "step-00005").table("completions").set_index(["side", "item"])
    assert set(answers.think) == {"none"}
    assert (answers.answer["instruct"] == answers.answer["reasoning"]).all()  # the adapter of nothing
    assert (found.frame.query("step == 5 and quantity == 'aligned'").change == 0).all()
    for step in STEPS:
        scores = load_run(found.run.folder / f"step-{step:05d}").table("scores")
        row = scores[scores.headline & (scores.dimension == "safety")].iloc[0]
        mine = found.frame.query(f"step == {step} and quantity == 'aligned'").iloc[0]
        assert (mine.value, mine.change, mine.n) == (row.reasoning, row.difference, row.n)
        assert mine.n == SMALL.pairs


def test_the_page_and_its_figures_are_written(finished: Trajectory):
    text = (finished.run.folder / "trajectory.html").read_text(encoding="utf-8")
    for sentence in finished.sentences:
        assert sentence.split(":")[0] in text
    assert any("optimizer steps apart" in sentence for sentence in finished.sentences)
    files = {file.name for file in (finished.run.folder / "figures").iterdir()}
    assert {"overview.html", "scores.html", "cosines.html", "plotly.min.js"} <= files


def test_figures_draw_what_the_tables_hold(finished: Trajectory):
    figure = training.cosines(finished.frame)
    assert [trace.name for trace in figure.data if trace.showlegend] == [f"step {step}" for step in STEPS]
    last = finished.frame.query(
        "quantity == 'cosine' and dimension == 'safety' and step == 20 and layer == layer"
    ).sort_values("layer")
    assert list(figure.data[len(STEPS) - 1].y) == pytest.approx(list(last.value))
    shown = training.scores(finished.frame, finished.halfway)
    assert {note.text for note in shown.layout.annotations} == {"Safety", "Stereotypes and bias"}
    nothing = finished.halfway.assign(half=np.nan)
    with pytest.raises(MechdriftError, match="none has a half-way step"):
        training.halfway_steps(finished.frame, nothing)


# Going on


def test_a_second_call_runs_no_stage_and_opens_no_model(
    finished: Trajectory, checkpoints: Path, tmp_path: Path, stages_run, monkeypatch
):
    out = tmp_path / "copy"
    shutil.copytree(finished.run.folder, out)
    monkeypatch.setattr(Pair, "open", lambda *_: pytest.fail("a model was opened"))
    again = trajectory(checkpoints, dimensions=("bias", "safety"), out=out)
    assert stages_run == []
    pd.testing.assert_frame_equal(again.frame, finished.frame)
    assert again.sentences == finished.sentences


def test_a_killed_trajectory_goes_on_at_its_unfinished_stage(
    finished: Trajectory, checkpoints: Path, tmp_path: Path, stages_run, no_page, monkeypatch
):
    shutil.copytree(finished.run.folder, tmp_path / "run")  # as it was before the second checkpoint's last stage
    load_run(tmp_path / "run" / "step-00010").forget(["kl"])
    shutil.rmtree(tmp_path / "run" / "step-00020")

    def stop(run: Run, *arguments) -> dict:
        if run.folder.name == "step-00010":
            raise KeyboardInterrupt
        return kl.measure_kl(run, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(kl, "STAGE", replace(kl.STAGE, run=stop))
        with pytest.raises(KeyboardInterrupt):
            trajectory(checkpoints, dimensions=("safety", "bias"), out=tmp_path / "run")
    assert stages_run == ["step-00010/kl"]
    stages_run.clear()
    again = trajectory(checkpoints, dimensions=("safety", "bias"), out=tmp_path / "run")
    assert stages_run == ["step-00010/kl", *(f"step-00020/{stage}" for stage in ("answers", "scores", "inside", "kl"))]
    pd.testing.assert_frame_equal(again.frame, finished.frame)


def test_a_checkpoint_that_came_later_is_added(
    finished: Trajectory, checkpoints: Path, tmp_path: Path, stages_run, no_page
):
    folder, out = tmp_path / "run", tmp_path / "out"
    shutil.copytree(checkpoints, folder)
    shutil.copytree(finished.run.folder, out)
    parent = json.loads((folder / "history.json").read_text())["parent"]
    save_adapter(folder / "step-00040", Path(parent), 0.9)
    write_history(folder, parent=parent, steps=[*STEPS, 40], tokens=[50, 100, 200, 400])
    found = trajectory(folder, dimensions=("safety", "bias"), out=out)
    assert {name.split("/")[0] for name in stages_run} == {"step-00040"}
    assert found.frame.step.max() == 40


# Bad input


@pytest.fixture
def copied(checkpoints: Path, tmp_path: Path) -> Path:
    shutil.copytree(checkpoints, tmp_path / "run")
    return tmp_path / "run"


def _parent_of(folder: Path) -> str:
    return json.loads((folder / "history.json").read_text())["parent"]


def _without_history(folder: Path) -> None:
    (folder / "history.json").unlink()


def _damaged(folder: Path) -> None:
    (folder / "history.json").write_text('{"name": ')


def _missing_step(folder: Path) -> None:
    shutil.rmtree(folder / "step-00010")


def _missing_weights(folder: Path) -> None:
    (folder / "step-00020" / "adapter_model.safetensors").unlink()


def _one_step(folder: Path) -> None:
    write_history(folder, parent=_parent_of(folder), steps=[5], tokens=[50])


def _unordered(folder: Path) -> None:
    write_history(folder, parent=_parent_of(folder), steps=[10, 5, 20])


def _few_tokens(folder: Path) -> None:
    write_history(folder, parent=_parent_of(folder), tokens=[50])


def _falling_tokens(folder: Path) -> None:
    write_history(folder, parent=_parent_of(folder), tokens=[50, 40, 200])


def _mixed(folder: Path) -> None:
    file = folder / "step-00010" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": "another"}))


def _no_parent_named(folder: Path) -> None:
    (folder / "step-00010" / "adapter_config.json").write_text("{}")


def _text_steps(folder: Path) -> None:
    write_history(folder, parent=_parent_of(folder), steps=["5", "10", "20"])


def _climbing_name(folder: Path) -> None:
    write_history(folder, parent=_parent_of(folder), name="../../elsewhere")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_without_history, "has no history.json"),
        (_damaged, "is damaged: it is not JSON"),
        (_one_step, "fewer than two checkpoints"),
        (_missing_step, "step 10 of .* is missing"),
        (_missing_weights, r"step 20 of .* is missing: .*adapter_model\.safetensors"),
        (_unordered, "should be above 0 and increase"),
        (_few_tokens, "counts the tokens of 1 of its 3 steps, because the training has not ended"),
        (_falling_tokens, "counted from the start and should not fall"),
        (_mixed, "mixed parents: .*another"),
        (_no_parent_named, "does not name a base_model"),
        (_climbing_name, "'name' should be one name without slashes, not '../../elsewhere'"),
        (_text_steps, r"'steps\.0' should be a whole number, not '5'"),
    ],
)
def test_a_bad_folder_is_one_sentence_and_nothing_is_written(copied: Path, tmp_path: Path, spoil: Callable, said: str):
    spoil(copied)
    with pytest.raises(MechdriftError, match=said):
        trajectory(copied, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_embedded_parent_of_other_weights_is_refused():
    with pytest.raises(MechdriftError, match="trained from another smollm2-aligned"):
        load_parent("smollm2-aligned", sha256="0" * 64)


def _contents(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_an_out_of_another_history_is_not_touched(finished: Trajectory, copied: Path, tmp_path: Path):
    before = _contents(finished.run.folder)
    write_history(copied, parent=_parent_of(copied), name="another")
    with pytest.raises(MechdriftError, match=r"holds another run .history name is 'tiny-sft' there, 'another' here"):
        trajectory(copied, dimensions=("safety", "bias"), out=finished.run.folder)
    write_history(copied, parent=_parent_of(copied))
    save_adapter(copied / "step-00020", Path(_parent_of(copied)), 0.2, seed=3)
    with pytest.raises(MechdriftError, match=r"step-00020 holds another run .adapter is "):
        trajectory(copied, dimensions=("safety", "bias"), out=finished.run.folder)
    with pytest.raises(MechdriftError, match=r"holds another run .seed is "):
        trajectory(copied, dimensions=("safety", "bias"), out=finished.run.folder, seed=1)
    assert _contents(finished.run.folder) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(MechdriftError, match="is not empty and is not a run folder"):
        trajectory(copied, out=tmp_path / "mine")


def test_the_checkpoints_themselves_are_no_place_for_results(copied: Path):
    before = _contents(copied)
    with pytest.raises(MechdriftError, match="is not empty and is not a run folder"):
        trajectory(copied, out=copied)
    assert _contents(copied) == before


def test_other_weights_of_the_same_parent_are_refused(
    finished: Trajectory, checkpoints: Path, tmp_path: Path, monkeypatch
):
    out = tmp_path / "copy"
    shutil.copytree(finished.run.folder, out)
    (out / "step-00020" / "kl.parquet").unlink()
    monkeypatch.setattr(trajectory_module, "fingerprint", lambda model: "another")
    with pytest.raises(MechdriftError, match="was begun with other weights"):
        trajectory(checkpoints, dimensions=("safety", "bias"), out=out)


def test_the_command_prints_the_sentences_or_one_error(
    finished: Trajectory, checkpoints: Path, tmp_path: Path, monkeypatch, capsys
):
    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["mechdrift", "trajectory", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, *capsys.readouterr()

    out = tmp_path / "copy"
    shutil.copytree(finished.run.folder, out)
    code, printed, _ = call(checkpoints, "--dimensions", "safety", "bias", "--out", out)
    assert code == 0
    assert printed == "\n".join([*finished.sentences, f"trajectory: {out / 'trajectory.html'}", ""])
    code, printed, said = call(tmp_path)
    assert (code, printed, said.count("\n")) == (1, "", 1)
    assert "has no history.json" in said


def test_one_dimension_is_enough_and_budgets_can_be_given(copied: Path, tmp_path: Path):
    shutil.rmtree(copied / "step-00020")
    write_history(copied, parent=_parent_of(copied), steps=[5, 10], tokens=[50, 100])
    found = trajectory(copied, dimensions=("ethics",), out=tmp_path / "out", think=3, answer=2)
    asked = load_run(found.run.folder / "step-00005").table("completions")
    assert (asked.think_tokens.max(), asked.answer_tokens.max()) == (3, 2)
    assert "all" not in set(found.frame.query("quantity not in ('unclosed', 'incoherent')").dimension)
    assert read_history(copied).steps == (5, 10)
    assert (found.run.folder / "trajectory.html").is_file()
    assert isinstance(found.run, Run)
