"""What needs no models: probe files, judges on written answers, score tables, tasks, formulas, statistics."""

import importlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import inputs
import numpy as np
import pandas as pd
from build import IS_NEW, Numbers, module


def old_sets(folder: Path) -> dict[str, Any]:
    """The old build's own probe sets, at most 12 twin pairs of each."""
    load = module("probes.sets").load_probes
    names = ("safety", "toxicity", "bias", "ethics", "privacy", "robustness")
    return {name: load(name, folder / f"{name}.jsonl").sample(12) for name in names}


def measure_probe_files(found: Numbers, sets: Mapping[str, Any]) -> None:
    for name, probes in sets.items():
        found.add("probes", "items of a file, sampled", probes.frame, name)


def measure_judges(found: Numbers, sets: Mapping[str, Any]) -> pd.DataFrame:
    """Every answer judged; the table of both sides, for the scores."""
    labels, coherence = module("behaviour.labels"), module("behaviour.coherence")
    tables = []
    for name, probes in sets.items():
        for side in ("instruct", "reasoning"):
            answers = inputs.written_answers(probes, side)
            judged = labels.judge_all(probes, answers)
            kept = [column for column in judged if column not in ("prompt", "answer", "thinking")]
            found.add("judges", "judge_all", judged[kept], f"{name}, {side}")
            tables.append(judged)
            texts = [row.answer for row in answers]
            scores = module("behaviour.toxicity").score_toxicity(texts)
            found.add("judges", "toxicity: score", np.array(scores), f"{name}, {side}")
            faults = [coherence.find_fault(row.answer, probes[row.item_id].prompt) or "" for row in answers]
            found.add("judges", "coherence: fault", faults, f"{name}, {side}")
            order = np.array([score for text in texts for score in coherence.order_scores(text)])
            found.add("judges", "coherence: order scores", order, f"{name}, {side}")
    return pd.concat(tables, ignore_index=True)


def measure_changed_rules(found: Numbers) -> None:
    """Answers that a later commit judges by another rule: see `inputs.CHANGED_RULES`."""
    from mechdrift.records import Completion, ProbeItem

    judge = module("behaviour.judges").judge
    for row in inputs.CHANGED_RULES:
        item = ProbeItem(id="item", family="family", contrast="trigger", twin="", **inputs.ITEMS[row.dimension])
        texts = {"answer": row.answer, "thinking": "", "thinking_ids": (), "answer_ids": (1,)}
        said = judge(item, Completion(item_id="item", side="reasoning", think="own", **texts, **row.ending))
        verdict = "missing" if said.aligned is None else "aligned" if said.aligned else "not aligned"
        found.add(
            "judges, changed rules", "verdict", f"{said.label}, {verdict}, says {said.says or 'nothing'}", row.name
        )


SECRETS = ("leak_answer", "leak_thinking", "exact_answer", "exact_thinking")


def measure_scores(found: Numbers, judged: pd.DataFrame) -> None:
    """Score tables of fixed verdicts: those of the judges are replaced by drawn ones, the same in both builds."""
    scores, rng = module("behaviour.scores"), np.random.default_rng(5)
    drawn = judged.assign(
        aligned=rng.random(len(judged)) < 0.7,
        label=rng.choice(["refusal", "compliance", "partial"], len(judged)),
        says=np.where(rng.random(len(judged)) < 0.9, "one", ""),
        toxicity=rng.random(len(judged)),
        fault=np.where(rng.random(len(judged)) < 0.1, "off-topic", ""),
        stereotype=rng.choice([1.0, -1.0, 0.0, np.nan], len(judged)),
        **{name: rng.random(len(judged)) < 0.2 for name in SECRETS},
    )
    table = scores.score_table(drawn).frame
    for row in table.to_dict("records"):
        named = {name: value for name, value in row.items() if name not in ("dimension", "metric")}
        found.add("scores", "score_table", named, f"{row['dimension']}, {row['metric']}")


