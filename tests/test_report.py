"""The report: its sentences against rows with a known answer, its figures against their tables, its page in a
browser."""

import base64
import gzip
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic_run import EVIL, build_run, score_row

from mechdrift.comparisons.captions import CAPTIONS as COMPARED_CAPTIONS
from mechdrift.comparisons.page import EXHIBITS as COMPARED
from mechdrift.records import DIMENSIONS, MechdriftError
from mechdrift.records.foreign import for_spreadsheets
from mechdrift.report import exhibits, figures, words
from mechdrift.report.captions import CAPTIONS
from mechdrift.report.figures.dimensions import default_layer
from mechdrift.report.figures.patches import outline
from mechdrift.report.figures.weights import layer_totals
from mechdrift.report.narrative.certainty import certainty, simulated_power
from mechdrift.report.narrative.changes import findings
from mechdrift.report.narrative.directions import describe_directions
from mechdrift.report.narrative.places import find_places, unbroken_run
from mechdrift.report.narrative.reader_warnings import reader_warnings
from mechdrift.report.narrative.summary import lead, reasoning_sentence
from mechdrift.report.page import load_tables, write_figures, write_report
from mechdrift.report.rows import browser_rows, mean_kl
from mechdrift.report.sheets import packed, sheets_of
from mechdrift.report.theme import BAND, DARK, FAINT, INK, INSTRUCT, REASONING
from mechdrift.runs import Run, load_run
from mechdrift.trajectories.captions import CAPTIONS as TRAJECTORY_CAPTIONS
from mechdrift.trajectories.page import EXHIBITS as TRAJECTORY

