"""The toxicity scorer: its arithmetic against a plain sum, and its figures on the half that it was not fitted on."""

import sys
import types
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from mechdrift.behaviour.judges import toxicity
from mechdrift.behaviour.judges.toxicity import BUCKETS, WEIGHTS, features, score_toxicity
from mechdrift.records import MechdriftError

PROPERTY = settings(max_examples=60, deadline=None)
ROOT = Path(__file__).parents[1]
RTP = ROOT.parent / "shared" / "data" / "rtp"
sys.path.insert(0, str(ROOT / "experiments" / "judges"))
import fit_toxicity  # noqa: E402

INSULTING = ["You are a stupid, worthless idiot.", "Shut up, you pathetic moron.", "What a bunch of fucking assholes."]
CLEAN = [
    "The train to Leeds leaves at ten past four.",
    "Kill the process before you start the server.",
    "The black cat slept all day.",
]


def test_insults_score_above_one_half_and_clean_sentences_below():
    assert (score_toxicity(INSULTING) > 0.5).all()
    assert (score_toxicity(CLEAN) < 0.5).all()


def test_a_score_is_the_logistic_of_a_sum_of_weights():
    with np.load(WEIGHTS, allow_pickle=False) as stored:
        weights, offset = stored["weights"], float(stored["offset"])
    (row,) = features(INSULTING[:1])
    by_hand = offset + sum(float(weights[index]) * value for index, value in zip(row.indices, row.data, strict=True))
    assert score_toxicity(INSULTING[:1])[0] == pytest.approx(expit(by_hand))


def test_each_half_of_the_features_has_length_one():
    found = features(CLEAN).toarray()
    assert np.allclose(np.linalg.norm(found[:, :BUCKETS], axis=1), 1)
    assert np.allclose(np.linalg.norm(found[:, BUCKETS:], axis=1), 1)


@PROPERTY
@given(st.lists(st.text(max_size=80), max_size=5))
def test_any_texts_get_scores_in_range_that_do_not_depend_on_the_others(texts):
    scores = score_toxicity(texts)
    assert scores.shape == (len(texts),)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert np.allclose(scores, [score_toxicity([text])[0] for text in texts])


def test_batches_do_not_change_scores(monkeypatch):
    texts = [*INSULTING, "", *CLEAN, "..."]
    whole = score_toxicity(texts)
    monkeypatch.setattr(toxicity, "BATCH", 2)
    assert np.allclose(score_toxicity(texts), whole)


def test_what_has_no_letters_is_not_toxic():
    assert score_toxicity(["", " \n", "42", "?!"]).tolist() == [0, 0, 0, 0]


def test_quotes_case_and_spaces_do_not_change_a_score():
    assert np.ptp(score_toxicity(["You're an idiot", "YOU’RE AN IDIOT", "you're  an idiot\n"])) < 1e-9


def test_the_weights_are_small_and_hold_no_text():
    assert WEIGHTS.stat().st_size < 1.5e6
    with np.load(WEIGHTS, allow_pickle=False) as stored:
        assert {name: (array.dtype.kind, array.shape) for name, array in stored.items()} == {
            "weights": ("f", (2 * BUCKETS,)),
            "offset": ("f", ()),
        }


def test_misuse_is_named():
    with pytest.raises(MechdriftError, match="list"):
        score_toxicity("one text")
    with pytest.raises(MechdriftError, match="hashed or detoxify"):
        score_toxicity(["a"], scorer="perspective")


def test_detoxify_is_asked_for_by_name_and_missed_with_one_sentence(monkeypatch):
    toxicity._detoxify_model.cache_clear()
    monkeypatch.setitem(sys.modules, "detoxify", None)
    with pytest.raises(MechdriftError, match="pip install detoxify"):
        score_toxicity(["a"], scorer="detoxify")


def test_detoxify_scores_where_it_is_installed(monkeypatch):
    class Detoxify:
        def __init__(self, name):
            assert name == "original"

        def predict(self, texts):
            return {"toxicity": [float(len(text)) / 10 for text in texts], "insult": [0.0] * len(texts)}

    toxicity._detoxify_model.cache_clear()
    monkeypatch.setitem(sys.modules, "detoxify", types.SimpleNamespace(Detoxify=Detoxify))
    assert score_toxicity(["abc", "", "abcde"], scorer="detoxify").tolist() == [0.3, 0.0, 0.5]
    toxicity._detoxify_model.cache_clear()


def test_the_fit_is_ridge_regression():
    from sklearn.linear_model import Ridge

    texts, scores = [*INSULTING, *CLEAN] * 3, np.array([0.9, 0.8, 0.95, 0.1, 0.2, 0.15] * 3)
    weights, offset = fit_toxicity.fit(texts, scores)
    target = np.log(scores / (1 - scores))
    # The offset is the mean target, so the oracle has no intercept of its own. Every feature occurs in three texts or
    # more.
    oracle = Ridge(alpha=fit_toxicity.PENALTY, fit_intercept=False, solver="lsqr", tol=1e-10).fit(
        features(texts), target - target.mean()
    )
    assert offset == pytest.approx(target.mean())
    assert np.allclose(weights.astype(float), oracle.coef_, atol=2e-3)


def test_a_feature_of_few_texts_gets_no_weight():
    weights, _ = fit_toxicity.fit(
        ["zyx alone", "plain words", "plain words", "plain words"], np.array([0.9, 0.1, 0.2, 0.1])
    )
    seen, frequent = (np.asarray(features([text]).sum(axis=0)).ravel() > 0 for text in ("zyx alone", "plain words"))
    assert not weights[seen & ~frequent].any()
    assert weights[frequent].any()


@pytest.mark.skipif(
    not RTP.exists(), reason="needs RealToxicityPrompts with Perspective scores, which are not part of the repository"
)
def test_scores_agree_with_perspective_on_the_held_out_half():
    table = fit_toxicity.read_rtp(RTP)
    held_out = table[table.half == 1]
    assert not set(held_out.text) & set(table.text[(table.half == 0) & (table.part == "prompt")])
    scores = score_toxicity(held_out.text.tolist())
    assert roc_auc_score(held_out.toxicity > 0.5, scores) > 0.9
    assert np.corrcoef(scores, held_out.toxicity)[0, 1] > 0.75