def measure_tasks(found: Numbers) -> None:
    tasks = module("behaviour.tasks")
    for name, drawn in (("draw_tasks", tasks.draw_tasks(60, 3)), ("held_out", tasks.held_out(60))):
        found.add("behaviour", f"tasks: {name}", [f"{t.kind} {t.question} {t.answer} {t.solution}" for t in drawn])
        right = [tasks.is_correct(task, f"The answer is {task.answer}.") for task in drawn]
        wrong = [tasks.is_correct(task, f"The answer is not {task.answer}, but 7.") for task in drawn]
        found.add("behaviour", "tasks: is_correct", np.array([right, wrong]), name)
    exact = module("behaviour.benchmark_scores.exact")
    texts = ("so \\boxed{\\frac{1}{2}}", "#### 1,234", "The answer is 12.50.", "It is 3 apples", "x = -7", "none")
    found.add("behaviour", "exact: final_answer", [exact.final_answer(text) for text in texts])
    pairs = (("1/2", "\\frac{1}{2}"), ("1234", "1,234"), ("12.5", "12.50"), ("-7", "7"))
    found.add("behaviour", "exact: is_exact", np.array([exact.is_exact(*pair) for pair in pairs]))


def measure_formulas(found: Numbers) -> None:
    """The benchmarks' formulas, on drawn columns and weights."""
    formulas, rng = module("behaviour.benchmark_scores.formulas"), np.random.default_rng(9)
    names = ("biased", "correct", "named", "answered", "rating", "human", "clean", "meaningful", "stereotyped")
    columns = {name: (rng.random(40) < 0.6).astype(float) for name in names}
    columns |= {"rating": rng.normal(size=40), "human": rng.normal(size=40), "per_term": rng.random(40)}
    weights = rng.integers(1, 4, size=(5, 40)).astype(float)
    for name in ("bbq_bias", "bbq_bias_ambiguous", "pearson", "accuracy_drop", "icat"):
        found.add("behaviour", f"formulas: {name}", getattr(formulas, name)(columns, weights))
    more, less, none = rng.normal(size=(3, 40))
    found.add("behaviour", "formulas: compare_pair", formulas.compare_pair(more, less))
    found.add("behaviour", "formulas: compare_triple", formulas.compare_triple(more, less, none))
    samples = rng.random((40, 5))
    found.add("behaviour", "formulas: expected_maximum_toxicity", formulas.expected_maximum_toxicity(samples))
    found.add("behaviour", "formulas: toxicity_probability", formulas.toxicity_probability(samples))
    found.add("behaviour", "formulas: marginal_action_likelihood", formulas.marginal_action_likelihood(samples[0]))
    found.add("behaviour", "formulas: form_consistency", formulas.form_consistency(samples[0]))


# Statistics


def measure_statistics(found: Numbers) -> None:
    statistics, rng = module("statistics"), np.random.default_rng(1)
    for count in (10, 24):  # families: all patterns of signs, and drawn ones
        families = np.repeat([f"family {i}" for i in range(count)], 4)
        before, after = (rng.random((2, len(families))) < 0.6).astype(float)
        where, is_trigger = f"{count} families", np.arange(len(families)) % 2 == 0
        for mid_p in (False, True):
            p = statistics.sign_flip_test(after - before, families, mid_p=mid_p)
            found.add("statistics", "sign_flip_test", p, f"{where}, {mid_p}")
        effects = rng.normal(0.2, 1, size=(len(families), 3, 2))
        grid = statistics.max_t(effects, families, draws=500)
        found.add(
            "statistics", "max_t", {name: getattr(grid, name) for name in ("effect", "t", "p", "half_width")}, where
        )
        kinds = {
            "mean": statistics.mean,
            "balanced_mean": statistics.balanced_mean(is_trigger),
            "auroc": statistics.auroc(is_trigger),
            "d_prime": statistics.d_prime(is_trigger),
            "criterion": statistics.criterion(is_trigger),
        }
        draws = statistics.family_draws(count, 50, 4)
        found.add("statistics", "family_draws", draws, where)
        found.add("statistics", "family_means", statistics.family_means(effects, families), where)
        for name, statistic in kinds.items():
            weights = np.repeat(draws, 4, axis=1).astype(float) + 1
            found.add("statistics", f"{name} of draws", statistic(after, weights), where)
            _bootstraps(found, statistics, name, statistic, (before, after), families, where)
    p_values = rng.random(12) / 5
    found.add("statistics", "holm", statistics.holm(p_values))
    found.add("statistics", "minimum_detectable_effect", statistics.minimum_detectable_effect(p_values, 12))
    home = importlib.import_module("mechdrift.statistics.intervals") if IS_NEW else statistics
    found.add("statistics", "unseen_share", np.array([home.unseen_share(n) for n in (3, 10, 48)]))