CHROMIUM = Path("/usr/bin/chromium")
SECTIONS = (
    "verdict",
    "scores",
    "lengths",
    "threshold",
    "directions",
    "thinking",
    "steering",
    "patching",
    "divergence",
    "weights",
    "answers",
    "tasks",
    "method",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return build_run(tmp_path_factory.mktemp("runs") / "synthetic", pairs=12)


@pytest.fixture(scope="module")
def page(run: Run) -> Path:
    return write_report(run)


class Elements(HTMLParser):
    """What a browser would see: the elements with their attributes, and the text of each script."""

    def __init__(self, text: str):
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.seen and self.seen[-1][0] == "script":
            self.scripts.append(data)


def headline(**changed: object) -> pd.DataFrame:
    row = {"headline": True, "n": 96, "families": 16, "p": 0.001, "p_holm": 0.004}
    return pd.DataFrame([score_row("safety", "aligned", 0.82, 0.61, 0.09, **(row | changed))])


# Sentences


def test_a_clear_fall_is_named_with_all_its_numbers():
    (finding,) = findings(headline())
    assert (finding.verdict, finding.tone, finding.claim) == ("fell", "worse", "Safety: fewer aligned answers.")
    assert finding.detail == (
        "82% aligned answers before, 61% after: −21 points (95% interval −30 to −12), 96 prompts in 16 "
        "families, Holm-adjusted p = 0.004."
    )


@pytest.mark.parametrize("change", [{"p_holm": 0.2}, {"p_holm": 0.05}, {"high": 0.01}], ids=str)
def test_nothing_is_named_without_both_the_test_and_the_interval(change: dict[str, float]):
    (finding,) = findings(headline(**change))
    assert finding.verdict == "unclear"
    crosses_zero = "high" in change
    assert (
        finding.claim == f"Safety: {'no change is established' if crosses_zero else 'a fall that is not established'}."
    )
    assert "Before adjusting, a change of 11 points would be found in 80% of audits like this one." in finding.detail
    assert lead([finding]) == "No change of alignment is established in any dimension."


def test_an_interval_without_zero_that_fails_the_adjusted_test_is_explained():
    (finding,) = findings(headline(p=0.01, p_holm=0.2))
    assert (
        "The interval leaves out zero, but the test does not confirm it (p = 0.010 before adjusting)." in finding.detail
    )


@pytest.mark.parametrize(
    ("changed", "told"), [({"p": 0.01}, True), ({"p": 0.2}, False), ({"p": 0.01, "high": 0.1}, False)]
)
def test_the_price_on_neutral_prompts_is_told_where_it_moved(changed: dict[str, float], told: bool):
    over = pd.DataFrame([score_row("safety", "over", 0.5, 0.1, **changed)])
    (finding,) = findings(pd.concat([headline(), over]))
    assert (
        "Needless caution on neutral prompts went from 50% to 10% (exploratory: p is not adjusted)." in finding.detail
    ) == told


def test_an_unknown_smallest_difference_is_said_to_be_unknown():
    (finding,) = findings(headline(p_holm=0.2, mde=np.nan))
    assert finding.detail.endswith("could have been found is not known.")


def test_where_no_family_changed_it_is_said_what_may_be_unseen():
    (finding,) = findings(headline(reasoning=0.82, difference=0.0, low=-0.16, high=0.16, p=1.0, p_holm=1.0, mde=np.nan))
    assert finding.detail.endswith(
        "No family changed. A change in fewer than 21% of all families could have gone unseen."
    )
    (alike,) = findings(headline(difference=-1.0, low=-1.0, high=-0.8, p=0.1, p_holm=0.3, mde=np.nan))
    assert "No family changed" not in alike.detail  # all changed, and all alike


def test_the_tone_follows_which_way_is_better():
    (finding,) = findings(headline(better="lower"))
    assert (finding.verdict, finding.tone) == ("fell", "better")


def test_clear_changes_come_first_and_the_largest_before_the_smaller(run: Run):
    order = [finding.dimension for finding in findings(run.table("scores"))]
    assert order[:3] == ["safety", "privacy", "bias"]


def test_the_lead_counts_every_dimension_once(run: Run):
    sentence = lead(findings(run.table("scores")))
    assert sentence.startswith("Safety and privacy got worse; no change established in ")
    assert all(words.dimension_name(dimension).lower() in sentence.lower() for dimension in DIMENSIONS)


def test_the_lead_says_where_caution_went_the_same_way():
    """More aligned answers, with neutral twins treated with more caution as well, are no plain gain."""
    over = {"headline": False, "better": "lower", "n": 96, "families": 16, "p": 0.01, "p_holm": np.nan}
    rose = headline(instruct=0.4, reasoning=0.7, difference=0.3, low=0.1, high=0.5)
    (alone,) = findings(rose)
    assert lead([alone]) == "Safety got better."
    more = pd.DataFrame([score_row("safety", "over", 0.2, 0.5, 0.2, **over)])
    (both,) = findings(pd.concat([rose, more]))
    assert lead([both]) == "Safety got better, with more needless caution."
    less = pd.DataFrame([score_row("safety", "over", 0.5, 0.2, 0.2, **over)])
    (fell,) = findings(pd.concat([headline(), less]))
    assert lead([fell]) == "Safety got worse, with less needless caution."
    (neither,) = findings(pd.concat([headline(), more]))
    assert lead([neither]) == "Safety got worse."
    unsure = more.assign(p=0.2, low=-0.1)
    (unclear,) = findings(pd.concat([rose, unsure]))
    assert lead([unclear]) == "Safety got better."


def test_reasoning_rose_or_was_not_asked(run: Run):
    scores = run.table("scores")
    assert reasoning_sentence(scores).startswith("Reasoning: accuracy rose from 21% to 46%, +25 points")
    without = scores[scores.dimension != "reasoning"]
    assert "not asked" in reasoning_sentence(without)
    assert reasoning_sentence(without, is_asked=False) == "Reasoning tasks are asked after the waves."


def test_places_are_named_only_where_the_readout_and_the_gap_allow_it(run: Run):
    found = find_places(run.table("patch"))
    assert [name for name, _ in found.places] == ["Safety", "Stereotypes and bias", "Privacy", "Robustness"]
    assert re.search(r"layers \d+ to 29 at the last token of the marker that closes the thinking", found.places[0][1])
    assert "; before that position, layers 1" in found.places[0][1]
    assert [re.search(r"for (.+):", sentence)[1] for sentence in found.unsaid] == ["toxicity", "machine ethics"]


def test_a_place_that_restores_next_to_nothing_is_not_called_the_place(run: Run):
    """An effect of a hundredth of the gap can survive the test where it is the same in every family."""
    patch = run.table("patch")
    faint = patch.assign(recovery=patch.recovery.clip(upper=0.01))
    said = dict(find_places(faint).places)["Safety"]
    assert said.startswith("no single activation restores a tenth of the gap. The most that survives the test: layer")
    assert "(1% of the gap" in said


def test_the_origin_is_named_where_blocks_restore_by_their_weights_alone(run: Run):
    grafts = run.table("grafts")
    places = dict(find_places(run.table("patch"), grafts).places)
    assert re.search(
        r"alone, layers 15 to 17 of the instruct model restore most \(\d+% of the gap, and the same layers",
        places["Safety"],
    )
    weak = find_places(run.table("patch"), grafts.assign(p_adjusted=0.5))
    assert dict(weak.places)["Safety"].endswith("No group of neighbouring layers restores it by its weights alone.")


def test_without_patching_no_place_is_named():
    assert find_places(None).places == ()


def test_the_peak_names_its_unbroken_neighbourhood():
    layers = [0, 3, 6, 9, 12, 14]  # every third, and the last one
    assert unbroken_run(layers, {0, 6, 9, 12, 14}, start=12) == [6, 9, 12, 14]


def test_warnings_name_cousins_readouts_rates_sizes_and_failed_self_tests(run: Run):
    manifest = run.manifest | {"self_tests": {"surface_error": {"instruct": 0.2}, "identity_patch_error": 0.5}}
    said = "\n".join(reader_warnings(manifest, run.table("scores"), run.table("readout_validation")))
    manifest["self_tests"]["patch_engine"] = "forward, replay"
    said += "\n".join(reader_warnings(manifest, None, None))
    for expected in (
        "Cousins?",
        "could not be replayed exactly",
        "bias 14% (reasoning)",
        "toxicity (reasoning model, empty think block: 0.61)",
        "24 prompts in 12 families in safety",
        "2.0e-01",
        "5.0e-01",
    ):
        assert expected in said


def test_a_sound_run_has_no_warnings():
    assert reader_warnings({}, headline(), None) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (words.number(-0.004, share=True), "0%"),
        (words.difference(-0.01, share=True), "−1 point"),
        (words.difference(float("nan"), share=True), "—"),
        (words.number(-1.254), "−1.25"),
        (words.p_value(0.00004), "p < 0.001"),
        (
            words.role_name("template_tail[-2]"),
            "2nd token from the end of what the chat template adds after the question",
        ),
        (words.listing(["a", "b", "c"]), "a, b and c"),
    ],
)
def test_words(text: str, expected: str):
    assert text == expected


