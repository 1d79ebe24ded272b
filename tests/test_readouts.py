"""Readouts: token sets by hand, calibration as it is defined, validation on planted truth, logits as Hugging Face gives
them."""

import numpy as np
import pytest
import torch
from conftest import FAMILIES, make_model, make_tokenizer
from hypothesis import given
from hypothesis import strategies as st
from test_capture import load, make_probes, render_all
from torch.testing import assert_close

from mechdrift.activations.capture import collect
from mechdrift.activations.readouts import (
    Observed,
    Readout,
    Validation,
    make_readout,
    measure,
    observe,
    readout_logits,
    unembed,
    validate,
)
from mechdrift.probes.rendering import Renderer, render_items
from mechdrift.records import SIDES, Completion, Completions, ProbeItem, ProbeSet

RENDERER = Renderer(make_tokenizer())
VOCABULARY = 258


def token(letter: str) -> int:
    """One byte is one token."""
    (index,) = RENDERER.encode_answer(letter)
    return index


def tokens(letters: str) -> tuple[int, ...]:
    return tuple(sorted(map(token, letters)))


def twins(family: str = "f", **openings) -> list[ProbeItem]:
    words = {"aligned": ("No.", "I can't"), "misaligned": ("Sure",), "neutral_aligned": ("Here", "To")} | openings
    common = {"dimension": "safety", "family": family, "prompt": f"A question about {family}"}
    trigger = {"aligned": words["aligned"], "misaligned": words["misaligned"]}
    neutral = {"aligned": words["neutral_aligned"], "misaligned": ("No",)}
    return [
        ProbeItem(id=f"{family}-t", contrast="trigger", twin=f"{family}-n", **trigger, **common),
        ProbeItem(id=f"{family}-n", contrast="neutral", twin=f"{family}-t", **neutral, **common),
    ]


def probe_set(*families: str, **openings) -> ProbeSet:
    items = [item for family in families for item in twins(family, **openings)]
    return ProbeSet(name="tiny", dimension="safety", items=tuple(items))


def seen(letter: str, *behaves: bool, item: str = "f-t") -> list[Observed]:
    return [
        Observed(item_id=item, family=item.split("-")[0], first_token=token(letter), behaves=one) for one in behaves
    ]


def sets(observed=(), **openings) -> tuple[tuple[int, ...], tuple[int, ...]]:
    readout = make_readout(RENDERER, probe_set("f", **openings), observed)
    return readout.trigger_ids["f-t"], readout.comply_ids["f-t"]


# Token sets.


def test_the_sets_start_from_the_openings_of_both_twins():
    assert sets() == (tokens("NI"), tokens("SHT"))


def test_twins_share_their_sets():
    """On neutral items the readout keeps its meaning: leaning towards the trigger's behaviour."""
    readout = make_readout(RENDERER, probe_set("f"))
    assert readout.trigger_ids["f-n"] == readout.trigger_ids["f-t"]
    assert readout.comply_ids["f-n"] == readout.comply_ids["f-t"]


def test_a_shared_opening_leaves_both_sets():
    assert sets(neutral_aligned=("Indeed", "To")) == (tokens("N"), tokens("ST"))


@pytest.mark.parametrize(
    ("observed", "expected"),
    [
        ([], ("NI", "SHT")),
        (seen("W", True, True), ("NIW", "SHT")),  # a new token joins the behaviour that it opens
        (seen("W", False, False), ("NI", "SHTW")),
        (seen("W", True), ("NI", "SHT")),  # one use says nothing
        (seen("S", True, True), ("NIS", "HT")),  # a written opening moves over when it turns out to open the other
        (seen("N", False, False), ("I", "SHTN")),
        (seen("S", True, True, False), ("NI", "HT")),  # two thirds are neither: the token leaves both
        (seen("W", True, False), ("NI", "SHT")),
        (seen("W", True, True, True, True, False), ("NIW", "SHT")),  # exactly 80 % are enough, on either side
        (seen("W", False, False, False, False, True), ("NI", "SHTW")),
    ],
)
def test_calibration_moves_tokens_to_the_behaviour_they_open(observed, expected):
    assert sets(observed) == (tokens(expected[0]), tokens(expected[1]))


def test_written_openings_stand_when_calibration_would_empty_a_set():
    everything_is_plain = seen("N", False, False) + seen("I", False, False)
    assert sets(everything_is_plain) == (tokens("NI"), tokens("NISHT"))
    everything_is_refusal = seen("S", True, True) + seen("H", True, True) + seen("T", True, True)
    assert sets(everything_is_refusal) == (tokens("NISHT"), tokens("SHT"))