def _bootstraps(
    found: Numbers, statistics: Any, name: str, statistic: Any, sides: Any, families: Any, where: str
) -> None:
    """Intervals; the new build is told the bounds of the statistic, which the old one did not ask for."""
    bounds: dict[str, Any] = {}
    if IS_NEW:
        from mechdrift.statistics.intervals import SHARE, UNBOUNDED

        bounds = {"bounds": UNBOUNDED if name in ("d_prime", "criterion") else SHARE}
    one = statistics.cluster_bootstrap(sides[1], families, statistic, draws=200, **bounds)
    both = statistics.paired_bootstrap(*sides, families, statistic, draws=200, **bounds)
    for kind, interval in (("cluster_bootstrap", one), ("paired_bootstrap", both)):
        for end in ("estimate", "low", "high"):
            found.add("statistics", f"{kind}: {end}", getattr(interval, end), f"{name}, {where}")


def measure_geometry(found: Numbers) -> None:
    geometry, rng = module("geometry"), np.random.default_rng(2)
    x, y = rng.normal(size=(2, 12, 30))
    y += x
    found.add("statistics", "principal_components", np.abs(geometry.principal_components(x, 3)[0]))
    found.add("statistics", "principal_angles", geometry.principal_angles(x[:3], y[:4]))
    found.add("statistics", "linear_cka", geometry.linear_cka(x, y))
    found.add("statistics", "unbiased_cka", geometry.unbiased_cka(x, y))
    found.add("statistics", "procrustes", np.asarray(geometry.procrustes(x, y)[0]))
    found.add("statistics", "cosine_of", geometry.cosine_of(x, y))


def measure_half_steps(found: Numbers) -> None:
    home, rng = module("halfway"), np.random.default_rng(3)
    steps = (0, 10, 20, 40, 80)
    change = np.cumsum(rng.normal(0.2, 0.3, size=(50, 5)), axis=1)
    change -= change[:, :1]
    found_steps = (home.half_change_steps if IS_NEW else home.half_steps)(steps, change, 1.0)
    parts = {name: getattr(found_steps, name) for name in ("at", "start", "end")}
    found.add("trajectories", "half-way steps", parts)
    rest: dict[str, Any] = {"n": 20, "families": 10}
    if IS_NEW:
        rest |= {"effective_families": 10.0, "bounds": None, "change_bounds": None}
    first, second = (
        home.Series(
            quantity=name, dimension="safety", values=change.mean(axis=0) * scale, draws=change * scale + 0.1, **rest
        )
        for name, scale in (("aligned", 1.0), ("readout", 0.5))
    )
    order = home.compare_order(steps, first, replace(second, draws=second.draws[::-1].copy()))
    found.add("trajectories", "compare_order", {name: getattr(order, name) for name in ("difference", "low", "high")})
    found.add("trajectories", "compare_order: when", order.when)
    found.add("trajectories", "detour", str(home.detour(first)))
