"""No circle of imports inside the package, those inside functions included.

The import contract (`lint-imports`) orders packages; this orders modules. An import for the type checker alone does not
count, because nothing runs it.
"""

import graphlib
from collections.abc import Mapping
from importlib.util import find_spec

import grimp
import pytest

UPWARDS = ("mechdrift.runs.run", "mechdrift.report.of_run")  # a run shows itself: the one import against the data flow


def imports_of(graph: grimp.ImportGraph) -> dict[str, set[str]]:
    return {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}


def circle_in(imports: Mapping[str, set[str]]) -> list[str]:
    """The modules of some circle, or none."""
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    return imports_of(grimp.build_graph("mechdrift", exclude_type_checking_imports=True, cache_dir=None))


def test_no_module_imports_itself_by_way_of_others(imports):
    lower, upper = UPWARDS
    assert upper in imports[lower], "the exception is gone: take it out of this test"
    assert circle_in(imports | {lower: imports[lower] - {upper}}) == []


def test_a_run_imports_nothing_else_of_the_report(imports):
    assert [name for name in imports[UPWARDS[0]] if name.startswith("mechdrift.report")] == [UPWARDS[1]]


@pytest.mark.parametrize("back", ["from pack import first", "def later():\n    from pack.first import name"])
def test_a_circle_is_found_at_the_top_of_a_module_and_inside_a_function(back, tmp_path, monkeypatch):
    files = {"__init__": "", "first": "from pack import second\nname = 1", "second": back}
    (tmp_path / "pack").mkdir()
    for name, text in files.items():
        (tmp_path / "pack" / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    assert find_spec("pack")
    found = circle_in(imports_of(grimp.build_graph("pack", cache_dir=None)))
    assert set(found) == {"pack.first", "pack.second"}
