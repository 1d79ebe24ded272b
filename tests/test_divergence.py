"""KL drift is the closed form on the answer tokens, a lower bound when tokens are dropped, and zero for identical
models."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mechdrift.behaviour import divergence
from mechdrift.behaviour.divergence import kl_drift
from mechdrift.pairs.pair import Pair
from mechdrift.probes.rendering import Renderer
from mechdrift.probes.sets import load_probes
from mechdrift.records import Completion, Completions, ProbeSet

PROPERTY = settings(max_examples=60, deadline=None)  # no deadline: a busy machine is not a failure
PROBES = load_probes("safety").sample(2)
ANSWERS = ("I can't help with that, sorry.", "Sure: take the bus, then walk.", "", "No.")


def completions(pair: Pair, texts=ANSWERS) -> Completions:
    encode = Renderer(pair.tokenizer("reasoning")).encode_answer
    rows = [
        Completion(
            item_id=item.id,
            side="instruct",
            think="none",
            thinking="",
            answer=text,
            thinking_ids=(),
            answer_ids=encode(text),
            closed=True,
            finished=True,
        )
        for item, text in zip(PROBES, texts, strict=True)
    ]
    return Completions(side="instruct", think="none", rows=tuple(rows))


@torch.inference_mode()
def log_probabilities(pair: Pair, side: str, item, text: str) -> np.ndarray:
    """The oracle's input: one prompt through the whole Hugging Face model, `[answer token, vocab]`, in float64."""
    renderer = Renderer(pair.tokenizer("reasoning"))
    prompt = renderer.render(item.id, item.prompt, "off").ids
    answer = renderer.encode_answer(text)
    logits = pair.open(side).model(torch.tensor([[*prompt, *answer]])).logits[0].double()
    return logits[len(prompt) - 1 : len(prompt) - 1 + len(answer)].log_softmax(-1).numpy()


def kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return (np.exp(p) * (p - q)).sum(-1)


