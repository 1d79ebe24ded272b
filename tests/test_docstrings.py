"""A public function's docstring stands alone, and its example runs.

Examples run on two tiny random models and eight twin pairs of the safety set, under the names that a reader would
expect (`names` below), with a scratch folder as working directory.
"""

import doctest
import inspect
import re

import pytest
from synthetic_run import build_run
from test_trajectory import checkpoints  # noqa: F401 - a fixture

import mechdrift as md
from mechdrift.audits.config import PRESETS, Size
from mechdrift.trajectories.stages import SIZES

FEW = md.Budget(think=5, answer=5)
SMALL = Size(pairs=6, variants=2, tasks=6, patched=2, kl=2, thinking=4, steered=0, grafts=False, budget=FEW)

FUNCTIONS = sorted(name for name in md.__all__ if not inspect.isclass(getattr(md, name)))
RECORDS = sorted(name for name in md.__all__ if inspect.isclass(getattr(md, name)))
SECTIONS = ("Args", "Returns", "Raises", "Source", "Example")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for sizes in (PRESETS, SIZES):
        monkeypatch.setitem(sizes, "quick", SMALL)


@pytest.fixture(scope="module")
def names(tiny_pair, checkpoints, tmp_path_factory):  # noqa: F811
    """What examples may use without saying where it comes from."""
    folder, other = (tmp_path_factory.mktemp("runs") / name for name in ("sft", "rl"))
    probes = md.load_probes("safety").sample(8)
    acts = md.collect(tiny_pair, probes, roles=("template_tail", "think_close[-1]"))
    budget = md.Budget(think=8, answer=8)
    dirs = md.find_directions(acts)
    return {
        "md": md,
        "pair": tiny_pair,
        "parent": tiny_pair.instruct.path,
        "child": tiny_pair.reasoning.path,
        "checkpoints": checkpoints,
        "run": build_run(folder),
        "folder": folder,
        "other_folder": build_run(other).folder,
        "probes": probes,
        "acts": acts,
        "dirs": dirs,
        "chosen": md.select_direction(tiny_pair, dirs, pairs=4, screen=4),
        "answers": {side: md.generate(tiny_pair, probes, side, budget=budget) for side in ("instruct", "reasoning")},
    }


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_example_of_a_public_function_runs(name, names, own_dimensions, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples = doctest.DocTestParser().get_doctest(inspect.getdoc(getattr(md, name)) or "", dict(names), name, None, 0)
    assert examples.examples, f"md.{name} has no example"
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).run(examples).failed == 0


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_of_a_public_function_is_explained(name):
    function = getattr(md, name)
    text = inspect.getdoc(function)
    parameters = list(inspect.signature(function).parameters)
    wanted = set(SECTIONS) - (set() if parameters else {"Args"}) - ({"Raises"} if "raises nothing" in text else set())
    assert [section for section in sorted(wanted) if f"\n{section}:\n" not in text] == []
    arguments = text.split("\nArgs:\n")[1].split("\n\n")[0] if parameters else ""
    assert re.findall(r"^    (\w+): ", arguments, re.MULTILINE) == parameters


@pytest.mark.parametrize("name", RECORDS)
def test_every_public_record_says_what_it_is(name):
    text = inspect.getdoc(getattr(md, name))
    assert text
    assert not text.startswith(f"{name}(")  # a dataclass without a docstring gets its signature for one