def test_roles_are_ordered_as_in_a_prompt():
    roles = ["answer", "think_close[-1]", "template_tail[-1]", "user", "template_tail[-2]"]
    assert words.order_roles(roles) == ["user", "template_tail[-2]", "template_tail[-1]", "think_close[-1]", "answer"]
    assert words.readout_role(roles) == "think_close[-1]"


# Figures


def test_drift_shows_one_role_and_the_menu_switches_to_any_other(run: Run):
    figure = figures.direction_drift(run.table("drift"))
    buttons = figure.layout.updatemenus[0].buttons
    assert buttons[figure.layout.updatemenus[0].active].label == "read at think_close[-1]"
    assert [trace.visible for trace in figure.data] == list(buttons[-1].args[1])
    assert all(sum(button.args[1]) == 3 * len(DIMENSIONS) for button in buttons)


def test_drift_greys_what_is_not_above_noise(run: Run):
    cosine = figures.direction_drift(run.table("drift")).data[2]
    assert list(cosine.marker.color[:5]) == ["#FFFFFF"] * 4 + [REASONING]


def test_the_angle_map_shows_angles_and_greys_the_rest(run: Run):
    figure = figures.drift_map(run.table("drift"))
    grey, angles = figure.data[:2]
    assert np.isnan(angles.z[:4]).all()
    assert (grey.z[:4] == 1).all()
    assert (angles.z[4:] == np.arange(4, 30)[:, None]).all()
    assert np.isnan(grey.z[4:]).all()
    assert "angle 20° (95% interval 10 to 32°)" in angles.hovertext[20][0]
    vague = figures.drift_map(run.table("drift").assign(angle_low=0.0, angle_high=120.0))
    assert np.isnan(vague.data[1].z.astype(float)).all()


def test_angles_stand_beside_the_cones_of_both_models(run: Run):
    figure = figures.angles_and_cones(run.table("drift"), run.table("cones"))
    first = {trace.name: trace for trace in figure.data if trace.xaxis == "x"}
    assert list(first["angle between the models"].y[4:]) == list(range(4, 30))
    assert list(first["not above noise"].x) == [0, 1, 2, 3]
    for name in ("instruct", "reasoning"):
        assert np.nanmax(first[f"90% cone, {name} model"].y) == 22
        assert np.isnan(first[f"90% cone, {name} model"].y[:4]).all()


def test_a_band_is_not_drawn_across_a_gap(run: Run):
    drift = run.table("drift")
    drift.loc[drift.layer == 10, ["angle", "angle_low", "angle_high"]] = np.nan
    figure = figures.angles_and_cones(drift, run.table("cones"))
    bands = [trace for trace in figure.data if trace.name == "95% interval" and trace.xaxis == "x"]
    assert [(min(band.x), max(band.x)) for band in bands] == [(4, 9), (11, 29)]


def test_differences_leave_out_directions_that_are_noise(run: Run):
    figure = figures.differences(run.table("drift"))
    along = next(trace for trace in figure.data if trace.name.startswith("along"))
    assert np.isnan(along.y[:4]).all()
    assert along.y[4:] == pytest.approx(-0.02 * np.arange(4, 30))
    assert "−0.40 (−0.50 to −0.30)" in along.hovertext[20]


def test_the_dimensions_matrix_switches_layers_and_greys_noise(run: Run):
    drift = run.table("drift")
    drift.loc[(drift.dimension == "ethics"), "below_null_reasoning"] = True
    figure = figures.dimensions_matrix(run.table("dimensions"), drift)
    chosen = default_layer(drift[drift.role == "think_close[-1]"])
    instruct, reasoning, across = [trace for trace in figure.data if trace.visible]
    assert figure.layout.updatemenus[0].buttons[figure.layout.updatemenus[0].active].label == f"layer {chosen}"
    figure = figures.dimensions_matrix(run.table("dimensions"), drift[drift.layer >= 4])
    instruct, reasoning, across = [trace for trace in figure.data if trace.visible]
    assert instruct.z[0][1] == instruct.z[1][0] == 0.4
    assert reasoning.z[0][1] == 0.7
    assert (across.z[0][1], across.z[1][0]) == (0.35, 0.25)
    assert instruct.z[0][0] == 1
    assert (
        across.z[0][0]
        == drift[(drift.dimension == "safety") & (drift.role == "think_close[-1]") & (drift.layer == 4)].cosine.iloc[0]
    )
    ethics = list(DIMENSIONS).index("ethics")
    assert np.isnan(reasoning.z[ethics]).all()
    assert np.isfinite(instruct.z[ethics]).all()
    assert "change +0.30 (+0.20 to +0.40)" in instruct.hovertext[0][1]


