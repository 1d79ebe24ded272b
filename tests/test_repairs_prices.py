"""Price lists: numbers against hand-made answers, edits and words against naive loops, and a list that goes on after a
kill."""

import math
from collections import deque
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_model, make_tokenizer
from test_repairs import lora

import mechdrift as md
from mechdrift.activations.batching import ForwardBatch, pad
from mechdrift.activations.one_model import collect_one
from mechdrift.audits.answers import RunAnswers
from mechdrift.audits.config import PRESETS, Size
from mechdrift.audits.pipeline import open_audit, run_unfinished_stages
from mechdrift.audits.plan import load_from, plan_audit
from mechdrift.audits.stages.answers import with_ids
from mechdrift.audits.stages.order import stages_of
from mechdrift.behaviour.backends.protocol import Request, Written
from mechdrift.behaviour.generation import ask, end_ids
from mechdrift.behaviour.labels import judge_all
from mechdrift.behaviour.two_stages import Question
from mechdrift.directions.thinking import closed_twins
from mechdrift.pairs.lineage import stated_parent
from mechdrift.probes.rendering import Renderer
from mechdrift.probes.sets import load_probes
from mechdrift.records import MechdriftError, Rendered
from mechdrift.repairs import price_work
from mechdrift.repairs.choice import Candidate, choose, parse_limits, pick, quantities
from mechdrift.repairs.command import run_repair
from mechdrift.repairs.divergences import Divergences, Text
from mechdrift.repairs.editing import EditedModel, Editing, Place
from mechdrift.repairs.evidence import Evidence
from mechdrift.repairs.halves import HALVES, split
from mechdrift.repairs.mechanism import agreement, mechanism_sentences, mechanism_table
from mechdrift.repairs.methods.cliff_heads import head_contributions, turn_heads_down
from mechdrift.repairs.methods.null_space import null_space_reader
from mechdrift.repairs.picking import put_aside, repaired_pair, write_out
from mechdrift.repairs.prices import price_rows
from mechdrift.repairs.using import in_use
from mechdrift.repairs.words import PART, Interposed, Words
from mechdrift.runs import open_run

THINK, ANSWER = 12, 8


# What a repair costs.


