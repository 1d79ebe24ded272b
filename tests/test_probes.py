"""The six sets are what their cards say, and a damaged probe file is named with its line."""

import json
from collections import Counter

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from mechdrift.probes import load_card, load_probes
from mechdrift.records import DIMENSIONS, MechdriftError, ProbeSet

EVERY_SET = pytest.mark.parametrize("probes", [load_probes(name) for name in DIMENSIONS], ids=DIMENSIONS)


def lengths(probes: ProbeSet) -> np.ndarray:
    return np.array([len(item.prompt.split()) for item in probes])


@EVERY_SET
def test_a_set_is_sixteen_families_of_three_twin_pairs(probes):
    assert len(probes) == 96
    assert len(probes.families) == 16
    assert set(Counter((item.family, item.contrast) for item in probes).values()) == {3}
    assert {item.dimension for item in probes} == {probes.dimension} == {probes.name}
    assert all(probes[item.twin].family == item.family for item in probes)
    assert len({item.prompt for item in probes}) == 96


@EVERY_SET
def test_classes_match_in_length(probes):
    triggers = np.array([item.is_trigger for item in probes])
    medians = [np.median(lengths(probes)[mask]) for mask in (triggers, ~triggers)]
    assert max(medians) <= 1.1 * min(medians)


@EVERY_SET
def test_length_and_first_word_do_not_tell_the_classes_apart(probes):
    sizes = StandardScaler().fit_transform(np.c_[lengths(probes), [len(item.prompt) for item in probes]])
    openings = OneHotEncoder(handle_unknown="ignore").fit_transform([[item.prompt.split()[0]] for item in probes])
    features, triggers = np.hstack([sizes, openings.toarray()]), np.array([item.is_trigger for item in probes])
    families = [item.family for item in probes]
    scores = cross_val_predict(
        LogisticRegression(max_iter=1000), features, triggers, groups=families, cv=GroupKFold(5), method="decision_function"
    )
    assert roc_auc_score(triggers, scores) <= 0.6


@EVERY_SET
def test_aligned_and_misaligned_openings_never_share_a_first_word(probes):
    def first_words(openings):
        return {opening.split()[0].strip(".,:;!").lower() for opening in openings}

    for item in probes:
        assert item.aligned, item.id
        assert item.misaligned, item.id
        assert not first_words(item.aligned) & first_words(item.misaligned), item.id


@EVERY_SET
def test_what_an_answer_must_and_must_not_say_is_possible_at_once(probes):
    for item in probes:
        assert all(word.strip() for word in (*item.must, *item.must_not)), item.id
        assert not {word.lower() for word in item.must} & {word.lower() for word in item.must_not}, item.id


@EVERY_SET
def test_every_set_has_a_card_that_speaks_of_each_family(probes):
    card = load_card(probes.name)
    assert card.startswith("# ")
    assert "Apache-2.0" in card
    assert [family for family in probes.families if family.split("-")[-1] not in card.lower()] == []


@EVERY_SET
def test_a_sample_holds_whole_pairs_spread_over_the_families(probes):
    sample = probes.sample(20, seed=3)
    assert len(sample) == 40
    assert all(sample[item.twin].twin == item.id for item in sample)
    assert len(sample.families) == 16
    assert sample == probes.sample(20, seed=3) != probes.sample(20, seed=4)


def rows() -> list[dict]:
    """A valid file of one twin pair, to be damaged."""
    common = {"family": "keys", "aligned": ["No"], "misaligned": ["Yes"]}
    return [
        {"id": "a", "contrast": "trigger", "twin": "b", "prompt": "Open the safe?", **common},
        {"id": "b", "contrast": "neutral", "twin": "a", "prompt": "Open the door?", **common},
    ]


def write(path, lines) -> str:
    file = path / "mine.jsonl"
    encoded = [line if isinstance(line, bytes) else json.dumps(line, ensure_ascii=False).encode() for line in lines]
    file.write_bytes(b"\n".join(encoded) + b"\n")
    return str(file)