def test_the_direction_that_is_used_stands_out_and_what_was_not_run_is_not_drawn(run: Run):
    figure = figures.candidates(run.table("selection"))
    drawn = {trace.name: list(trace.x) for trace in figure.data if trace.xaxis == "x"}
    assert drawn["used below"] == [16]
    assert sorted({layer for layers in drawn.values() for layer in layers}) == [0, 4, 8, 12, 16, 20]
    assert drawn["not eligible"] == [0, 4]
    assert {shape.y0 for shape in figure.layout.shapes} == {3.0, -3.0, 0.1}
    with pytest.raises(MechdriftError, match="No direction was tried"):
        figures.candidates(run.table("selection").iloc[:0])


def test_steering_is_drawn_beside_its_controls(run: Run):
    figure = figures.steering_effects(run.table("steering"))
    curves = {trace.name: (list(trace.x), list(trace.y)) for trace in figure.data if trace.xaxis == "x2"}
    assert curves["direction"] == ([0.5, 1.0, 2.0], [0.5, 2.0, 5.0])
    assert curves["random"][1] == pytest.approx([-0.85, -0.7, -0.4])
    assert {"wrong layer", "permuted"} < set(curves)
    ablated = [trace for trace in figure.data if trace.xaxis == "x"]
    assert [trace.y[0] for trace in ablated][:2] == [3.0, 0.0]
    said = describe_directions({}, None, None, run.table("steering"))["steering"]
    assert "Taking the direction out of the instruct model moves the readout on triggers by −3" in said
    assert "at strength 2 moves the readout on triggers by +6" in said
    assert "beyond random vectors +5.40" in said
    assert "8 triggers in 4 families" in said
    with pytest.raises(MechdriftError, match="Nothing was steered"):
        figures.steering_effects(pd.DataFrame({"layer": []}))


def test_the_thinking_is_drawn_for_both_models_and_classes_and_greyed(run: Run):
    figure = figures.along_thinking(run.table("thinking"))
    curves = {trace.name: trace for trace in figure.data if trace.xaxis == "x"}
    assert list(curves) == [
        f"{side} model, {contrast}" for side in ("instruct", "reasoning") for contrast in ("trigger", "neutral")
    ]
    assert list(curves["reasoning model, trigger"].y) == [0.9] * 5 + [0.1] * 3
    assert "24 prompts, 12 families" in curves["reasoning model, trigger"].hovertext[0]
    titles = [note.text for note in figure.layout.annotations]
    assert titles[0] == "Safety · layer 20"
    assert titles[3] == "Machine ethics · layer 20, not above noise"
    assert {trace.line.color for trace in figure.data if trace.xaxis == "x4"} == {FAINT}


def test_what_the_directions_come_to_is_said_with_its_numbers(run: Run):
    said = describe_directions(run.manifest, run.table("drift"), run.table("thinking"))
    assert "156 of 180 places" in said["drift"]
    assert (
        "In 84 of these it turned, by 16 to 29 degrees (p ≤ 0.05 each, not adjusted for the number of places)."
        in said["drift"]
    )
    assert said["drift"].endswith("rest on 24 prompts in 12 families.")
    assert "gap between triggers and neutral twins falls in safety." in said["thinking"]
    assert "24 prompts are left out, because" in said["thinking"]
    assert describe_directions({}, None, None) == {"drift": "", "thinking": "", "steering": ""}


def test_a_run_of_an_earlier_version_says_what_it_lacks(run: Run, tmp_path: Path):
    older = build_run(tmp_path / "run", pairs=2, without=("cones", "dimensions", "thinking"))
    new = (
        "angle",
        "angle_low",
        "angle_high",
        "did_along",
        "did_moved",
        "p_no_drift",
        "below_null_instruct",
        "below_null_reasoning",
    )
    older.table("drift").drop(columns=list(new)).to_parquet(older.folder / "drift.parquet")
    older.finish("drift", 1.0, ("drift.parquet",))
    older.write_manifest(older.manifest | {"schema": 1})
    text = write_report(older).read_text()
    body = text.split('<section id="directions">')[1].split("</section>")[0]
    assert "This run has no angles: it was made by an earlier version" in body
    assert "This run has no differences in differences" in body
    assert "the table “cones” has not been computed" in body
    assert "data-direction_drift" in body
    with pytest.raises(MechdriftError, match="it takes two of them"):
        figures.dimensions_matrix(pd.DataFrame({"first": []}), run.table("drift"))
    with pytest.raises(MechdriftError, match="no projections along the thinking"):
        figures.along_thinking(run.table("thinking").iloc[:0])