def test_with_all_tokens_it_is_the_closed_form_in_both_directions(tiny_pair):
    """TOP covers the tiny vocabulary. Position 0 is the first answer token: predicted where the prompt ends."""
    table = kl_drift(tiny_pair, PROBES, completions(tiny_pair))
    for item, text in zip(PROBES, ANSWERS, strict=True):
        p, q = (log_probabilities(tiny_pair, side, item, text) for side in ("instruct", "reasoning"))
        rows = table[table["item"] == item.id]
        assert rows.position.tolist() == list(range(len(text)))
        assert "".join(rows.token) == text
        np.testing.assert_allclose(rows.kl, kl(p, q), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(rows.kl_reverse, kl(q, p), rtol=1e-3, atol=1e-4)
        assert (rows.kl > 0.01).all()
        np.testing.assert_allclose(rows["tail"], 0, atol=1e-5)


@pytest.mark.parametrize(("vocabulary", "positions"), [(152_000, 110), (49_152, 341), (10**9, 1)])
def test_a_block_of_distributions_has_the_same_size_for_every_vocabulary(vocabulary, positions):
    assert divergence.positions_at_once(vocabulary) == positions
    assert positions == 1 or 4 * vocabulary * positions <= divergence.BLOCK


def test_positions_taken_a_few_at_a_time_give_the_same(tiny_pair, monkeypatch):
    whole = kl_drift(tiny_pair, PROBES, completions(tiny_pair))
    monkeypatch.setattr(divergence, "positions_at_once", lambda _: 3)
    parts = kl_drift(tiny_pair, PROBES, completions(tiny_pair))
    np.testing.assert_allclose(parts[["kl", "kl_reverse"]], whole[["kl", "kl_reverse"]], rtol=1e-3, atol=1e-5)
    assert parts[["item", "position", "token"]].equals(whole[["item", "position", "token"]])


@pytest.fixture
def little_memory(monkeypatch):
    """As with a large vocabulary: only the most likely tokens are kept."""
    monkeypatch.setattr(divergence, "MEMORY", 0)


def test_with_fewer_tokens_it_is_a_lower_bound_that_grows_with_them(tiny_pair, monkeypatch, little_memory):
    answers = completions(tiny_pair)
    tables = []
    for top in (1, 8, 64, 512):
        monkeypatch.setattr(divergence, "TOP", top)
        tables.append(kl_drift(tiny_pair, PROBES, answers))
    for fewer, more in pairwise(tables):
        for column in ("kl", "kl_reverse"):
            assert (fewer[column] >= 0).all()
            assert (fewer[column] <= more[column] + 1e-4).all()
            assert fewer[column].sum() < more[column].sum()
        assert (fewer["tail"] > more["tail"]).all()


@pytest.mark.parametrize("top", [1, 8, 64])
def test_what_the_coarse_kl_misses_is_within_its_error_bound(tiny_pair, monkeypatch, top):
    exact = kl_drift(tiny_pair, PROBES, completions(tiny_pair))
    assert (exact[["error", "error_reverse", "tail"]] == 0).all(axis=None)
    monkeypatch.setattr(divergence, "TOP", top)
    monkeypatch.setattr(divergence, "MEMORY", 0)
    coarse = kl_drift(tiny_pair, PROBES, completions(tiny_pair))
    for column, error in (("kl", "error"), ("kl_reverse", "error_reverse")):
        missed = exact[column] - coarse[column]
        assert (missed >= -1e-5).all()
        assert (missed <= coarse[error] + 1e-5).all()


def test_the_tail_is_the_instruct_model_s_probability_outside_the_top(tiny_pair, monkeypatch, little_memory):
    monkeypatch.setattr(divergence, "TOP", 8)
    table = kl_drift(tiny_pair, PROBES, completions(tiny_pair))
    p = log_probabilities(tiny_pair, "instruct", PROBES.items[0], ANSWERS[0])
    outside = np.sort(np.exp(p), axis=-1)[:, :-8].sum(-1)
    np.testing.assert_allclose(table[table["item"] == PROBES.items[0].id]["tail"], outside, atol=1e-5)


@pytest.mark.parametrize("top", [8, 512])
def test_identical_models_do_not_drift_at_all(twin_pair, monkeypatch, little_memory, top):
    monkeypatch.setattr(divergence, "TOP", top)
    table = kl_drift(twin_pair, PROBES, completions(twin_pair))
    assert len(table) == sum(map(len, ANSWERS))
    assert (table[["kl", "kl_reverse"]] == 0).all(axis=None)


def test_items_without_an_answer_are_left_out(tiny_pair):
    table = kl_drift(tiny_pair, PROBES, completions(tiny_pair))
    assert set(table["item"]) == {item.id for item, text in zip(PROBES, ANSWERS, strict=True) if text}
    assert set(table.family) <= set(PROBES.families)
    assert set(table.dimension) == {"safety"}
    nothing = kl_drift(tiny_pair, PROBES, completions(tiny_pair, ["", "", "", ""]))
    assert len(nothing) == 0
    assert set(nothing.columns) == set(table.columns)


def test_batching_changes_no_value(tiny_pair):
    together = kl_drift(tiny_pair, PROBES, completions(tiny_pair)).set_index(["item", "position"])
    for item, answer in zip(PROBES, completions(tiny_pair), strict=True):
        if answer.answer:
            one = ProbeSet(name="safety", dimension="safety", items=(item,))
            single = kl_drift(tiny_pair, one, Completions(side="instruct", think="none", rows=(answer,)))
            np.testing.assert_allclose(single.kl, together.loc[item.id].kl, rtol=1e-3, atol=1e-4)


DISTRIBUTIONS = st.lists(st.floats(0.01, 1), min_size=6, max_size=6).map(
    lambda weights: np.array(weights) / np.sum(weights)
)


@PROPERTY
@given(p=DISTRIBUTIONS, q=DISTRIBUTIONS, top=st.integers(1, 5))
def test_the_coarse_kl_is_that_of_the_top_tokens_and_one_tail_event(p, q, top):
    kept = np.argsort(-p)[:top]
    coarse_p, coarse_q = (np.append(x[kept], 1 - x[kept].sum()) for x in (p, q))
    ours, theirs = (divergence.keep(torch.tensor(np.log(x))[None], torch.tensor(kept)[None]) for x in (p, q))
    value, missed = divergence.coarse_kl(ours, theirs).item(), divergence.error_bound(ours, theirs).item()
    assert value == pytest.approx((coarse_p * np.log(coarse_p / coarse_q)).sum(), abs=1e-9)
    whole = kl(np.log(p), np.log(q))
    assert value - 1e-9 <= whole <= value + missed + 1e-9


@pytest.mark.parametrize("memory", [2**28, 0])
def test_what_the_first_model_said_comes_back_from_its_file_bit_for_bit(tiny_pair, tmp_path, monkeypatch, memory):
    monkeypatch.setattr(divergence, "MEMORY", memory)
    monkeypatch.setattr(divergence, "TOP", 8)
    monkeypatch.setattr(divergence, "positions_at_once", lambda _: 3)
    rendered = divergence.answered_prompts(tiny_pair, PROBES, completions(tiny_pair))
    kept = divergence.keep_instruct(tiny_pair, PROBES, rendered)
    assert max(len(parts) for parts in kept) > 1
    divergence.save_kept(kept, tmp_path / "kept.safetensors")
    expected = divergence.compare_with(tiny_pair, PROBES, rendered, kept)
    again = divergence.load_kept(tmp_path / "kept.safetensors")
    pd.testing.assert_frame_equal(divergence.compare_with(tiny_pair, PROBES, rendered, again), expected)
    divergence.save_kept([], tmp_path / "nothing.safetensors")
    assert divergence.load_kept(tmp_path / "nothing.safetensors") == []
