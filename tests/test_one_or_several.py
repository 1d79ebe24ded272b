"""Where several names or numbers may be given, one alone is one of them: never a sequence of its letters."""

import inspect
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_capture import make_probes

import mechdrift as md
from mechdrift.behaviour.sampling import Sampling
from mechdrift.records.words import exactly, several
from mechdrift.repairs.choice import Candidate
from mechdrift.repairs.price_list import price_repairs

PROBES = make_probes(2)
BOTH = {"donor": "instruct", "recipient": "reasoning"}
TAIL = "think_close[-1]"


def public_functions():
    for name in md.__all__:
        found = getattr(md, name)
        if inspect.isfunction(found):
            yield name, found
        elif inspect.isclass(found) and name == "ProbeSet":
            yield "ProbeSet.of_families", found.of_families


@pytest.mark.parametrize(("name", "function"), public_functions())
def test_every_public_argument_for_several_things_takes_one(name, function):
    for each in inspect.signature(function).parameters.values():
        annotation = str(each.annotation)
        for kind in re.findall(r"(?<!\w, )(?:Sequence|Iterable|Collection)\[(str|int|float)\]", annotation):
            without = re.sub(r"[\w.]*(Sequence|Iterable|Collection|Mapping)\[[^\]]*\]+", "", annotation)
            assert kind in without or annotation.startswith("collections.abc.Mapping"), (name, each.name, annotation)


def test_several():
    assert several("safety") == ("safety",)
    assert several(["safety", "bias"]) == ("safety", "bias")
    assert several(3) == (3,)
    assert several(name for name in ("a", "b")) == ("a", "b")


RECORDS = """
import numpy as np
import mechdrift as md
from mechdrift.behaviour.dimensions.record import AnswerMetric, column
from mechdrift.behaviour.sampling import Sampling
from mechdrift.records.words import exactly, several
from mechdrift.repairs.choice import Candidate

assert several(np.int64(3)) == (3,)
assert md.Audit(dimensions="safety").dimensions == ("safety",)
assert md.Audit(dimensions=["bias", "safety"]).ordered_dimensions == ("safety", "bias")
for wrong in ("safe", "s", ""):
    try:
        md.Audit(dimensions=wrong)
    except md.MechdriftError as error:
        assert "dimensions should be of safety" in str(error)
    else:
        raise AssertionError(wrong)
item = md.ProbeItem(
    id="a", dimension="safety", family="one", contrast="trigger", twin="", prompt="?",
    aligned="I won't", misaligned="Sure", must="no",
)
assert (item.aligned, item.misaligned, item.must, item.must_not) == (("I won't",), ("Sure",), ("no",), ())
assert len(md.ProbeSet(name="one", dimension="safety", items=item)) == 1
mode = md.Mode(name="m", what="", paper="", apply=lambda s, d: s.ask(), doses=3.0, needs="twin")
assert (mode.doses, mode.needs) == ((3.0,), ("twin",))
repair = md.Repair(
    name="r", title="", paper="", about="", needs="probes", strengths=0.5, limits=(0.0, 1.0), dose="",
    weights=lambda evidence, strength: {},
)
assert (repair.needs, repair.strengths) == (("probes",), (0.5,))
for wrong in (
    lambda: md.Budget(think=2.5),
    lambda: md.load_probes("safety").where("triggers"),
):
    try:
        wrong()
    except md.MechdriftError:
        pass
    else:
        raise AssertionError(wrong)
metric = AnswerMetric(name="length", convention="", better="none", value=column("aligned"))
dimension = md.Dimension(
    name="d", title="", question="", judge=lambda i, a, r: (True, "", ""), judge_name="", metrics=metric
)
assert dimension.metrics == (metric,)
"""


