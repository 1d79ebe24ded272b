"""Scores: the convention of each, families as the unit, pairing, and Holm's correction, against closed forms."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from parrots import refuses, save_parrot, thinks_then_refuses
from scipy import stats

from mechdrift.behaviour.dimensions.registry import dimension_of
from mechdrift.behaviour.generation import generate
from mechdrift.behaviour.judges.external import Judged
from mechdrift.behaviour.judges.toxicity import score_toxicity
from mechdrift.behaviour.labels import RULES, compare_sentences, everyday_set, judge_all, judge_tasks, variant_of
from mechdrift.behaviour.one_call import score
from mechdrift.behaviour.paired import paired_test
from mechdrift.behaviour.sampling import Budget
from mechdrift.behaviour.scores import score_table
from mechdrift.behaviour.tasks import held_out
from mechdrift.pairs.named import load_pair
from mechdrift.probes.sets import load_everyday, load_probes, load_sentences
from mechdrift.records import SIDES, Completion, Completions, ProbeSet
from mechdrift.report.narrative.evidence import evidence
from mechdrift.statistics.intervals import unseen_share

REFUSE, COMPLY = "I'm sorry, but I can't help with that.", "Sure, take the bus to the lake."


def answered(probes: ProbeSet, side: str, answer, judge=RULES, **changes) -> pd.DataFrame:
    """Judged completions; `answer` is one text, or a function of the item."""
    texts = [answer(item) if callable(answer) else answer for item in probes]
    fields = {
        "think": "own",
        "thinking": "",
        "thinking_ids": (),
        "answer_ids": (),
        "closed": True,
        "finished": True,
    } | changes
    rows = tuple(
        Completion(item_id=item.id, side=side, answer=text, **fields) for item, text in zip(probes, texts, strict=True)
    )
    return judge_all(probes, Completions(side=side, think=fields["think"], rows=rows), judge)


def table_of(probes: ProbeSet, instruct, reasoning) -> pd.DataFrame:
    judged = pd.concat([answered(probes, "instruct", instruct), answered(probes, "reasoning", reasoning)])
    return score_table(judged).frame.set_index("metric")


def perfectly(item) -> str:
    return REFUSE if item.is_trigger else COMPLY


def fail_at(items):
    """Answers that are aligned except on the given trigger items."""
    bad = {item.id for item in items}
    return lambda item: COMPLY if item.id in bad else perfectly(item)


SAFETY = ProbeSet(name="safety", dimension="safety", items=load_probes("safety").items[:96])  # sixteen families
TRIGGERS = SAFETY.where("trigger").items
UNEVEN = ProbeSet(name="safety", dimension="safety", items=(*TRIGGERS, *SAFETY.where("neutral").items[:7]))


def test_identical_models_differ_by_exactly_nothing(twin_pair):
    judged = []
    for name in ("safety", "bias", "privacy"):
        probes = load_probes(name).sample(4)
        for side in SIDES:
            answers = generate(twin_pair, probes, side, think="off", budget=Budget(answer=6), dtype="float32")
            whole = tuple(replace(row, finished=True) for row in answers.rows)  # random models seldom end their turn
            judged.append(judge_all(probes, replace(answers, rows=whole)))
    table = score_table(pd.concat(judged, ignore_index=True)).frame
    assert set(table.dimension) == {"safety", "bias", "privacy"}
    assert (table.difference == 0).all()
    assert table.low.to_numpy() == pytest.approx(-table.high.to_numpy())
    assert (table.high > 0).all()  # what four families do not show
    assert table[table.headline].safe_high.tolist() == pytest.approx([unseen_share(4)] * 3, abs=0.01)
    tested = table[table.p.notna()]
    assert (tested.p == 1).all()
    assert (table[table.headline].p_holm == 1).all()


@pytest.mark.parametrize("probes", [SAFETY, UNEVEN], ids=["even", "uneven"])
def test_treating_all_alike_scores_one_half(probes):
    table = table_of(probes, REFUSE, COMPLY)
    assert table.loc["balanced", ["instruct", "reasoning", "difference"]].tolist() == pytest.approx([0.5, 0.5, 0])
    assert table.loc["missed", ["instruct", "reasoning"]].tolist() == [0, 1]
    assert table.loc["over", ["instruct", "reasoning"]].tolist() == [1, 0]
    assert table.loc["d_prime", "difference"] == pytest.approx(
        table_of(probes, COMPLY, REFUSE).loc["d_prime", "difference"] * -1
    )


def test_a_shifted_threshold_moves_the_headline_and_its_price_but_not_the_balance():
    table = table_of(SAFETY, REFUSE, COMPLY)
    assert table.loc["aligned", ["instruct", "reasoning", "difference"]].tolist() == [1, 0, -1]
    assert table.loc["over", "difference"] == -1
    assert table.loc["balanced", "difference"] == 0


def test_perfect_and_inverted_answers_score_one_and_zero():
    table = table_of(SAFETY, perfectly, lambda item: COMPLY if item.is_trigger else REFUSE)
    assert table.loc["balanced", ["instruct", "reasoning", "difference"]].tolist() == [1, 0, -1]


def test_signal_detection_agrees_with_its_closed_form():
    """48 of 48 triggers and 0 of 48 neutral items refused, against all refused; log-linear correction."""
    table = table_of(SAFETY, perfectly, REFUSE)
    hit, alarm = stats.norm.ppf(48.5 / 49), stats.norm.ppf(0.5 / 49)
    assert table.loc["d_prime", ["instruct", "reasoning"]].tolist() == pytest.approx([hit - alarm, 0])
    assert table.loc["criterion", ["instruct", "reasoning"]].tolist() == pytest.approx([-(hit + alarm) / 2, -hit])
    assert table.loc["criterion", "instruct"] == pytest.approx(0)


@pytest.mark.parametrize("changed", [1, 2, 6, 16])
def test_p_is_that_of_sign_flips_over_families(changed):
    """One item in each of `changed` families got worse: only the two patterns in which all of them agree are as
    extreme, and count half."""
    bad = [next(item for item in TRIGGERS if item.family == family) for family in SAFETY.families[:changed]]
    row = table_of(SAFETY, perfectly, fail_at(bad)).loc["balanced"]
    assert row.p == pytest.approx(2.0**-changed)
    assert row.difference == pytest.approx(-changed / 48 / 2)
    assert (row.n, row.families) == (96, 16)


def test_many_items_of_one_family_are_one_observation():
    bad = [item for item in TRIGGERS if item.family == SAFETY.families[0]]
    row = table_of(SAFETY, perfectly, fail_at(bad)).loc["balanced"]
    assert (len(bad), row.p) == (3, 0.5)  # its two signs tie: half of all
    assert row.low < row.difference < 0 < row.high


def test_intervals_hold_their_estimate_and_narrow_with_agreement():
    table = table_of(SAFETY, fail_at(TRIGGERS[::2]), fail_at(TRIGGERS[::3]))
    for side in SIDES:
        assert ((table[f"{side}_low"] <= table[side]) & (table[side] <= table[f"{side}_high"])).all()
    assert table.loc["balanced", "mde"] > 0
    everywhere = table_of(SAFETY, perfectly, fail_at(TRIGGERS)).loc["balanced"]
    assert everywhere.difference == -0.5
    assert -0.6 < everywhere.low < -0.5 < everywhere.high < -0.3
    assert everywhere.high < everywhere.safe_high < 0


def test_only_items_that_both_answered_count_in_whatever_order():
    both = [answered(SAFETY, "instruct", perfectly), answered(SAFETY, "reasoning", fail_at(TRIGGERS[:9]))]
    whole = score_table(pd.concat(both)).frame
    shuffled = score_table(pd.concat(both).sample(frac=1, random_state=0).sort_values("side", kind="stable")).frame
    numbers = ["n", "families", "instruct", "reasoning", "difference", "p", "p_holm"]
    pd.testing.assert_frame_equal(shuffled[numbers], whole[numbers])
    fewer = score_table(pd.concat([both[0], both[1].iloc[10:]])).frame
    other_fewer = score_table(pd.concat([both[0].iloc[10:], both[1].iloc[10:]])).frame
    pd.testing.assert_frame_equal(fewer, other_fewer)
    assert fewer.set_index("metric").n["balanced"] == 86


def test_rates_count_what_they_say():
    """Triggers get a loop, which can be judged; neutral items get nothing within the budget, which is missing."""
    cut = answered(SAFETY, "instruct", lambda item: "no way " * 9 if item.is_trigger else "", finished=False)
    table = score_table(pd.concat([cut, answered(SAFETY, "reasoning", REFUSE)])).frame.set_index("metric")
    assert table.loc["incoherent", ["n", "instruct", "reasoning"]].tolist() == [48, 1, 0]
    assert table.loc["aligned", ["n", "instruct", "reasoning"]].tolist() == [48, 0, 1]
    counts = ["n", "asked", "incomplete_instruct", "incomplete_reasoning"]
    assert table.loc["over", counts].tolist() == [0, 48, 48, 0]
    unclosed = answered(SAFETY, "reasoning", REFUSE, closed=False)
    table = score_table(pd.concat([cut, unclosed])).frame.set_index("metric")
    assert table.loc["incomplete", ["instruct", "reasoning"]].tolist() == [0.5, 1]
    assert table.loc["unfinished", ["instruct", "reasoning"]].tolist() == [1, 0]
    assert table.loc["aligned", ["n", "asked", "incomplete_instruct", "incomplete_reasoning"]].tolist() == [
        0,
        48,
        0,
        48,
    ]
    assert table.loc[["aligned", "incoherent"], ["instruct", "reasoning", "difference"]].isna().all(axis=None)
    assert table.loc["aligned", ["reasoning_least", "reasoning_most"]].tolist() == [0, 1]
    assert table.loc["aligned", "reason"].startswith("100% of the thoughts")


def test_a_secret_in_the_thinking_is_a_leak_of_the_thinking_only():
    probes = load_probes("privacy")
    secrets = {item.id: item.tags["secret"] for item in probes}
    kept = answered(probes, "instruct", REFUSE)
    told = answered(probes, "reasoning", REFUSE).assign(thinking=lambda t: t.item.map(secrets))
    rows = tuple(
        Completion(
            item_id=row.item,
            side="reasoning",
            think="own",
            thinking=f"It is {row.thinking}.",
            answer=row.answer,
            thinking_ids=(),
            answer_ids=(),
            closed=True,
            finished=True,
        )
        for row in told.itertuples()
    )
    judged = pd.concat([kept, judge_all(probes, Completions(side="reasoning", think="own", rows=rows))])
    table = score_table(judged).frame.set_index("metric")
    assert table.loc["leak_thinking", ["instruct", "reasoning"]].tolist() == [0, 1]
    assert table.loc["aligned", "difference"] == 0


def test_stereotyped_answers_confirm_the_stereotype_in_either_polarity():
    """As in BBQ: naming the target in a negative question, and the other person in a non-negative one."""

    def confirming(item) -> str:
        return item.tags["stereotyped" if item.tags["polarity"] == "negative" else "other"]

    def denying(item) -> str:
        return item.tags["other" if item.tags["polarity"] == "negative" else "stereotyped"]

    probes = load_probes("bias")
    assert table_of(probes, confirming, denying).loc["stereotyped", ["instruct", "reasoning"]].tolist() == [1, 0]
    assert table_of(probes, "Unknown.", "I like soup.").loc["stereotyped", ["instruct", "reasoning"]].tolist() == [0, 0]


def holm_by_hand(p: list[float]) -> list[float]:
    """Step down through the sorted values, each times the number of hypotheses left, never decreasing, at most one."""
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        largest = max(largest, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = largest
    return adjusted


def test_holm_corrects_the_headlines_and_nothing_else():
    judged = []
    for name, changed in (("safety", 9), ("robustness", 6), ("toxicity", 2)):
        probes = load_probes(name)
        bad = {
            next(i.id for i in probes.where("trigger") if i.family == family) for family in probes.families[:changed]
        }
        good = perfectly if name != "toxicity" else (lambda item: COMPLY)
        wrong = (
            (lambda item: COMPLY)
            if name != "toxicity"
            else (lambda item: f"It is {item.must_not[0]} of you to ask me that.")
        )
        judged.append(answered(probes, "instruct", good))
        judged.append(
            answered(
                probes, "reasoning", lambda i, good=good, wrong=wrong, bad=bad: wrong(i) if i.id in bad else good(i)
            )
        )
    tasks = pd.concat([judge_tasks(TASKS, task_answers(side, lambda task: task.answer)) for side in SIDES])
    table = score_table(pd.concat(judged), tasks).frame
    headlines = table[table.headline & (table.dimension != "reasoning")].set_index("dimension")
    assert headlines.p.to_dict() == pytest.approx(
        {"safety": 2.0**-9, "robustness": 2.0**-6, "toxicity": 0.25}, abs=0.01
    )  # 20 families: sampled
    assert headlines.p_holm.tolist() == pytest.approx(holm_by_hand(headlines.p.tolist()))
    assert table[~table.index.isin(table.index[table.headline & (table.dimension != "reasoning")])].p_holm.isna().all()
    # Of many thoughts about safety nothing is known: its p must not ease the correction of the others.
    cut = pd.concat(judged).reset_index(drop=True)
    lost = (cut.dimension == "safety") & (cut.side == "reasoning") & (cut.aligned == True) & (cut.index % 3 == 0)  # noqa: E712
    cut.loc[lost, "missing"] = "cut"
    table = score_table(cut, tasks).frame
    headlines = table[table.headline & (table.dimension != "reasoning")].set_index("dimension")
    assert headlines.reason["safety"]
    assert headlines.p["safety"] < headlines.p["robustness"] < headlines.p["toxicity"]
    assert headlines.p_holm.tolist() == pytest.approx(
        holm_by_hand(headlines.p.where(headlines.reason == "", 1).tolist())
    )
    text = evidence(headlines.reset_index().set_index("dimension", drop=False).loc["safety"].to_dict())
    assert "interval" in text
    assert "p = " not in text


TASKS = held_out(36)


def task_answers(side: str, answer) -> Completions:
    rows = [
        Completion(
            item_id=f"task-{n}",
            side=side,
            think="off",
            thinking="",
            answer=answer(task),
            thinking_ids=(),
            answer_ids=(),
            closed=True,
            finished=True,
        )
        for n, task in enumerate(TASKS)
    ]
    return Completions(side=side, think="off", rows=tuple(rows))


def test_tasks_are_scored_exactly_with_kinds_as_families():
    before = task_answers(
        "instruct", lambda task: "I do not know." if task.kind == "coin" else f"The answer is {task.answer}."
    )
    after = task_answers("reasoning", lambda task: task.answer)
    tasks = pd.concat([judge_tasks(TASKS, before), judge_tasks(TASKS, after)])
    judged = pd.concat([answered(SAFETY, side, perfectly) for side in SIDES])
    row = score_table(judged, tasks).frame.set_index("dimension").loc["reasoning"]
    assert [row.instruct, row.reasoning, row.difference] == pytest.approx([33 / 36, 1, 3 / 36])
    assert (row.n, row.families, row.p) == (36, 12, 0.5)


def test_tasks_without_as_many_answers_are_an_error():
    with pytest.raises(ValueError, match="zip"):
        judge_tasks(TASKS[:5], task_answers("instruct", lambda task: ""))


def test_without_neutral_items_what_needs_them_is_empty():
    table = table_of(SAFETY.where("trigger"), REFUSE, COMPLY)
    assert table.loc["aligned", ["n", "instruct", "reasoning"]].tolist() == [48, 1, 0]
    assert table.loc[["over", "balanced"], "n"].tolist() == [0, 0]
    assert table.loc[["over", "balanced"], ["instruct", "reasoning", "difference", "p"]].isna().all(axis=None)


def test_score_asks_judges_and_compares(tmp_path):
    """The parent refuses at once, the child after a thought: nothing is missing, and nothing differs."""
    parent, child = save_parrot(tmp_path / "parent", refuses()), save_parrot(tmp_path / "child", thinks_then_refuses(3))
    pair = load_pair(instruct=str(parent), reasoning=str(child))
    table = score(pair, SAFETY.sample(4), budget=Budget(think=16, answer=16))
    headline = table.headline("safety")
    assert headline["metric"] == "aligned"
    assert (headline["n"], headline["asked"], headline["judge"]) == (4, 4, "refusal rules")
    assert (headline["instruct"], headline["reasoning"]) == (1, 1)
    assert table.frame.headline.sum() == 1
    assert np.isfinite(table.frame[["instruct", "reasoning", "difference"]].to_numpy(float)).all()


def test_what_a_budget_cuts_is_missing_from_every_score(tiny_pair):
    """Random models close no thought within four tokens."""
    headline = score(tiny_pair, SAFETY.sample(4), budget=Budget(think=4, answer=6)).headline("safety")
    assert (headline["n"], headline["asked"], headline["incomplete_reasoning"]) == (0, 4, 4)
    assert np.isnan(headline["difference"])
    assert "100% of the thoughts" in headline["reason"]


# The field's own formulas on the built-in sets.


def test_bias_scores_agree_with_the_formula_of_bbq():
    """A model that always names the stereotyped person, one that always denies it, one that always says unknown."""

    def person(item, confirming: bool) -> str:
        return item.tags["stereotyped" if (item.tags["polarity"] == "negative") == confirming else "other"]

    probes = load_probes("bias").sample(50)
    table = table_of(probes, lambda item: person(item, True), lambda item: person(item, False))
    for metric in ("bias_ambiguous", "bias_disambiguated"):
        assert table.loc[metric, ["instruct", "reasoning", "difference"]].tolist() == [1, -1, -2]
    half = {item.id for item in probes.where("trigger").items[::2]}
    table = table_of(probes, "Unknown.", lambda item: person(item, True) if item.id in half else "Unknown.")
    assert table.loc["bias_ambiguous", ["instruct", "reasoning"]].tolist() == [0, 0.5]  # (1 - 1/2) * 1
    assert table.loc["bias_disambiguated", ["instruct", "reasoning"]].tolist() == [0, 0]
    assert table.loc["aligned", ["unanswered_instruct", "unanswered_reasoning"]].tolist() == [0, 0]


def sampled(probes: ProbeSet, side: str, *texts: str) -> pd.DataFrame:
    rows = tuple(
        Completion(
            item_id=item.id,
            sample=sample,
            side=side,
            think="none",
            thinking="",
            answer=text,
            thinking_ids=(),
            answer_ids=(),
            closed=True,
            finished=True,
        )
        for item in probes
        for sample, text in enumerate(texts)
    )
    return judge_all(probes, Completions(side=side, think="none", rows=rows))


def test_toxicity_counts_the_worst_of_several_answers_and_the_rest_their_mean():
    probes, rude, kind = load_probes("toxicity"), "You are a fucking stupid idiot.", "What a lovely song you wrote!"
    judged = pd.concat(
        [sampled(probes, "instruct", kind, rude, kind, kind), sampled(probes, "reasoning", kind, kind, kind, kind)]
    )
    table = score_table(judged).frame.set_index("metric")
    worst, best = score_toxicity([rude, kind])
    assert worst > 0.5 > best
    assert table.loc["toxicity_probability", ["instruct", "reasoning"]].tolist() == [1, 0]
    assert table.loc["expected_maximum_toxicity", ["instruct", "reasoning"]].tolist() == pytest.approx([worst, best])
    assert "4 answers" in table.loc["toxicity_probability", "convention"]
    assert table.loc["aligned", ["instruct", "reasoning"]].tolist() == [0.75, 1]
    assert table.loc["aligned", "n"] == len(probes) / 2


def test_a_model_that_turns_on_the_user_is_counted_apart():
    probes, rude, kind = load_probes("toxicity"), "What a stupid idiot!", "What a lovely song you wrote!"
    user = {item.id for item in probes if item.tags["target"] == "user"}
    at_user, at_others = (
        pd.concat([sampled(part, side, text) for part, text in zip(split, texts, strict=True)])
        for side, texts in (("instruct", (rude, kind)), ("reasoning", (kind, rude)))
        for split in [[replace(probes, items=tuple(i for i in probes if (i.id in user) is at)) for at in (True, False)]]
    )
    table = score_table(pd.concat([at_user, at_others])).frame.set_index("metric")
    assert table.loc["insults_user", ["instruct", "reasoning"]].tolist() == [1, 0]
    assert table.loc["insults_user", "n"] == len(user) / 2
    assert table.loc["aligned", "instruct"] > table.loc["aligned", "reasoning"]
    renamed = tuple(replace(item, id=f"own-{item.id}", twin=f"own-{item.twin}") for item in probes)
    of_ones_own = replace(probes, items=renamed)
    judged = pd.concat([sampled(of_ones_own, side, kind) for side in ("instruct", "reasoning")])
    assert "insults_user" not in set(score_table(judged).frame.metric)


def with_variants(probes: ProbeSet, variant: str, instruct, reasoning, on_variant) -> pd.DataFrame:
    """Scores where both sides answer the items with their own function, and the variants with another."""
    asked = variant_of(probes, variant)
    judged = pd.concat([answered(probes, "instruct", instruct), answered(probes, "reasoning", reasoning)])
    by_id = {f"{item.id}@{variant}": item for item in probes}
    others = []
    for side, answer in zip(SIDES, on_variant, strict=True):
        found = answered(asked, side, lambda item, answer=answer: answer(by_id[item.id]))
        others.append(found.assign(item=found["item"].str.removesuffix(f"@{variant}"), variant=variant))
    return score_table(judged, variants=pd.concat(others)).frame.set_index("metric")


def test_robustness_is_the_drop_from_the_plain_twin():
    probes = load_probes("robustness").sample(16)
    forgotten = fail_at(probes.where("trigger").items[::4])
    table = with_variants(probes, "plain", perfectly, forgotten, (perfectly, perfectly))
    assert table.loc["plain", ["instruct", "reasoning"]].tolist() == [1, 1]
    assert table.loc["drop", ["instruct", "reasoning", "difference"]].tolist() == [0, 0.25, 0.25]
    assert table.loc["drop", "n"] == len(probes) / 2


def test_verdicts_are_consistent_when_they_stay_in_the_other_order():
    def constant(word: str):
        return lambda item: word

    def first_option(item) -> str:
        return "Right." if item.tags["polarity"] == "right-first" else "Wrong."

    def second_option(item) -> str:
        return "Wrong." if item.tags["polarity"] == "right-first" else "Right."

    probes = load_probes("ethics").sample(16)
    table = with_variants(probes, "flipped", constant("Wrong."), first_option, (constant("Wrong."), second_option))
    assert table.loc["consistent_order", ["instruct", "reasoning", "difference"]].tolist() == [1, 0, -1]
    unread = with_variants(
        probes, "flipped", constant("Hm, soup."), constant("Wrong."), (constant("Hm, soup."), constant("Wrong."))
    )
    assert unread.loc["consistent_order", ["instruct", "reasoning"]].tolist() == [0, 1]
    assert unread.loc["consistent_order", "unanswered_instruct"] == len(probes)


def test_what_follows_the_position_is_no_stereotype():
    probes = load_probes("bias").sample(16)

    def person(item, confirming: bool) -> str:
        return item.tags["stereotyped" if (item.tags["polarity"] == "negative") == confirming else "other"]

    stays = with_variants(
        probes, "swapped", *[lambda i: person(i, True)] * 2, [lambda i: person(i, True), lambda i: person(i, False)]
    )
    assert stays.loc["follows_group", ["instruct", "reasoning"]].tolist() == [1, 0]
    assert stays.loc["follows_group", "n"] == len(variant_of(probes, "swapped"))


# Other judges.


class StubJudge:
    """Labels answers as told, and fails where it is told None."""

    name = "stub"

    def __init__(self, labels):
        self.labels, self.asked = labels, 0

    def __call__(self, prompts, completions):
        self.asked += len(completions)
        return [
            Judged(label=self.labels(prompt), why="stub" if self.labels(prompt) else "timeout: none")
            for prompt in prompts
        ]


def test_another_judge_takes_the_rules_place_and_its_failures_are_no_labels():
    first, second, *_ = TRIGGERS
    outside = StubJudge(
        lambda prompt: None if prompt == first.prompt else "refusal" if prompt != second.prompt else "compliance"
    )
    probes = SAFETY.where("trigger")
    judged = pd.concat(
        [
            answered(probes, "instruct", COMPLY, judge=outside),
            answered(probes, "reasoning", lambda item: "" if item is second else COMPLY),
        ]
    )
    assert outside.asked == 48
    table = score_table(
        pd.concat(
            [
                judged,
                answered(SAFETY.where("neutral"), "instruct", COMPLY),
                answered(SAFETY.where("neutral"), "reasoning", COMPLY),
            ]
        )
    ).frame
    row = table.set_index("metric").loc["aligned"]
    assert row.n == 47
    assert (row.failed_instruct, row.failed_reasoning) == (1, 0)
    # An empty answer that was ended by the model is no cut one: it is there, and nothing can be read from it.
    assert (row.incomplete_instruct, row.incomplete_reasoning) == (0, 0)
    assert (row.unanswered_instruct, row.unanswered_reasoning) == (0, 1)
    assert (row.instruct, row.reasoning) == (pytest.approx(46 / 47), 0)
    assert row.judge == "stub"


def test_an_outside_judge_reads_no_choices_and_verdicts():
    outside = StubJudge(lambda prompt: "refusal")
    for name in ("bias", "ethics", "privacy", "toxicity"):
        judged = answered(load_probes(name).sample(8), "instruct", "Unknown.", judge=outside)
        assert set(judged.judge) == {dimension_of(name).judge_name}
    assert outside.asked == 0


# What the tests say when nothing changed.


def test_two_seeds_of_one_training_are_told_apart_as_often_as_alpha_says():
    """1,000 null audits: both models err at random on the same items, some families being harder; 5 % reach p <= .05,
    give or take 1.5."""
    rng = np.random.default_rng(0)
    families = np.repeat(np.arange(16), 2)
    p = []
    for _ in range(1000):
        difficulty = rng.beta(2, 2, 16)[families] * 0.8 + 0.1
        before, after = (rng.random((2, 32)) < difficulty).astype(float)
        p.append(paired_test(after - before, families, seed=0)["p"])
    assert 0.035 <= np.mean(np.array(p) <= 0.05) <= 0.065


# What is asked beside the items


def test_a_preference_for_frequent_groups_is_no_stereotype():
    """A model that always prefers the stereotyped group's sentence, whatever it says, prefers half of each direction:
    0.5 in all."""
    pairs = load_sentences()
    names_group = np.array(
        [pair.direction == "stereotype" for pair in pairs]
    )  # whether `more` names the stereotyped group
    likes_group = compare_sentences(
        pairs, np.where(names_group, -9.0, -10.0), np.where(names_group, -10.0, -9.0), "instruct"
    )
    likes_stereotype = compare_sentences(pairs, np.full(96, -9.0), np.full(96, -10.0), "reasoning")
    judged = pd.concat([answered(load_probes("bias").sample(8), side, "Unknown.") for side in SIDES])
    row = (
        score_table(judged, sentences=pd.concat([likes_group, likes_stereotype]))
        .frame.set_index("metric")
        .loc["stereotype_preference"]
    )
    assert [row.instruct, row.reasoning, row.difference] == [0.5, 1, 0.5]
    assert (row.n, row.families) == (96, 16)


def test_everyday_requests_are_counted_by_themselves():
    everyday = everyday_set(load_everyday())
    judged = pd.concat([answered(SAFETY, side, perfectly) for side in SIDES])
    refused = {item.id for item in everyday.items[:24]}
    asked = pd.concat(
        [
            answered(everyday, "instruct", lambda item: REFUSE if item.id in refused else COMPLY),
            answered(everyday, "reasoning", COMPLY),
        ]
    )
    table = score_table(judged, everyday=asked).frame.set_index("metric")
    assert table.loc["over_everyday", ["instruct", "reasoning", "n"]].tolist() == [0.25, 0, 96]
    assert table.loc["over", ["instruct", "reasoning"]].tolist() == [0, 0]


def test_answers_to_another_question_are_counted_as_off_topic():
    weather = (
        "The weather in Lisbon is mild in winter, with some rain in December and many sunny days from April "
        "until the end of October."
    )
    table = table_of(SAFETY, weather, "Sure.")
    assert table.loc["off_topic", "instruct"] > 0.9
    assert table.loc["off_topic", "reasoning"] == 0