def answers(good: dict[str, list[float]], tokens: int = 10) -> pd.DataFrame:
    """Answers to four families of each group: `good` by group."""
    rows = [
        {
            "item": f"{group}-{number}",
            "dimension": {"task": "reasoning"}.get(group, "safety"),
            "family": f"f{number % 4}",
            "group": group,
            "good": value,
            "thought": value if group == "trigger" else math.nan,
            "think_tokens": tokens,
            "unclosed": 0.0,
            "loop": 0.0,
            "missing": float(math.isnan(value)),
        }
        for group, values in good.items()
        for number, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_a_price_is_the_paired_difference_and_the_share_of_the_gap():
    parent = answers({"trigger": [1] * 16, "neutral": [1] * 16, "task": [0] * 8})
    child = answers({"trigger": [0] * 16, "neutral": [1] * 16, "task": [1] * 8})
    fixed = answers({"trigger": [1] * 12 + [0] * 4, "neutral": [1] * 14 + [0] * 2, "task": [1] * 7 + [math.nan]}, 20)
    rows = {(row["measure"], row["dimension"]): row for row in price_rows(fixed, child, parent)}
    aligned = rows["aligned", "safety"]
    assert aligned["change"] == aligned["recovered"] == 0.75
    assert aligned["recovered_low"] < 0.75 < aligned["recovered_high"]
    assert (aligned["child"], aligned["parent"], aligned["n"], aligned["families"]) == (0.0, 1.0, 16, 4)
    assert rows["twins", "safety"]["change"] == -2 / 16
    assert math.isnan(rows["twins", "safety"]["recovered"])  # there is no gap to recover
    assert rows["reasoning", "reasoning"]["n"] == 7  # one is missing, and so left out of both
    assert rows["think_ratio", "all"]["value"] == pytest.approx(21 / 11)
    assert rows["missing", "all"]["value"] == 1 / 40
    points = quantities(pd.DataFrame(price_rows(fixed, child, parent)))
    assert points["aligned"] == points["safety"] == 75
    assert points["twins"] == -12.5
    assert points["missing"] == 2.5


def candidate(method: str, **points: float) -> Candidate:
    return Candidate(method=method, strength=0.5, quantities={"missing": 0.0, "reasoning": 0.0, "twins": 0.0} | points)


def test_limits_choose_the_most_aligned_within_them_and_say_how_near_the_best_came():
    limits = parse_limits("reasoning >= -2, twins >= −3")
    found = [
        candidate("dear", aligned=40.0, reasoning=-10.0),
        candidate("fair", aligned=20.0, reasoning=-1.0, twins=-3.0),
        candidate("cut", aligned=50.0, missing=9.0),
        candidate("little", aligned=5.0),
    ]
    assert pick(found, limits).method == "fair"
    assert choose(found[:1], limits).method == "dear"
    with pytest.raises(MechdriftError, match=r"no repair keeps reasoning >= -2 and twins >= -3 on the seen families; "):
        pick(found[:1], limits)
    with pytest.raises(MechdriftError, match=r"the nearest is dear@0.5 \(reasoning -10.0, twins \+0.0\)"):
        pick(found[:1], limits)
    with pytest.raises(MechdriftError, match=r"gains aligned answers on the seen families"):
        pick([candidate("worse", aligned=-3.0)], limits)
    with pytest.raises(MechdriftError, match="'reasoning = 2' is no limit"):
        parse_limits("reasoning = 2")
    with pytest.raises(MechdriftError, match="there is no quantity 'speed': use one of reasoning"):
        parse_limits("speed >= 2")


def test_no_family_is_on_both_halves():
    sets = {name: load_probes(name) for name in ("safety", "bias")}
    halves = split(sets, 48, seed=3)
    for name, probes in sets.items():
        seen, reported = (set(halves[half].sets[name].families) for half in HALVES)
        assert not seen & reported
        assert seen | reported == set(probes.families)
    kinds = [{task.kind for task in halves[half].tasks.values()} for half in HALVES]
    assert not kinds[0] & kinds[1]
    assert len(kinds[0]) == len(kinds[1]) == 6


# Edits by role.


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prices")
    models = {"parent": lora(make_model(), 1, 0.2), "child": lora(lora(make_model(), 1, 0.2), 3, 1.0, layers=[2])}
    for name, model in models.items():
        model.save_pretrained(folder / name)
        make_tokenizer().save_pretrained(folder / name)
    return md.load_pair(instruct=str(folder / "parent"), reasoning=str(folder / "child"))


def naive(loaded, editing: Editing, prompt: tuple[int, ...], mode: str) -> list[int]:
    """One row, one whole pass a token, the mask from what was written: the answer's ids behind a cut thought."""
    renderer, vector = Renderer(loaded.tokenizer), editing.places[0].tensors["vector"]

    def run(ids: list[int], starts: tuple[int, int], count: int) -> list[int]:
        ends, written = end_ids(loaded), []
        while len(written) < count and not (written and written[-1] in ends):
            now = torch.arange(len(ids) + len(written))
            of = {
                "prompt": now < starts[0],
                "think": (now >= starts[0]) & (now < starts[1]),
                "answer": now >= starts[1],
            }
            mask = torch.stack([of[role] for role in editing.roles]).any(dim=0)[None]
            with torch.inference_mode(), md.edit(md.steer(loaded, vector, 1, site="resid_post", where=mask)):
                logits = loaded.model(torch.tensor([[*ids, *written]]), use_cache=False).logits[0, -1]
            written.append(int(logits.argmax()))
        return written

    ids = list(prompt)
    if mode == "off":
        return run(ids, (len(ids), len(ids)), ANSWER)
    thought = run(ids, (len(ids), 10_000), THINK)
    closing = renderer.closing_after(tuple(thought))
    return run([*ids, *thought, *closing], (len(ids), len(ids) + len(thought)), ANSWER)


@pytest.mark.parametrize("roles", [("prompt",), ("think",), ("answer",), ("prompt", "think", "answer")])
def test_an_edit_acts_on_the_tokens_of_its_roles_while_the_model_writes(pair, roles):
    loaded, vector = pair.open("reasoning"), torch.randn(32, generator=torch.Generator().manual_seed(5)) * 3
    editing = Editing(places=(Place(site="resid_post", layer=1, rule="add", tensors={"vector": vector}),), roles=roles)
    writer = EditedModel(loaded=loaded, editing=editing, renderer=Renderer(loaded.tokenizer))
    questions = [
        Question(id=str(n), prompt=text) for n, text in enumerate(("Why?", "Is it so?", "Say something long."))
    ]
    budget = md.Budget(think=THINK, answer=ANSWER)
    asking = partial(ask, loaded, questions, "reasoning", "own", budget=budget, is_model=False)
    edited, plain = asking(generator=writer), asking()
    assert [row.answer_ids for row in edited] != [row.answer_ids for row in plain]
    for question, row in zip(questions, edited, strict=True):
        rendered = Renderer(loaded.tokenizer).render("", question.prompt, "own")
        expected = naive(loaded, editing, rendered.ids[: rendered.roles["think_open"][1]], "own")
        assert list(row.answer_ids) == [token for token in expected if token not in end_ids(loaded)]


def test_a_map_in_the_null_space_is_one_on_triggers_and_nothing_on_harmless_activations():
    generator = torch.Generator().manual_seed(0)
    directions = torch.linalg.qr(torch.randn(32, 32, generator=generator)).Q
    harmless = torch.randn(200, 10, generator=generator) @ directions[:, :10].T
    triggers = harmless[:40] + 3 * directions[:, 20] + 0.1 * torch.randn(40, 32, generator=generator)
    reader = null_space_reader(harmless, triggers)
    assert float((harmless @ reader).abs().max()) < 1e-3
    assert float((triggers @ reader - 1).abs().max()) < 0.2


# Words.


class Script:
    """A backend that says what it is told, and notes what it was asked."""

    name = "script"

    def __init__(self, *parts: tuple[tuple[int, ...], str]):
        self.parts, self.asked = deque(parts), []

    def write(self, queue):
        while queue:
            request = queue.popleft()
            self.asked.append(request)
            ids, finish = self.parts.popleft()
            yield request, Written(ids=ids, log_probabilities=(-1.0,) * len(ids), finish=finish)


def spoken(text: str) -> tuple[int, ...]:
    return tuple(text.encode())


def thought(words: Words, backend: Script, most: int = 64) -> Written:
    request = Request(key="k", prompt=(1, 2), max_tokens=most, ends=frozenset({0}), stop=(7, 8))
    queue = deque([request])
    [(asked, written)] = list(Interposed(backend, words, spoken).write(queue))
    assert asked is request
    return written


def test_words_stand_at_the_start_and_before_the_marker_that_closes_the_thought():
    backend = Script(((50, 51, 7, 8), "stop"))
    written = thought(Words(start="AB", end="C"), backend)
    assert written.ids == (65, 66, 50, 51, 67, 7, 8)
    assert [math.isnan(value) for value in written.log_probabilities] == [True, True, False, False, True, False, False]
    assert backend.asked[0].prompt == (1, 2, 65, 66)
    assert backend.asked[0].max_tokens == 64  # words take nothing from the budget
    assert thought(Words(end="C"), Script(((50, 0), "end"))).ids == (50, 67, 0)


class Reading:
    """A projection that follows a script."""

    layer, unit, neutral, trigger = 0, torch.zeros(1), 0.0, 1.0

    def __init__(self, *values: float):
        self.values = deque(values)

    def __call__(self, ids: tuple[int, ...]) -> float:
        return self.values.popleft()


def test_words_come_in_once_where_the_projection_falls_below_its_level():
    part = tuple(range(100, 100 + PART))
    backend = Script((part, "length"), (part, "length"), (part, "length"), ((9, 7, 8), "stop"))
    written = thought(Words(falling="F", falls_below=0.5, read=Reading(0.9, 0.1, 0.0)), backend, most=200)
    assert written.ids == (*part, *part, 70, *part, 9, 7, 8)
    assert [request.max_tokens for request in backend.asked] == [PART, PART, 200 - 2 * PART, 200 - 3 * PART]
    never = Script((part, "length"), (part, "length"), ((7, 8), "stop"))  # it was never above its level
    assert thought(Words(falling="F", falls_below=0.5, read=Reading(0.1, 0.0)), never, most=200).ids == (
        *part,
        *part,
        7,
        8,
    )


# Divergence.


def test_the_divergence_is_that_of_the_two_models_on_the_childs_own_text(pair):
    probes = load_probes("safety").sample(2).where("neutral")
    renderer, child = Renderer(pair.tokenizer("reasoning")), pair.open("reasoning")
    rows = md.generate(pair, probes, "reasoning", budget=md.Budget(think=6, answer=5), dtype="float32")
    rows = [replace(row, closed=True) for row in rows]
    texts = [Text(question=item.prompt, row=row, family=item.family) for item, row in zip(probes, rows, strict=True)]
    kept = Divergences.of(pair, "harmless", texts, child)
    fixed = md.repair(pair, method="interpolate", strength=0.5)
    [row] = kept.row(fixed.use())
    expected, other = [], fixed.open()
    for text in texts:
        ids = renderer.render("", text.question, "own", thinking=text.row.thinking_ids, answer=text.row.answer_ids)
        start = ids.roles["think"][0] - 1
        with torch.inference_mode():
            p, q = (
                m.model(torch.tensor([ids.ids])).logits[0, start:-1].double().log_softmax(-1) for m in (child, other)
            )
        expected.append(float((p.exp() * (p - q)).sum(-1).mean()))
    assert row["value"] == pytest.approx(np.mean(expected), rel=1e-3)
    assert kept.row(in_use(pair, {}, "float32", "same"))[0]["value"] == pytest.approx(0, abs=1e-9)
    nothing = Editing(places=fixed_places(0.0), roles=("think",))
    assert kept.row(in_use(pair, nothing, "float32", ""))[0]["value"] == pytest.approx(0, abs=1e-9)
    assert kept.row(in_use(pair, replace(nothing, places=fixed_places(5.0)), "float32", ""))[0]["value"] > 0.01
    assert kept.row(in_use(pair, Words(end="x"), "float32", "")) == []


def fixed_places(size: float) -> tuple[Place, ...]:
    vector = size * torch.ones(32)
    return (Place(site="resid_post", layer=1, rule="add", tensors={"vector": vector}),)


def test_an_edit_reads_by_role_as_it_writes(pair):
    loaded = pair.open("reasoning")
    prompt = Rendered(item_id="a", ids=tuple(range(20, 32)), roles={"user": (0, 4), "think": (4, 8), "answer": (8, 12)})
    editing = Editing(places=fixed_places(2.0), roles=("think",))
    each = ForwardBatch.of(loaded, [prompt])
    with editing.around(loaded, {"a": prompt}, each):
        ours = each.run()
    mask = torch.zeros(1, 12, dtype=torch.bool)
    mask[0, 4:8] = True
    with md.edit(md.steer(loaded, 2 * torch.ones(32), 1, site="resid_post", where=mask)):
        expected = ForwardBatch(loaded=loaded, places=[0], prompts=[prompt], batch=pad([prompt.ids], 0)).run()
    torch.testing.assert_close(ours, expected)


# The list itself.


@pytest.fixture(scope="module")
def run(pair, tmp_path_factory):
    """An audit that has come as far as its answers."""
    size = Size(pairs=2, variants=0, tasks=6, patched=2, kl=2, thinking=4, steered=0, grafts=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "quick", size)
        named = {"instruct": pair.instruct.path, "reasoning": pair.reasoning.path}
        limits = {"think": 8, "answer": 6, "until_decided": False, "dimensions": ("safety", "privacy")}
        config = md.Audit(**named, **limits, preset="quick", out=tmp_path_factory.mktemp("list") / "run")
        own = load_from(config)
        begun = open_audit(config, own, md.behaviour.labels.RULES)
        plan = plan_audit(config, own)
        with begun.locked():
            run_unfinished_stages(begun, own, plan, stages_of(config)[:2])
    return begun


def test_a_price_list_has_all_repairs_beside_parent_and_child_and_goes_on_where_it_stopped(run, monkeypatch):
    made = []
    make = price_work.make
    monkeypatch.setattr(price_work, "make", lambda each, *rest: made.append(each.name) or make(each, *rest))
    prices = md.price_repairs(run, methods=["interpolate", "remind-start"], strengths=[1.0])
    assert made == ["interpolate"] * 2 + ["remind-start"] * 2  # on either half
    frame = prices.frame
    assert list(dict.fromkeys(frame.method)) == ["parent", "child", "interpolate", "remind-start"]
    kinds = frame.drop_duplicates("method").set_index("method").kind
    assert (kinds["interpolate"], kinds["remind-start"]) == ("weights", "tokens")
    seconds = frame[frame.measure == "seconds_per_token"].groupby("method").value.max()
    assert seconds["interpolate"] == 0
    words = frame[(frame.measure == "think_ratio") & (frame.method == "remind-start")]
    assert (words.value > 1).all()
    again = md.price_repairs(run, methods=["interpolate"], strengths=[1.0])
    assert len(made) == 4
    pd.testing.assert_frame_equal(again.frame, frame)
    assert prices.run.table("repairs").shape == frame.shape


def test_other_limits_ask_the_reported_half_of_every_strength_that_they_choose(run, tmp_path, monkeypatch):
    """Methods of an earlier call as well: else a repair could be picked of which nothing is reported."""
    one = {"out": tmp_path / "list", "pairs": 1, "tasks": 1}

    def by_kl(found, limits):  # these answers say nothing, so the limits choose by themselves
        return (max if limits[0].is_least and limits[0].name == "kl" else min)(found, key=lambda each: each.strength)

    monkeypatch.setattr(price_work, "choose", by_kl)
    md.price_repairs(run, methods="interpolate", strengths=[0.5, 1.0], **one)
    for limits in ("kl <= 0", "kl >= 1000"):
        frame = md.price_repairs(run, methods="random", strengths=[0.5], limits=limits, **one).frame
        chosen = frame[frame.chosen & frame.strength.notna()]
        for method, part in chosen.groupby("method"):
            assert set(part.half) == {"seen", "reported"}, (limits, method)
    assert set(frame[(frame.method == "interpolate") & (frame.half == "reported")].strength) == {0.5, 1.0}


def test_a_limit_of_what_was_not_asked_is_refused_before_anything_is_made(run, monkeypatch):
    monkeypatch.setattr(price_work, "make", lambda *_: pytest.fail("a repair was made"))
    with pytest.raises(MechdriftError, match=r"the audit did not ask toxicity \(it has safety, privacy, reasoning\)"):
        run_repair(run.folder, "toxicity >= 0")
    unknown = candidate("cut", aligned=math.nan, reasoning=math.nan)
    with pytest.raises(MechdriftError, match=r"the nearest is cut@0.5 \(reasoning not known\)\.$"):
        pick([unknown], parse_limits("reasoning >= -2"))


def test_another_pick_puts_the_one_before_aside_with_its_audit_and_it_comes_back(pair, tmp_path):
    place = tmp_path / "picked"
    for strength, aside in ((0.25, None), (0.75, 0.25), (0.25, 0.75)):
        put_aside(place, f"interpolate@{strength:g}")
        write_out(md.repair(pair, method="interpolate", strength=strength), place)
        (place / f"audit of {strength}").mkdir(exist_ok=True)
        assert [file.name for file in place.glob("audit *")] == [f"audit of {strength}"]
        beside = [folder.name for folder in tmp_path.glob("picked-*")]
        assert beside == ([] if aside is None else [f"picked-interpolate@{aside}"])


def test_the_command_says_what_cannot_be_done_in_one_sentence(run, tmp_path):
    md.price_repairs(run, methods=["interpolate"], strengths=[1.0])  # where the test above has not made it yet
    with pytest.raises(MechdriftError, match="resta needs the model before alignment of"):
        run_repair(run.folder, None, methods=("resta",))
    with pytest.raises(MechdriftError, match=r"is not a run folder"):
        run_repair(tmp_path, None)
    begun = open_run(tmp_path / "empty", {"pair": "p"}, {"config": {"pair": "p"}})
    with pytest.raises(MechdriftError, match=r"holds no answers yet: run the audit again"):
        run_repair(begun.folder, None)
    own = open_run(tmp_path / "own", {"weights": {"instruct": "1"}}, {"config": {"pair": "p"}})
    with pytest.raises(MechdriftError, match=r"audited models that were in memory and cannot be loaded again"):
        run_repair(own.folder, None)
    with pytest.raises(MechdriftError, match=r"holds another run \(pairs is None there, 2 here\)"):
        run_repair(run.folder, None, methods=("interpolate",), pairs=2)
    for how, said in (
        ({"seed": -1}, "seed should be 0 or more"),
        ({"pairs": 0}, "pairs should be 1 or more; it is 0"),
        ({"tasks": -1}, "tasks should be 1 or more; it is -1"),
        ({"strengths": (float("nan"),)}, "the strength of interpolate .* should be from 0 to 1; it is nan"),
    ):
        with pytest.raises(MechdriftError, match=said):
            run_repair(run.folder, None, methods=("interpolate",), **how)
    text = run_repair(run.folder, None, methods=("interpolate",), strengths=(1.0,))
    assert "interpolate" in text
    assert "repair.html" in text


# What was picked, and its inside.


def test_the_parent_itself_as_a_repair_has_the_parents_mechanism_everywhere(pair):
    """Interpolation at strength 1 is the parent, so every quantity is known."""
    fixed = md.repair(pair, method="interpolate", strength=1.0)
    sets = {"safety": load_probes("safety").sample(3)}
    table = mechanism_table(fixed, sets, {"safety": None})
    own, child = (table[table.method == name] for name in ("interpolate", "child"))
    for quantity, value in (("cosine", 1.0), ("separation", 1.0), ("patch", 0.0)):
        assert own[own.quantity == quantity].value.to_numpy() == pytest.approx(value, abs=2e-3)
        assert child[child.quantity == quantity].value.to_numpy() != pytest.approx(value, abs=0.002)
    assert agreement(table, "safety") == pytest.approx(1.0, abs=1e-3)
    assert any("(child: " in sentence for sentence in mechanism_sentences(table))


def test_what_is_written_out_is_loaded_as_the_child_of_a_pair(pair, tmp_path):
    fixed = md.repair(pair, method="interpolate", strength=0.5)
    path = write_out(fixed, tmp_path / "picked")
    assert path.name == "adapter"
    loaded = repaired_pair(pair, fixed, path)
    ours, theirs = fixed.open().model.state_dict(), loaded.open("reasoning").model.state_dict()
    for name, value in ours.items():
        torch.testing.assert_close(theirs[name], value, atol=1e-5, rtol=1e-5)
    assert stated_parent(loaded.reasoning) is None  # the repair's adapter names the child, which is no parent
    with pytest.raises(MechdriftError, match="is a repaired model already"):
        md.repair(loaded, method="interpolate")
    words = md.repair(pair, method="remind-start", strength=2)
    again = md.load_repair(write_out(words, tmp_path / "words"), pair)
    assert again.made.start == words.made.start


def test_the_heads_contributions_add_up_to_what_attention_writes_along_the_direction(pair):
    probes, renderer = load_probes("safety").sample(3), Renderer(pair.tokenizer("reasoning"))
    asked = [Question(id=item.id, prompt=item.prompt) for item in probes]
    budget = md.Budget(think=6, answer=5)
    written = ask(pair.open("reasoning"), asked, "reasoning", "own", budget=budget)
    rows = tuple(replace(row, closed=True, think="own", thinking_ids=(50, 51), answer_ids=(52,)) for row in written)
    answers = replace(written, think="own", rows=rows)
    table = with_ids(judge_all(probes, answers), answers)
    known = RunAnswers(sets={"safety": probes}, table=table, renderer=renderer)
    evidence = Evidence(pair=pair, sets={"safety": probes}, answers=known)
    contributions = head_contributions(evidence)
    role, kept = ("think_close[-1]",), closed_twins(probes, answers)[0]
    recorded = collect_one(
        pair.open("reasoning"), kept, sites="attn_out", roles=role, think="own", answers=answers.of(kept)
    ).of("attn_out")[:, :, 0]
    is_trigger = torch.tensor([item.is_trigger for item in kept])
    difference = recorded[is_trigger].mean(dim=0) - recorded[~is_trigger].mean(dim=0)
    along = (difference * evidence.directions["safety"].instruct[:, 0]).sum(dim=-1)
    assert contributions.groupby(level=0).sum().to_numpy() == pytest.approx(along.numpy(), abs=1e-4)
    edited = turn_heads_down(evidence, 1.0)
    [place] = edited.places
    layer, head = contributions.idxmin()
    assert place.layer == layer
    assert place.tensors["factors"].view(4, 8)[head].sum() == 0
    assert place.tensors["factors"].sum() == 24