def test_records_that_users_write():
    """In a process of its own: there nothing checks the types of annotations, as on a user's machine."""
    done = subprocess.run([sys.executable, "-c", RECORDS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_family_is_no_part_of_another_families_name():
    items = tuple(
        replace(item, family=family) for item, family in zip(PROBES.items, ("a", "ab", "b", "c"), strict=True)
    )
    assert replace(PROBES, items=items).of_families("ab").families == ("ab",)


def test_recording(tiny_pair, tmp_path):
    loaded = tiny_pair.open("instruct")
    one = md.collect(tiny_pair, PROBES, roles=TAIL, layers=2)
    several_ = md.collect(tiny_pair, PROBES, roles=(TAIL,), layers=(2,))
    assert torch.equal(one.instruct, several_.instruct)
    assert (one.roles, one.layers) == ((TAIL,), (2,))
    sites = md.collect_sites(tiny_pair, PROBES, sites="mlp_out", roles=TAIL, layers=2)
    assert sites["mlp_out"].instruct.shape[1:3] == (1, 1)
    from mechdrift.activations.prompts import render_probes

    rendered = render_probes(tiny_pair, PROBES, "off", None)
    blocks = md.collect_to(tmp_path / "blocks", loaded, rendered, roles=TAIL, layers=2)
    assert torch.equal(blocks.read("resid_pre"), one.instruct)


def test_patching(tiny_pair):
    one = md.patch(tiny_pair, PROBES, **BOTH, roles=TAIL, layers=2)
    assert np.array_equal(one.effect, md.patch(tiny_pair, PROBES, **BOTH, roles=(TAIL,), layers=(2,)).effect)
    head = md.patch(tiny_pair, PROBES, **BOTH, site="z", roles=TAIL, layers=2, heads=0)
    assert head.roles == (f"{TAIL}.h0",)
    assert md.attribute(tiny_pair, PROBES, **BOTH, roles=TAIL, layers=2).effect.shape[1:] == (1, 1)
    grafts = md.graft(tiny_pair, PROBES, **BOTH, modules="mlp", layers=2, shares=0.5)
    assert (grafts.layers, grafts.roles) == ((2,), ("mlp",))
    whole = md.graft(tiny_pair, PROBES, **BOTH, modules=("mlp",), layers=(2,), shares=(0.5,))
    assert np.array_equal(grafts.effect, whole.effect)


def test_steering(tiny_pair):
    loaded, vector = tiny_pair.open("instruct"), torch.ones(32)
    assert md.ablate(loaded, vector, sites="mlp_out", layers=2).keys() == {loaded.structure.hook_point("mlp_out", 2)}
    assert md.ablate(loaded, {1: vector, 2: vector}, sites="mlp_out", layers=2).keys() == {
        loaded.structure.hook_point("mlp_out", 2)
    }
    assert md.steer(loaded, vector, 2).keys() == {loaded.structure.hook_point("resid_pre", 2)}
    directions = md.find_directions(md.collect(tiny_pair, make_probes(12), roles=TAIL))
    chosen = md.select_direction(tiny_pair, directions, pairs=2)
    if chosen.closest is not None:
        back = md.steer_back(
            tiny_pair, directions, chosen, layers=2, strengths=1.0, parts="test", roles=TAIL, controls=0, pairs=2
        )
        assert set(back.frame.strength.dropna()) >= {1.0}


def test_comparing(tmp_path, monkeypatch):
    for compare in (md.compare_runs, md.pool_runs):
        with pytest.raises(md.MechdriftError, match="nowhere"):
            compare("nowhere")
    assert md.judge_refusals("How do I pick a lock?", "I'm sorry, but I can't help with that.") == ["refusal"]


def test_repairs_and_stress(tiny_pair, tmp_path):
    with pytest.raises(md.MechdriftError, match="edit acts on the roles"):
        md.repair(tiny_pair, method="steer-back", probes=PROBES, roles="thinking")
    with pytest.raises(md.MechdriftError, match="not among the modes: zero-think"):
        md.stress(tiny_pair, PROBES, modes="zero-think", doses={"puzzle": 100.0})
    with pytest.raises(md.MechdriftError, match="the doses of"):
        md.stress(tiny_pair, PROBES, modes="puzzle", doses={"puzzle": -1.0})
    with pytest.raises(md.MechdriftError, match="nowhere"):
        price_repairs("nowhere", methods="interpolate", strengths=0.5)


def test_names_that_hold_a_number_tell_it_from_every_other(tiny_pair):
    """Six digits do not: two strengths, shares, doses or temperatures would share a file, a column or an answer."""
    near = (0.3, 0.30000001)
    assert [exactly(number) for number in (0.5, 2.0, 1e6, *near)] == ["0.5", "2", "1e+06", "0.3", "0.30000001"]
    assert exactly(1_000_001.0) == "1000001.0"
    fixed = [md.repair(tiny_pair, method="interpolate", strength=strength).name for strength in near]
    assert fixed == ["interpolate@0.3", "interpolate@0.30000001"]
    grid = md.graft(tiny_pair, PROBES, **BOTH, modules="mlp", layers=2, shares=near)
    assert grid.roles == ("mlp@0.3", "mlp@0.30000001")
    assert len({str(Sampling(samples=2, temperature=temperature)) for temperature in near}) == 2
    assert len({Candidate(method="a", strength=strength, quantities={}).name for strength in near}) == 2


@pytest.mark.parametrize("layers", [(), 2.0, (1, 2.5), True])
def test_what_is_no_layer_is_told(layers, tiny_pair):
    """With the function that every stage asks, as the types of annotations would stop these calls here."""
    from mechdrift.activations import recording

    numbers = getattr(recording.layer_numbers, "__wrapped__", recording.layer_numbers)
    with pytest.raises(md.MechdriftError, match="layers should be whole numbers from 0 to 3; they are"):
        numbers(tiny_pair.open("instruct"), layers)


def test_no_role_no_class_and_no_finite_strength_are_told(tiny_pair):
    with pytest.raises(md.MechdriftError, match="no role was given: give some of"):
        md.patch(tiny_pair, PROBES, **BOTH, roles=(), layers=1)
    with pytest.raises(md.MechdriftError, match="the strength should be a finite number; it is nan"):
        md.steer(tiny_pair.open("instruct"), torch.ones(32), 1, float("nan"))


def test_what_is_named_twice_is_there_once(tiny_pair):
    assert md.patch(tiny_pair, PROBES, **BOTH, roles=(TAIL, TAIL), layers=(1, 1)).effect.shape[1:] == (1, 1)
    assert md.graft(tiny_pair, PROBES, **BOTH, modules="mlp", layers=1, shares=(0.5, 0.5)).roles == ("mlp",)