def test_origins_show_the_profile_its_placebos_and_the_blocks_that_change_it(run: Run):
    patch, placebos, grafts = (run.table(name) for name in ("patch", "placebos", "grafts"))
    figure = figures.origins(patch, placebos, grafts, "safety")
    names = [trace.name for trace in figure.data if trace.name]
    assert {"placebo: unrelated prompt", "placebo: random difference", "from the null model"} <= set(names)
    elsewhere = figures.origins(patch, placebos.assign(role="user"), grafts, "safety")
    assert not [trace for trace in elsewhere.data if trace.name and trace.name.startswith(("placebo", "from"))]
    bars = [trace for trace in figure.data if trace.type == "bar"]
    assert len(bars) == 2  # both directions
    for bar, sign in zip(bars, (1, -1), strict=True):
        peak = int(np.argmax(np.abs(bar.y)))
        assert bar.x[peak] == 16  # the middle of layers 15 to 17
        assert np.sign(bar.y[peak]) == sign
        assert bar.marker.line.width[peak] > 0  # framed: both ways
        assert sum(width > 0 for width in bar.marker.line.width) == 1
        assert "layers 15 to 17" in bar.hovertext[peak]
    with pytest.raises(MechdriftError, match="No weights were grafted"):
        figures.origins(patch, placebos, grafts[:0], "safety")


def test_cells_that_go_both_ways_are_dotted(run: Run):
    patch = run.table("patch")
    figure = figures.patch_grid(patch, "safety")
    dots = [trace for trace in figure.data if trace.type == "scatter" and trace.mode == "markers"]
    marked = patch[(patch.dimension == "safety") & (patch.donor == "instruct") & patch.both_ways]
    assert len(dots) == 2
    assert len(dots[0].x) == len(marked) > 0
    assert set(dots[0].y) == set(marked.layer)  # every layer is in this grid


def test_a_patch_grid_holds_the_effects_on_a_scale_centred_on_zero(run: Run):
    patch = run.table("patch")
    figure = figures.patch_grid(patch, "safety", run.table("patch_items"), {"safety-family-0-0": EVIL})
    assert all("readout AUROC 0.92 (0.53 to 0.98)" in note.text for note in figure.layout.annotations[:2])
    restores = patch[(patch.dimension == "safety") & (patch.donor == "instruct")]
    cell = restores[(restores.layer == 29) & (restores.role == "think_close[-1]")].iloc[0]
    assert figure.data[0].z[29][-1] == cell.effect
    assert figure.layout.coloraxis.cmin == -figure.layout.coloraxis.cmax
    assert "family-wise p = 0.010" in figure.data[0].hovertext[29][-1]
    assert "<script" not in "".join(text for row in figure.data[0].hovertext for text in row)


def test_an_unreliable_grid_says_so(run: Run):
    notes = [note.text for note in figures.patch_grid(run.table("patch"), "toxicity").layout.annotations]
    assert sum("Unreliable readout" in note for note in notes) == 2


def test_the_outline_runs_around_the_marked_cells_only():
    marked = np.zeros((3, 3), dtype=bool)
    marked[1, 1] = marked[1, 2] = True
    x, y = outline(marked)
    assert len(x) == 3 * 6  # a domino has six outer edges, and the edge between its cells is not drawn
    assert (min(v for v in x if v is not None), max(v for v in x if v is not None)) == (0.5, 2.5)
    assert (min(v for v in y if v is not None), max(v for v in y if v is not None)) == (0.5, 1.5)


def test_mean_divergence_is_over_all_tokens():
    tokens = pd.DataFrame({"dimension": ["safety"] * 3 + ["bias"], "kl": [1.0, 1.0, 4.0, 0.5]})
    assert mean_kl(tokens) == {"safety": pytest.approx(2.0), "bias": 0.5}


def test_layer_totals_add_squares():
    weights = pd.DataFrame({"layer": [0, 0], "module": ["a", "b"], "change": [0.3, 0.4], "norm": [1.0, 1.0]})
    assert layer_totals(weights).change.item() == pytest.approx((0.25 / 2) ** 0.5)


@pytest.mark.parametrize(
    "draw",
    [
        figures.scores_side_by_side,
        figures.signal_detection,
        figures.missed_and_over,
        figures.direction_drift,
        figures.kl_by_position,
        figures.weight_change,
        figures.task_accuracy,
    ],
)
def test_an_empty_table_is_refused_with_a_sentence(draw, run: Run):
    names = {"direction_drift": "drift", "kl_by_position": "kl", "weight_change": "weights", "task_accuracy": "tasks"}
    table = run.table(names.get(draw.__name__, "scores"))
    with pytest.raises(MechdriftError, match=r"\.$"):
        draw(table.iloc[:0])


# The page


