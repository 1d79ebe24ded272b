"""The checks that `typechecks` puts on every function of the package: they find wrong types and axes that disagree."""

import numpy as np
import pytest
from beartype.roar import BeartypeCallHintViolation

from mechdrift.behaviour.censoring import loop_start
from mechdrift.planting.localisers import Located
from mechdrift.planting.scoring import recall
from mechdrift.statistics.resampling import minimum_detectable_effect


def test_a_wrong_type_is_refused_and_an_int_is_a_float():
    with pytest.raises(BeartypeCallHintViolation):
        loop_start(3)
    assert minimum_detectable_effect(1, 16) == minimum_detectable_effect(1.0, 16)


def test_axes_of_one_call_agree():
    assert recall(np.array([0.1, 0.9]), np.array([False, True])) == 1
    with pytest.raises(BeartypeCallHintViolation):
        recall(np.array([0.1, 0.9]), np.array([False, True, True]))
    with pytest.raises(BeartypeCallHintViolation):
        recall(np.array([[0.1, 0.9]]), np.array([[False, True]]))


def test_fields_of_a_record_agree():
    score, called = np.zeros((2, 1)), np.zeros((2, 1), dtype=bool)
    Located(score=score, called=called, unchecked=called, by_p=called)
    with pytest.raises(BeartypeCallHintViolation):
        Located(score=score, called=called, unchecked=called, by_p=np.zeros((3, 1), dtype=bool))
