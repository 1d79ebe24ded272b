"""What is published beside the code: bounds of versions that are true, and a notice that names every source."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_lowest_versions_that_are_tried_are_those_that_are_allowed():
    tried = dict(re.findall(r"^([a-z0-9-]+)==(\S+)$", (ROOT / ".ci" / "lowest.txt").read_text(), re.MULTILINE))
    for allowed in PROJECT["project"]["dependencies"]:
        name, least = re.findall(r"^([a-z0-9-]+)>=([\d.]+)", allowed)[0]
        if name != "torch":  # tried in the version that CI installs
            assert re.fullmatch(rf"{re.escape(least)}(\.0)*", tried[name]), allowed


def test_the_notice_ships_and_names_every_file_that_was_fitted_or_written_as_a_list():
    assert "docs/NOTICE.md" in PROJECT["project"]["license-files"]
    notice = (ROOT / "docs" / "NOTICE.md").read_text(encoding="utf-8")
    fitted = [*ROOT.glob("mechdrift/**/*weights*.json"), *ROOT.glob("mechdrift/**/*.npz")]
    for file in {*fitted, ROOT / "mechdrift/behaviour/judges/refusal_markers.py"}:
        assert f"`{file.relative_to(ROOT / 'mechdrift').as_posix()}`" in notice
    for adapter in (ROOT / "mechdrift" / "pairs" / "zoo").glob("*/adapter_config.json"):
        assert adapter.parent.name.removeprefix("smollm2") in notice