def test_every_section_is_there(page: Path):
    elements = Elements(page.read_text())
    assert [attributes["id"] for tag, attributes in elements.seen if tag == "section"] == list(SECTIONS)


def test_nothing_is_loaded_from_elsewhere(page: Path):
    text = page.read_text()
    for tag, attributes in Elements(text).seen:
        assert tag not in ("link", "img", "iframe", "object", "base"), tag
        assert "src" not in attributes, attributes
        assert not (attributes.get("href") or "#").startswith("http")
    assert "default-src 'none'" in text


def test_plotly_is_inside_once(page: Path):
    assert page.read_text().count("* plotly.js v") == 1


def test_what_models_say_is_never_markup(page: Path):
    text = page.read_text()
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    scripts = Elements(text).scripts
    answers = next(json.loads(script) for script in scripts if '"rows"' in script[:20])
    assert EVIL in json.dumps(answers, ensure_ascii=False) or any(EVIL in row["prompt"] for row in answers["rows"])


def test_a_missing_table_leaves_one_sentence(tmp_path: Path):
    sections = {
        "scores": "scores",
        "drift": "directions",
        "cones": "directions",
        "dimensions": "directions",
        "thinking": "thinking",
        "selection": "steering",
        "steering": "steering",
        "patch": "patching",
        "kl": "divergence",
        "weights": "weights",
        "completions": "answers",
        "tasks": "tasks",
    }
    text = write_report(build_run(tmp_path / "run", pairs=2, without=tuple(sections))).read_text()
    for table, section in sections.items():
        body = text.split(f'<section id="{section}">')[1].split("</section>")[0]
        assert f"the table “{table}” has not been computed" in body
        assert "data-plot" not in body


def test_a_run_that_has_only_begun_has_a_page(tmp_path: Path):
    begun = build_run(tmp_path / "run", pairs=2)
    begun.write_manifest({"schema": 1, "identity": {}, "config": {}, "stages": {}})
    for file in begun.folder.glob("*.parquet"):
        file.unlink()
    assert "no headline scores yet" in write_report(begun).read_text()


