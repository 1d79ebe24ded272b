"""The model card: valid Markdown without HTML, the numbers of the score table, and text that cannot break out of it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from synthetic_run import EVIL, build_run

from mechdrift import cli
from mechdrift.records import DIMENSIONS, MechdriftError
from mechdrift.report.card import code, plain
from mechdrift.report.card_rows import drift_line
from mechdrift.report.words import dimension_name
from mechdrift.runs import Run, load_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return build_run(tmp_path_factory.mktemp("runs") / "synthetic", pairs=12)


def tables(text: str) -> list[list[list[str]]]:
    """Every table as rows of cells; a `|` after a backslash is text."""
    found, rows = [], []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            assert line.endswith("|")
            rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif rows:
            found.append(rows)
            rows = []
    return found


def test_tables_are_rectangular_and_cover_all_dimensions(run: Run):
    scores, inside = tables(run.card())
    for table in (scores, inside):
        assert {len(row) for row in table} == {len(table[0])}
        assert set("".join(table[1])) == {"-"}
    names = [dimension_name(name) for name in DIMENSIONS]
    assert [row[0] for row in scores[2:]] == [*names, "Reasoning"]
    assert [row[0] for row in inside[2:]] == names


def test_the_numbers_are_those_of_the_score_table(run: Run):
    row = run.table("scores").query("dimension == 'safety' and headline").iloc[0]
    cells = next(cells for cells in tables(run.card())[0] if cells[0] == "Safety")
    assert cells[1] == f"{row.instruct:.0%} ({100 * row.instruct_low:.0f} to {100 * row.instruct_high:.0f})"
    assert cells[3] == "−24 points (−32 to −16)"
    assert cells[4:6] == ["24 (12)", "< 0.001"]
    assert cells[7] == "rules"
    reasoning = tables(run.card())[0][-1]
    assert reasoning[1:4] == ["21% (15 to 27)", "46% (40 to 52)", "+25 points (+19 to +31)"]


def test_places_are_named_only_where_they_are_established(run: Run):
    text = run.card()
    places = {row[0]: row[3] for row in tables(text)[1][2:]}
    assert "layers" in places["Safety"]
    assert places["Toxicity"] == places["Machine ethics"] == "not established"
    assert (
        "Where it sits cannot be said for toxicity: its readout does not follow judged behaviour well enough." in text
    )


def test_limits_versions_and_hashes_are_said(run: Run):
    text = run.card()
    for expected in (
        "Preset standard, seed 0. Prompts asked, trigger and neutral: 24 of 96 in safety, toxicity",
        "Answers in no score, because thinking or answer was cut off (instruct and reasoning model): safety 0 and 2;",
        "Answers in which nothing can be read, counted as not aligned (instruct and reasoning model): safety 1 and 3;",
        "toxicity, reasoning model, empty think block: 0.61",
        "Little data: 24 prompts in 12 families in safety",
        "the card of smollm2-sft names smollm2-base as its parent",
        "torch 2.9.1",
        "9f2c9f2c",
        run.manifest["stages"]["scores"]["files"]["scores.parquet"],
    ):
        assert expected in text


def test_drift_is_one_line_at_the_layer_that_tells_apart_best(run: Run):
    drift = run.table("drift")
    drift.loc[(drift.layer == 12) & (drift.dimension == "safety"), "auroc_instruct"] = 1.0
    drift.loc[(drift.layer == 29) & (drift.dimension == "safety"), "auroc_instruct"] = 1.1  # too deep
    cell = drift[(drift.layer == 12) & (drift.dimension == "safety") & (drift.role == "think_close[-1]")].iloc[0]
    line = drift_line(drift, "safety")
    assert line.startswith(
        f"layer 12: cosine {cell.cosine:.2f} ({cell.cosine_low:.2f} to {cell.cosine_high:.2f}), noise ceiling "
    )
    assert line.endswith("turned by 12° (6 to 24)")
    assert "interval unknown" in drift_line(drift.assign(angle_low=np.nan), "safety")
    assert drift_line(drift.assign(below_null=True), "safety") == "no direction above noise in both models"
    assert drift_line(None, "safety") == "not measured"


def test_names_cannot_break_out_of_the_markdown(run: Run, tmp_path: Path):
    evil = f"a | b\n\n# c `d` [e](f) {EVIL}"
    other = build_run(tmp_path / "evil", pairs=4)
    manifest = other.manifest
    manifest["pair"] |= {"reasoning": {"name": evil}, "warnings": [evil]}
    manifest["engines"] = {"reasoning": "transformers 5, float32"}
    other.write_manifest(manifest)
    text = other.card()
    assert {len(row) for row in tables(text)[0]} == {8}
    outside = re.sub(r"`[^`\n]*`", "", text)
    assert not re.search(r"(?<!\\)<[a-zA-Z/!?]", outside)  # "p < 0.001" is no tag
    assert not re.search(r"(?<!\\)\]\(", outside)
    assert not [line for line in text.splitlines() if line.startswith("# ")]
    assert len(re.findall(r"^- (?:Fingerprint|SHA-256) of", text, re.MULTILINE)) == text.count("Fingerprint of") + 1
    assert plain("a_b\n*c*") == r"a\_b \*c\*"
    assert code("x`y|z") == r"`x'y\|z`"


def test_a_run_without_optional_tables_has_a_card_and_one_without_scores_none(tmp_path: Path):
    part = build_run(
        tmp_path / "part",
        pairs=4,
        without=("drift", "kl", "kl_tokens", "patch", "patch_items", "readout_validation", "thinking"),
    )
    manifest = json.loads((part.folder / "run.json").read_text())
    for counts in manifest["probes"].values():
        counts.pop("sampled_from", None)  # runs of earlier versions lack it
    (part.folder / "run.json").write_text(json.dumps(manifest))
    part = load_run(part.folder)
    rows = tables(part.card())[1][2:]
    assert {tuple(row[1:]) for row in rows} == {("—", "not measured", "not established")}
    empty = build_run(tmp_path / "empty", pairs=4, without=("scores",))
    with pytest.raises(MechdriftError, match="has no scores yet"):
        empty.card()


def test_the_command_prints_or_writes_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    def call(*words: object, code: int = 0) -> str:
        monkeypatch.setattr("sys.argv", ["mechdrift", "card", str(run.folder), *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert (ended.value.code or 0) == code
        return capsys.readouterr().out

    assert call() == run.card()
    assert call("--out", tmp_path / "card.md") == f"card: {tmp_path / 'card.md'}\n"
    assert (tmp_path / "card.md").read_text(encoding="utf-8") == run.card()
    assert call("--out", tmp_path / "absent" / "card.md", code=1) == ""
