"""Numbers in words are read as a person would write them in digits."""

import pytest

from mechdrift.behaviour.judges.numerals import with_digits, with_fractions, with_ordinals
from mechdrift.behaviour.tasks import Task, is_correct


@pytest.mark.parametrize(
    ("words", "digits"),
    [
        ("eighteen", "18"),
        ("There are twenty-five of them.", "There are 25 of them."),
        ("one hundred and twenty-five", "125"),
        ("twelve hundred", "1200"),
        ("one thousand two hundred", "1200"),
        ("two million three hundred thousand five", "2300005"),
        ("forty-four seventy-one", "44 71"),
        ("four four seven", "4 4 7"),
        ("nineteen eighty-four", "19 84"),
        ("minus three", "-3"),
        ("seventy-three point five", "73.5"),
        ("three and four", "3 4"),
        ("Someone alone ate a bone.", "Someone alone ate a bone."),
    ],
)
def test_cardinal_numbers(words, digits):
    assert with_digits(words) == digits


def test_ordinals_and_fractions():
    assert with_ordinals("the twenty-first of May and the third") == "the 21 of May and the 3"
    assert with_fractions("three quarters of it") == "3/4 of it"
    assert with_fractions("one half") == "1/2"
    assert with_fractions("a third man came") == "a third man came"


def test_a_task_may_be_answered_in_words_where_nothing_is_in_digits():
    task = Task(kind="counting", question="How many?", answer="3", solution="")
    assert is_correct(task, "There are three of them.")
    assert is_correct(task, "I count 3, not one more.")
    assert not is_correct(task, "There are four of them.")