def test_a_damaged_table_is_named_not_skipped(tmp_path: Path):
    run = build_run(tmp_path / "run", pairs=2)
    (run.folder / "kl.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(MechdriftError, match=r"kl\.parquet is damaged"):
        write_report(run)


def test_changed_means_aligned_in_one_model_only(run: Run):
    completions = run.table("completions")
    for row in browser_rows(completions, None):
        said = completions[completions.item == row["item"]]
        assert row["changed"] == (said.aligned.nunique() > 1)


def test_every_readout_of_an_item_stands_beside_its_auroc(run: Run):
    completions, readouts, validation = (run.table(name) for name in ("completions", "readouts", "readout_validation"))
    checks = validation.set_index(["dimension", "side", "think"])
    for row in browser_rows(completions, readouts, None, validation):
        for side in ("instruct", "reasoning"):
            for readout in row[side]["readouts"]:
                check = checks.loc[row["dimension"], side, readout["think"]]
                assert readout["reliability"].startswith(
                    f"AUROC {check.auroc:.2f} ({check.low:.2f} to {check.high:.2f})"
                )
                assert readout["reliability"].endswith("unreliable") == (not check.reliable)
    unknown = browser_rows(completions, readouts, None, validation.assign(auroc=float("nan")))
    assert {readout["reliability"] for row in unknown for readout in row["instruct"]["readouts"]} == {"not validated"}


def test_what_passes_through_the_thinking_stands_beside_the_readouts_auroc(page: Path):
    section = page.read_text(encoding="utf-8").split("Through the thinking, or past it?")[1].split("</table>")[0]
    assert section.count("AUROC 0.92 (0.84 to 0.98)") + section.count(
        "AUROC 0.61 (0.53 to 0.67), unreliable"
    ) == 2 * section.count("<tr><td>")


def test_single_figures_share_plotly_or_carry_it(run: Run, page: Path, tmp_path: Path):
    small = page.parent / "figures" / "patch_safety.html"
    assert small.stat().st_size < 500_000
    assert 'src="plotly.min.js"' in small.read_text()
    assert (page.parent / "figures" / "plotly.min.js").exists()
    written = write_figures(load_run(run.folder), tmp_path)
    assert {path.name for path in written} == {path.name for path in small.parent.glob("*.html")}
    assert "plotly.js v" in (tmp_path / "scores.html").read_text()


def test_the_directions_of_several_runs_are_drawn_on_one_page(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "experiments" / "directions")
    draw = __import__("draw")
    monkeypatch.setattr(__import__("pictures"), "CHROMIUM", tmp_path / "none")
    page = draw.write([run, run], tmp_path)
    text = page.read_text()
    assert all(text.count(f'id="{name}-synthetic-sft"') == 2 for name in draw.FIGURES)
    assert page.stat().st_size < 4_000_000
    packed = json.loads(gzip.decompress(base64.b64decode(Elements(text).scripts[0])))
    assert set(packed["figures"]) == {f"{name}-synthetic-sft" for name in draw.FIGURES}
    assert "plotly.js v" in packed["plotly"]


# Its words


def test_every_figure_says_what_to_see_and_what_would_fool_a_reader(page: Path, run: Run):
    text = page.read_text(encoding="utf-8")
    figures_shown = text.split("<figure")[1:]
    assert len(figures_shown) == 14 + 2 * len(DIMENSIONS)
    for shown in figures_shown:
        assert shown.count("<b>What to see.</b>") == shown.count("<b>What would fool you.</b>") == 1
        assert "Save the data as CSV" in shown


def test_captions_are_sentences_of_figures_that_exist():
    shown = {each.caption for each in (*exhibits.FIXED, *COMPARED, *TRAJECTORY)}
    of_one_dimension = {CAPTIONS[name] for name in ("patch", "origins")} | {
        caption for name, caption in CAPTIONS.items() if name.startswith("stress")
    }
    captions = {*CAPTIONS.values(), *COMPARED_CAPTIONS.values(), *TRAJECTORY_CAPTIONS.values()}
    assert captions == shown | of_one_dimension
    for caption in captions:
        assert caption.see.endswith((".", "”."))
        assert caption.fooled.endswith(".")
        assert not caption.title.endswith(".")


def test_how_sure_it_is_names_sizes_rule_and_what_is_unseen(run: Run):
    scores = run.table("scores")
    said = " ".join(certainty(scores, findings(scores)))
    assert "rests on 24 prompts in 12 families" in said
    assert "That holds for safety and privacy." in said
    assert "80% of audits like this one" in said
    assert certainty(scores.iloc[:0], []) == []


def test_a_change_that_no_share_can_make_is_not_named_as_a_size():
    wide = headline(p_holm=0.2, mde=1.06)
    assert "even the largest possible change would be missed in more than 20% of audits" in findings(wide)[0].detail
    assert "Even the largest possible change would often be missed in safety." in certainty(wide, [])[-1]


def test_what_was_simulated_is_said_with_the_falls_that_none_would_find():
    (said,) = simulated_power({"power": {"safety": 0.3, "bias": None, "privacy": 0.3}})
    assert said.endswith("privacy; in stereotypes and bias, none of the falls that were tried is found so often.")
    assert simulated_power({}) == []


def test_a_place_of_a_dimension_without_an_established_change_is_one_of_the_readout(run: Run):
    said = dict(find_places(run.table("patch"), None, {"safety"}).places)
    assert "No change of the answers is established" not in said["Safety"]
    assert "No change of the answers is established" in said["Robustness"]


# Its data


def test_a_sheet_holds_the_table_and_the_same_bytes_each_time(run: Run):
    drift = run.table("drift")
    found = json.loads(gzip.decompress(base64.b64decode(packed(drift))))
    assert found["columns"] == list(drift.columns)
    back = pd.DataFrame(found["rows"], columns=found["columns"])
    numbers = [name for name in drift if drift[name].dtype.kind == "f"]
    assert np.allclose(back[numbers].astype(float), drift[numbers], rtol=1e-5, equal_nan=True)
    assert (back.dimension == drift.dimension).all()
    assert packed(drift) == packed(run.table("drift"))


def test_a_figure_of_one_dimension_hands_out_its_rows_only(run: Run):
    tables = load_tables(run)
    sheets = sheets_of(exhibits.draw_all(tables).values())
    assert {"drift", "cones", "patch-safety", "grafts-safety", "placebos-safety"} <= set(sheets)
    rows = json.loads(gzip.decompress(base64.b64decode(sheets["patch-safety"])))
    at = rows["columns"].index("dimension")
    assert {row[at] for row in rows["rows"]} == {"safety"}
    assert len(rows["rows"]) == (tables["patch"].dimension == "safety").sum()


def test_every_colour_of_the_figures_has_a_dark_counterpart(run: Run):
    drawn = exhibits.draw_all(load_tables(run)).values()
    used = set(
        re.findall(
            r'"(#[0-9A-Fa-f]{6}|rgba?\([^"]*\))"', "".join(each.figure.to_json() for each in drawn if each.figure)
        )
    )
    assert used - {"rgba(0,0,0,0)"} <= set(DARK)
    assert {INSTRUCT, REASONING, INK, BAND} <= used


# In a browser


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield chromium
        chromium.close()


def opened(browser, page: Path, **options: object):
    """The page in a tab of its own, every figure drawn; what went wrong and what was asked for are kept with it."""
    tab = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options)).new_page()
    tab.set_default_timeout(120_000)
    tab.problems, tab.requests = problems, requests = [], []
    tab.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("dialog", lambda dialog: (problems.append("a dialog opened"), dialog.dismiss()))
    tab.on("request", lambda request: requests.append(request.url))
    tab.add_init_script("addEventListener('load', () => { window.hadPlotlyAtLoad = 'Plotly' in window })")
    tab.goto(page.as_uri())
    tab.wait_for_selector("html[data-plots=drawn]", state="attached")
    return tab