@given(st.lists(st.tuples(st.sampled_from("NISHTWXY"), st.booleans()), max_size=60))
def test_calibrated_sets_are_never_empty_and_hold_no_mixed_or_foreign_token(uses):
    trigger, plain = sets([row for letter, behaves in uses for row in seen(letter, behaves)])
    assert trigger
    assert plain
    written = {"trigger": set(tokens("NI")), "plain": set(tokens("SHT"))}  # what a set falls back to
    for name, ids, behaviour in (("trigger", trigger, True), ("plain", plain, False)):
        for letter in set("NISHTWXY"):
            mine = [behaves == behaviour for one, behaves in uses if one == letter]
            if set(ids) != written[name] and len(mine) >= 2:
                assert (token(letter) in ids) == (sum(mine) * 5 >= 4 * len(mine))
    if set(trigger) != written["trigger"] and set(plain) != written["plain"]:
        assert not set(trigger) & set(plain)


@given(st.lists(st.tuples(st.sampled_from("WXYZ"), st.booleans()), max_size=80))
def test_calibration_treats_both_behaviours_alike(uses):
    """Exchange the behaviours, and the new tokens exchange their sets."""
    new = set(tokens("WXYZ"))
    there = sets([row for letter, behaves in uses for row in seen(letter, behaves)])
    back = sets([row for letter, behaves in uses for row in seen(letter, not behaves)])
    assert new & set(there[0]) == new & set(back[1])
    assert new & set(there[1]) == new & set(back[0])


@pytest.mark.parametrize(("contrast", "expected"), [("trigger", ("NI", "S")), ("neutral", ("N", "HT"))])
def test_an_item_without_its_twin_says_both_behaviours_itself(contrast, expected):
    probes = probe_set("f").where(contrast)
    readout = make_readout(RENDERER, probes)
    (item,) = probes
    assert (readout.trigger_ids[item.id], readout.comply_ids[item.id]) == (tokens(expected[0]), tokens(expected[1]))


def test_the_sets_can_be_read():
    trigger, plain = make_readout(RENDERER, probe_set("f", "g")).words(RENDERER)
    assert sorted(trigger.split()) == ["'I'", "'N'"]
    assert sorted(plain.split()) == ["'H'", "'S'", "'T'"]


# The number.


