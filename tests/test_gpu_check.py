"""The checks that wait for a GPU run here with a small model, so that they run there at the first try."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_checks_for_a_gpu_hold_with_a_small_model(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "experiments" / "gpu")
    import check

    monkeypatch.setattr(sys, "argv", ["check.py", "--tiny", "--out", str(tmp_path / "check.md")])
    assert check.main() == 0
    rows = [line.split(" | ") for line in (tmp_path / "check.md").read_text().splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows[1:]] == ["| reading", "| memory", "| parts", "| writing"]