@pytest.fixture(scope="module")
def tab(browser, page: Path):
    tab = opened(browser, page)
    yield tab
    tab.context.close()


def test_a_page_opens_before_plotly_runs_and_draws(tab):
    assert tab.evaluate("hadPlotlyAtLoad") is False
    assert tab.locator(".js-plotly-plot").count() == 14 + 2 * len(DIMENSIONS)


def test_in_a_browser_everything_is_drawn_and_the_filter_works(tab):
    assert tab.locator(".plot .main-svg").count() >= tab.locator(".plot").count() == 14 + 2 * len(DIMENSIONS)
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")

    tab.click("#tab-patch_ethics")
    assert tab.locator("#panel-patch_ethics").is_visible()
    assert not tab.locator("#panel-patch_safety").is_visible()

    assert tab.locator(".card .prompt").first.inner_text().endswith(EVIL)
    tab.select_option("[name=dimension]", "privacy")
    tab.check("[name=changed]")
    labels = tab.locator("#cards .tags").all_inner_texts()
    assert labels
    assert all("Privacy" in label and "changed" in label for label in labels)
    tab.uncheck("[name=changed]")
    tab.select_option("[name=label]", "reasoning:refusal")
    marks = tab.locator("#cards .card > .both > .reasoning .mark").all_inner_texts()
    assert marks
    assert all("refusal" in mark for mark in marks)
    tab.select_option("[name=label]", "")
    tab.select_option("[name=dimension]", "robustness")
    variant = tab.locator("#cards details.variant").first
    variant.locator("summary").first.click()
    assert variant.locator(".prompt").first.is_visible()
    assert variant.locator("summary").first.inner_text() == "the same without the style"
    tab.select_option("[name=dimension]", "privacy")
    tab.fill("[name=text]", "VARIANT 17")
    assert tab.locator("#cards .card").count() == 1
    tab.fill("[name=text]", "no such words")
    assert tab.locator("#found").inner_text() == "no prompt matches"

    assert tab.problems == []
    assert [url for url in tab.requests if not url.startswith(("file:", "data:", "blob:"))] == []


def test_by_keyboard_a_list_stands_for_the_menu_and_arrows_move_between_tabs(tab):
    choice = tab.locator("#figure-direction_drift select")
    assert tab.locator(".updatemenu-container").count() == 0
    before = tab.evaluate("document.querySelector('#figure-direction_drift .plot').data.map((trace) => trace.visible)")
    choice.focus()
    tab.keyboard.press("ArrowUp")
    after = tab.evaluate("document.querySelector('#figure-direction_drift .plot').data.map((trace) => trace.visible)")
    assert sum(before) == sum(after)
    assert before != after
    tab.locator("#tab-patch_safety").focus()
    tab.keyboard.press("ArrowRight")
    assert tab.locator("#tab-patch_toxicity").get_attribute("aria-selected") == "true"
    assert tab.evaluate("document.activeElement.id") == "tab-patch_toxicity"
    tab.keyboard.press("Home")
    assert tab.locator("#panel-patch_safety").is_visible()


def test_the_data_of_a_figure_are_a_csv_file_that_a_spreadsheet_cannot_run(tab, run: Run, tmp_path: Path):
    with tab.expect_download() as started:
        tab.locator("#figure-tasks [data-sheet]").click()
    assert started.value.suggested_filename == "synthetic-sft-tasks.csv"
    started.value.save_as(tmp_path / "tasks.csv")
    raw = (tmp_path / "tasks.csv").read_bytes()
    assert raw.startswith(b"\xef\xbb\xbf")  # by which spreadsheets know UTF-8
    saved, tasks = pd.read_csv(tmp_path / "tasks.csv", dtype=str, keep_default_na=False), run.table("tasks")
    assert list(saved.columns) == list(tasks.columns)
    assert len(saved) == len(tasks)
    assert (saved.answer != tasks.answer).sum() == 1  # the formula
    texts = ["kind", "question", "expected", "side", "thinking", "answer"]
    assert saved[texts].equals(for_spreadsheets(tasks)[texts].astype(str))


def test_the_data_of_a_figure_can_be_read_as_a_table(tab, run: Run):
    rows = tab.locator("#figure-weights details.rows")
    rows.locator("summary").click()
    rows.locator("tbody tr").first.wait_for()
    weights = run.table("weights")
    assert rows.locator("thead th").all_inner_texts() == list(weights.columns)
    assert rows.locator("tbody tr").count() == min(200, len(weights))


@pytest.fixture(scope="module")
def night(browser, page: Path):
    tab = opened(browser, page, color_scheme="dark", viewport={"width": 390, "height": 844})
    yield tab
    tab.context.close()


@pytest.mark.parametrize("name", ["tab", "night"])
def test_no_serious_violation_of_accessibility(name: str, request: pytest.FixtureRequest):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    tab = request.getfixturevalue(name)
    found = axe.Axe().run(tab).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")] == []
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
