"""A public function's docstring stands alone, and its example runs.

Examples run on two tiny random models and eight twin pairs of the safety set, under the names that a reader would
expect (`names` below), with a scratch folder as working directory.
"""

import doctest
import inspect
import re

import pytest

import mechdrift as md

FUNCTIONS = sorted(name for name in md.__all__ if not inspect.isclass(getattr(md, name)))
RECORDS = sorted(name for name in md.__all__ if inspect.isclass(getattr(md, name)))
SECTIONS = ("Args", "Returns", "Raises", "Source", "Example")


@pytest.fixture(scope="module")
def names(tiny_pair):
    """What examples may use without saying where it comes from."""
    probes = md.load_probes("safety").sample(8)
    acts = md.collect(tiny_pair, probes, roles=("template_tail", "think_close[-1]"))
    budget = md.Budget(think=8, answer=8)
    dirs = md.find_directions(acts)
    return {
        "md": md,
        "pair": tiny_pair,
        "probes": probes,
        "acts": acts,
        "dirs": dirs,
        "chosen": md.select_direction(tiny_pair, dirs, pairs=4, screen=4),
        "answers": {side: md.generate(tiny_pair, probes, side, budget=budget) for side in ("instruct", "reasoning")},
    }


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_example_of_a_public_function_runs(name, names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples = doctest.DocTestParser().get_doctest(inspect.getdoc(getattr(md, name)) or "", dict(names), name, None, 0)
    assert examples.examples, f"md.{name} has no example"
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).run(examples).failed == 0


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_of_a_public_function_is_explained(name):
    function = getattr(md, name)
    text = inspect.getdoc(function)
    parameters = list(inspect.signature(function).parameters)
    wanted = [section for section in SECTIONS if parameters or section != "Args"]
    assert [section for section in wanted if f"\n{section}:\n" not in text] == []
    arguments = text.split("\nArgs:\n")[1].split("\n\n")[0] if parameters else ""
    assert re.findall(r"^    (\w+): ", arguments, re.MULTILINE) == parameters


@pytest.mark.parametrize("name", RECORDS)
def test_every_public_record_says_what_it_is(name):
    text = inspect.getdoc(getattr(md, name))
    assert text
    assert not text.startswith(f"{name}(")  # a dataclass without a docstring gets its signature for one
