"""In a notebook: records say what they are and show their first numbers; figures are drawn when asked for."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from synthetic_run import EVIL, build_run

import mechdrift as md
from mechdrift.records import (
    DIMENSIONS,
    Activations,
    Completions,
    DirectionDrift,
    MechdriftError,
    PatchGrid,
    ScoreTable,
    progress,
)
from mechdrift.runs import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return build_run(tmp_path_factory.mktemp("runs") / "synthetic", pairs=8)


@pytest.fixture(scope="module")
def probes() -> md.ProbeSet:
    return md.load_probes("safety").sample(2)


def grid(probes: md.ProbeSet) -> PatchGrid:
    items = probes.where("trigger").items
    return PatchGrid(
        dimension="safety",
        donor="instruct",
        recipient="reasoning",
        site="resid_pre",
        think="off",
        layers=(3, 7),
        roles=("user", "think_close[-1]"),
        items=items,
        effect=np.array([[[0.0, 0.25], [0.5, 1.0]]] * len(items)),
        recipient_readout=np.zeros(len(items)),
        donor_readout=np.ones(len(items)),
        identity_error=0.0,
    )


def test_a_probe_set_says_its_sizes_and_its_first_prompts(probes: md.ProbeSet):
    assert repr(probes) == "ProbeSet(safety, safety, 4 items in 2 families, 2 of them triggers; mechdrift, Apache-2.0)"
    assert probes.items[0].prompt[:30] in probes._repr_html_()


def test_activations_say_their_shape_and_not_their_numbers(probes: md.ProbeSet):
    states = torch.zeros(4, 2, 1, 8)
    acts = Activations(
        probes=probes,
        site="resid_pre",
        layers=(0, 1),
        roles=("answer",),
        think="off",
        instruct=states,
        reasoning=states,
    )
    assert "[prompt, layer, role, d_model] = 4 × 2 × 1 × 8; layers 0 to 1 (2); roles answer" in repr(acts)
    assert acts._repr_html_().count("<tr") == 1 + 5


def test_a_grid_shows_its_mean_effects_by_layer_and_role(probes: md.ProbeSet):
    patched = grid(probes)
    assert "from the instruct model into the reasoning model, 2 prompts, layers 3 to 7 (2), 2 roles" in repr(patched)
    assert patched.head.loc[7, "think_close[-1]"] == 1.0
    assert "<td>0.25</td>" in patched._repr_html_()
    assert "the readout is unreliable" in repr(replace(patched, reliable=False))


def test_scores_and_drift_show_their_chief_columns(run: Run):
    scores = ScoreTable(frame=run.table("scores"))
    assert set(scores.head.dimension) == {*DIMENSIONS, "reasoning"}
    drift = DirectionDrift(dimension="safety", frame=run.table("drift").query("dimension == 'safety'"))
    assert list(drift.head.columns) == ["layer", "role", "cosine", "ceiling", "angle", "below_null"]


def test_what_prompts_and_models_say_is_text(probes: md.ProbeSet):
    evil = replace(probes, name=EVIL, items=(replace(probes.items[0], prompt="<b>x</b>"), *probes.items[1:]))
    assert "<script" not in evil._repr_html_()
    assert "&lt;b&gt;x&lt;/b&gt;" in evil._repr_html_()
    assert "0 answers" in Completions(side="instruct", think="none", rows=())._repr_html_()


def test_a_run_shows_its_headline_scores_and_hands_out_figures(run: Run):
    shown = run._repr_html_()
    assert "synthetic" in shown
    assert all(dimension in shown for dimension in DIMENSIONS)
    figure = run.figures["patching"]
    assert isinstance(figure, go.Figure)
    assert figure.layout.coloraxis.cmax > 0


def test_figures_are_named_and_read_only_what_they_draw(run: Run, monkeypatch: pytest.MonkeyPatch):
    read: list[str] = []
    table = Run.table
    monkeypatch.setattr(Run, "table", lambda self, name: read.append(name) or table(self, name))
    figures = run.figures
    assert {"scores", "weights", "patch_safety", "patching"} <= set(figures)
    assert not {"scores", "weights", "drift"} & set(read)
    assert isinstance(figures["weights"], go.Figure)
    assert isinstance(figures["weights"], go.Figure)
    assert read.count("weights") == 1
    assert "scores" not in read
    assert "What passes through each layer" in figures._repr_html_()
    with pytest.raises(MechdriftError, match=r"no figure named 'patches'; it has scores, signal_detection"):
        figures["patches"]


@pytest.mark.parametrize(("config", "expected"), [({"IPKernelApp": {}}, True), ({}, False)])
def test_a_bar_is_shown_in_a_notebook_though_its_output_is_no_terminal(config, expected, monkeypatch, capsys):
    shell = SimpleNamespace(config=config)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    with progress.progress("patching", total=2) as advance:
        advance()
    assert ("patching" in capsys.readouterr().err) == expected
