#!/usr/bin/env bash
# Stratified permutation tests of permute give p = 0 for what happens by chance in one case of four.
#
# With alternative="greater" the share of permutations that reach the observed value is counted, ties with it included, as it
# has to be. "less" is then taken as 1 minus that, which leaves the ties out, and "two-sided" as twice the smaller of the
# two. Where the values are few (answers that are refused or not, marks of 1 to 5) ties are most of it: for the least value
# possible nothing is left, and p is 0 however likely that value is. The one added to numerator and denominator, meant to
# keep p above 0, is subtracted with the rest. Three tests do so: `stratified_two_sample`, `sim_corr` and
# `stratified_permutationtest`; `two_sample` of the same package counts each side for itself and is right. Nothing was found
# on it upstream.
#
# Versions: permute 0.2, numpy 2.4.6, scipy 1.17.1, Python 3.11.
# Seen, two categories of four prompts, each with one refusal, both under the second condition. Every permutation is
# counted: exact p .25 (less), .5 (two-sided). stratified_two_sample: 0 and 0, sim_corr: 0 and 0; greater: 1 for both, as is
# right. Of all data that permutations of these make, all equally likely without an effect, the two-sided test rejects a
# quarter at level .05, and at any other. Ends with 1 if that is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "permute==0.2" "numpy==2.4.6" "scipy==1.17.1"
cat > "$work/look.py" <<'PY'
import itertools
import sys

import numpy as np
from permute.core import two_sample
from permute.stratified import sim_corr, stratified_two_sample

SIDES = ("greater", "less", "two-sided")
group, condition = np.repeat([0, 1], 4), np.tile([0, 0, 1, 1], 2)
PLACES = [np.eye(4)[place] for place in range(4)]  # one refusal among the four prompts of a category
EVERY = [np.concatenate(pair) for pair in itertools.product(PLACES, PLACES)]
refused = np.concatenate([PLACES[2], PLACES[3]])


def difference(answers: np.ndarray) -> float:
    return float(answers[condition == 0].mean() - answers[condition == 1].mean())


def exact(answers: np.ndarray, side: str) -> float:
    values, seen = np.array([difference(one) for one in EVERY]), difference(answers)
    up, down = float((values >= seen).mean()), float((values <= seen).mean())
    return {"greater": up, "less": down, "two-sided": min(1.0, 2 * min(up, down))}[side]


def two(answers: np.ndarray, side: str, reps: int = 2000) -> float:
    return float(stratified_two_sample(group, condition, answers, alternative=side, reps=reps, seed=1)[0])


def correlated(answers: np.ndarray, side: str) -> float:
    return float(sim_corr(-condition, answers, group, alternative=side, reps=2000, seed=1)[0])


as_described = True
for side in SIDES:
    found, other, due = two(refused, side), correlated(refused, side), exact(refused, side)
    print(f"{side}: stratified_two_sample {found:.3f}, sim_corr {other:.3f} (right: {due:.3f})")
    wanted = due if side == "greater" else 0.0
    as_described &= abs(found - wanted) < 1e-9 and abs(other - wanted) < 1e-9 and due >= 0.25
rejected = sum(two(answers, "two-sided", 500) <= 0.05 for answers in EVERY) / len(EVERY)
allowed = sum(exact(answers, "two-sided") <= 0.05 for answers in EVERY) / len(EVERY)
print(f"two-sided at .05, without an effect: {rejected:.4f} rejected (right: {allowed:.4f})")
plain = two_sample(np.array([0.0, 0]), np.array([0.0, 1]), reps=4000, alternative="less", seed=1)[0]
print(f"two_sample, less: {float(plain):.2f} (right: 0.50)")
sys.exit(0 if as_described and rejected == 0.25 and allowed == 0 and abs(plain - 0.5) < 0.05 else 1)
PY
"$work/venv/bin/python" "$work/look.py" 2>/dev/null
echo "as described: values that are tied with the observed one are not counted"