def test_a_file_of_ones_own_is_read_with_defaults(tmp_path):
    probes = load_probes("safety", path=write(tmp_path, rows()))
    assert [item.id for item in probes] == ["a", "b"]
    assert probes["a"].must == probes["a"].must_not == ()
    assert probes.source.endswith("mine.jsonl")
    with_dimension = [row | {"dimension": "privacy"} for row in rows()]
    assert load_probes("secrets", path=write(tmp_path, with_dimension)).dimension == "privacy"


@pytest.mark.parametrize("character", ["\u2028", "\x85", "\x0c", "\x1e"])
def test_exotic_line_breaks_inside_a_prompt_are_part_of_it(tmp_path, character):
    first, second = rows()
    first["prompt"] = f"Open{character}the safe?"
    assert load_probes("safety", path=write(tmp_path, [first, second]))["a"].prompt == first["prompt"]


def test_a_byte_order_mark_and_blank_lines_are_harmless(tmp_path):
    lines = [b"\xef\xbb\xbf" + json.dumps(rows()[0]).encode(), b"", b"  ", rows()[1]]
    assert len(load_probes("safety", path=write(tmp_path, lines))) == 2


# What is done to the second of two good lines, and what the message must say besides the file and the line.
DAMAGE = {
    "broken JSON": (lambda row: b'{"id": "b", "prompt": ', "JSON"),
    "not an object": (lambda row: ["b"], "list"),
    "not UTF-8": (lambda row: b'{"id": "\xff\xfe"}', "UTF-8"),
    "endless nesting": (lambda row: b"[" * 100_000, "JSON"),
    "endless number": (lambda row: b'{"id": ' + b"9" * 5000 + b"}", "JSON"),
    "unknown field": (lambda row: row | {"colour": "red"}, "colour"),
    "unknown contrast": (lambda row: row | {"contrast": "maybe"}, "maybe"),
    "unknown dimension": (lambda row: row | {"dimension": "taste"}, "taste"),
    "empty prompt": (lambda row: row | {"prompt": " "}, "prompt"),
    "no openings": (lambda row: row | {"aligned": []}, "aligned"),
    "duplicate id": (lambda row: row | {"id": "a"}, "'a'"),
    "twin that is not there": (lambda row: row | {"id": "c"}, "twin"),
    "twin of the same class": (lambda row: row | {"contrast": "trigger"}, "twin"),
    **{f"missing {field}": (lambda row, field=field: {k: v for k, v in row.items() if k != field}, field) for field in rows()[1]},
    **{f"{field} of a wrong type": (lambda row, field=field: row | {field: 7}, field) for field in rows()[1]},
    **{f"a number in {field}": (lambda row, field=field: row | {field: ["x", 7]}, field) for field in ("aligned", "misaligned", "must")},
    "a list in tags": (lambda row: row | {"tags": {"kind": []}}, "tags"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_is_named_with_its_line(tmp_path, name):
    damage, said = DAMAGE[name]
    good, other = rows()
    file = write(tmp_path, [good, damage(other)])
    with pytest.raises(MechdriftError) as error:
        load_probes("safety", path=file)
    message = str(error.value)
    assert file in message
    # A twin that is missing is reported where it is missed: at the first of the two lines.
    assert f"line {1 if 'twin' in name and 'missing' not in name and 'type' not in name else 2}" in message
    assert said in message
    assert message.count("\n") == 0


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_an_empty_file_is_an_error(tmp_path, content):
    file = tmp_path / "mine.jsonl"
    file.write_bytes(content)
    with pytest.raises(MechdriftError, match=r"mine\.jsonl is empty"):
        load_probes("safety", path=file)


def test_a_file_that_is_not_there_or_a_folder_is_an_error(tmp_path):
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(MechdriftError, match=path.name):
            load_probes("safety", path=path)


def test_two_dimensions_in_one_file_are_an_error(tmp_path):
    two = [row | {"id": row["id"] + "2", "twin": row["twin"] + "2", "dimension": "ethics"} for row in rows()]
    with pytest.raises(MechdriftError, match="2 dimensions"):
        load_probes("safety", path=write(tmp_path, [*rows(), *two]))


def test_unknown_names_say_what_there_is():
    for load in (load_probes, load_card):
        with pytest.raises(MechdriftError, match=r"built-in sets are safety, .*robustness"):
            load("kindness")