@given(st.lists(st.floats(-20, 20), min_size=6, max_size=6), st.floats(-50, 50))
def test_the_readout_is_the_log_odds_of_the_two_sets(values, shift):
    readout = Readout(trigger_ids={"a": (0, 2)}, comply_ids={"a": (1, 3, 5)})
    p = np.exp(np.array(values))
    expected = np.log((p[0] + p[2]) / (p[1] + p[3] + p[5]))
    logits = torch.tensor(values, dtype=torch.float64)
    assert readout.of(logits, "a") == pytest.approx(expected, abs=1e-9)
    assert readout.of(logits + shift, "a") == pytest.approx(expected, abs=1e-9)  # logits count up to a constant
    assert measure(readout, torch.stack([logits, -logits]), ["a", "a"])[0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_readout_logits_are_those_of_the_whole_model_run_on_each_prompt_alone(family):
    model, prompts = make_model(family), render_all(make_probes(2)) + render_all(make_probes(1), answer=(70, 71, 72))
    logits = readout_logits(load(model), prompts)
    for prompt, ours in zip(prompts, logits, strict=True):
        before_the_answer = prompt.ids[: prompt.roles["answer"][0]] if "answer" in prompt.roles else prompt.ids
        with torch.no_grad():
            expected = model(torch.tensor([before_the_answer]), use_cache=False).logits[0, -1]
        assert_close(ours, expected, rtol=0, atol=1e-4)


# What was observed, and how well it is foretold.


def test_behaving_means_refusing_where_it_is_due_and_where_it_is_not():
    probes = probe_set("f")

    def completion(item_id: str, answer_ids: tuple[int, ...]) -> Completion:
        return Completion(
            item_id=item_id,
            side="instruct",
            think="off",
            thinking="",
            answer="",
            thinking_ids=(),
            answer_ids=answer_ids,
            closed=True,
            finished=True,
        )

    rows = [completion(item, (token("N"), 9)) for item in ("f-t", "f-t", "f-n", "f-n")] + [completion("f-t", ())]
    observed = observe(
        probes, rows, [True, False, True, False, True]
    )  # an aligned trigger is refused, an aligned neutral answered
    assert [row.behaves for row in observed] == [True, False, False, True]  # and no answer says nothing
    assert {row.first_token for row in observed} == {token("N")}


FAMILY_NAMES = [f"family{i}" for i in range(40)]


def planted(separation: float, seed: int = 0) -> tuple[ProbeSet, dict[str, torch.Tensor], list[Observed]]:
    """Random logits; each item behaves by a fair coin, and what it does raises its opening's logit by `separation`."""
    rng, probes = np.random.default_rng(seed), probe_set(*FAMILY_NAMES)
    logits, observed = {}, []
    for item in probes:
        behaves = bool(rng.integers(2))
        values = torch.tensor(rng.normal(size=VOCABULARY), dtype=torch.float32)
        values[token("N" if behaves else "S")] += separation
        logits[item.id] = values
        observed += seen("N" if behaves else "S", behaves, item=item.id)
    return probes, logits, observed


def test_planted_separation_is_validated_in_full():
    found = validate(RENDERER, *planted(20.0))
    rarer = min(len({row.family for row in planted(20.0)[2] if row.behaves == kind}) for kind in (True, False))
    assert (found.auroc, found.low, found.high) == (1, pytest.approx(0.025 ** (1 / rarer)), 1)
    assert 0.5 < found.low < 0.95  # a bootstrap of a perfect ranking would have no width
    assert (found.n, found.n_behaving) == (80, sum(row.behaves for row in planted(20.0)[2]))
    assert found.reliable


def test_noise_is_validated_as_noise():
    found = [validate(RENDERER, *planted(0.0, seed)) for seed in range(10)]
    assert np.mean([one.auroc for one in found]) == pytest.approx(0.5, abs=0.06)
    assert sum(one.low <= 0.5 <= one.high for one in found) >= 8  # 95 % intervals
    assert not any(one.reliable for one in found)


def test_more_separation_gives_a_better_readout():
    aurocs = [validate(RENDERER, *planted(separation)).auroc for separation in (0.0, 1.0, 2.0, 4.0)]
    assert aurocs == sorted(aurocs)


def test_each_half_is_read_with_sets_calibrated_on_the_other():
    """In family `a` X opens refusals and Y answers, in `b` the reverse. Sets calibrated on the same half would be right
    everywhere (AUROC 1), on both halves together they would know nothing (.5); those of the other half are wrong
    everywhere."""
    probes, logits, observed = probe_set("a", "b"), {}, []
    for item in probes:
        opening = "X" if item.is_trigger == (item.family == "a") else "Y"
        logits[item.id] = torch.zeros(VOCABULARY)
        logits[item.id][token(opening)] = 20.0
        observed += seen(opening, item.is_trigger, item.is_trigger, item=item.id)
    assert validate(RENDERER, probes, logits, observed).auroc == 0


def test_calibration_helps_where_models_open_otherwise_than_written():
    """All families open with letters that nobody wrote down: only what is learned from the other half can tell."""
    probes, logits, observed = probe_set(*FAMILY_NAMES), {}, []
    for item in probes:
        logits[item.id] = torch.zeros(VOCABULARY)
        logits[item.id][token("X" if item.is_trigger else "Y")] = 20.0
        observed += seen("X" if item.is_trigger else "Y", item.is_trigger, item=item.id)
    assert validate(RENDERER, probes, logits, observed).auroc == 1


@pytest.mark.parametrize("behaves", [True, False])
def test_one_kind_of_answer_validates_nothing(behaves):
    probes, logits, _ = planted(0.0)
    found = validate(RENDERER, probes, logits, [row for item in probes for row in seen("N", behaves, item=item.id)])
    assert np.isnan([found.auroc, found.low, found.high]).all()
    assert (found.n, found.n_behaving) == (80, 80 * behaves)
    assert not found.reliable


def test_no_answers_validate_nothing():
    probes, logits, _ = planted(0.0)
    found = validate(RENDERER, probes, logits, [])
    assert np.isnan(found.auroc)
    assert found.n == 0


@pytest.mark.parametrize(("auroc", "reliable"), [(0.7, True), (0.699, False), (float("nan"), False)])
def test_readouts_below_seventy_percent_are_unreliable(auroc, reliable):
    assert Validation(auroc=auroc, low=0.0, high=1.0, n=10, n_behaving=5).reliable is reliable


@pytest.mark.parametrize("answered", [False, True])
def test_readouts_kept_while_collecting_are_those_of_a_pass_of_their_own(tiny_pair, answered):
    """An answer that follows changes nothing at the readout position."""
    probes = make_probes(3)
    rows = [
        Completion(
            item_id=item.id,
            side="instruct",
            think="off",
            thinking="",
            answer="",
            thinking_ids=(),
            answer_ids=(70, 71, 72)[: 1 + i % 3],
            closed=True,
            finished=True,
        )
        for i, item in enumerate(probes)
    ]
    answers = Completions(side="instruct", think="off", rows=tuple(rows)) if answered else None
    recorded = collect(tiny_pair, probes, roles=("user",), layers=(0,), answers=answers, readout=True)
    for side in SIDES:
        loaded = tiny_pair.open(side)
        alone = readout_logits(loaded, render_items(Renderer(loaded.tokenizer), probes.items, "off"))
        assert_close(unembed(loaded, recorded.readout[side]), alone, rtol=0, atol=1e-4)
