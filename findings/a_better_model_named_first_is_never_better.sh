#!/usr/bin/env bash
# mlxtend's proportion_difference gives p = 1 for a model that is far better, if it is named first.
#
# The guide describes a test of whether two accuracies are equal, with 1.96 as the bound for z at level .05, and calls its
# example (84 and 92 right of 100) significant by p = .040. What is returned as p is the lower tail of z alone: the probability
# of a smaller z. With the worse model first it is half of the two-sided p value, and the example's is .08; with the better one
# first it nears 1 the more certain the difference is. A reader who compares p with .05 misses every gain, and takes one-sided
# tests for two-sided ones in the other order. The guide's z divides by the pooled deviation, too; the function's does not.
# The same data through `mcnemar` or `permutation_test` of the package do not depend on the order. Nothing was found on it
# upstream.
#
# Versions: mlxtend 0.25.0, scikit-learn 1.9.1, numpy 2.4.6, scipy 1.17.1, pandas 3.1.1, Python 3.11.
# Seen: .84 and .92 of 100: z -1.754, p .040, in the other order .960, two-sided by z .079. .9 and .8 of 1,000: z 6.325,
# p 1.0000, two-sided 2.5e-10. Of 4,000 pairs with equal accuracies: 5 % below .05 in one order; of pairs with .6 first and .4
# second, 500 answers each: 0. Ends with 1 if that is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "mlxtend==0.25.0" "scikit-learn==1.9.1" "numpy==2.4.6" "scipy==1.17.1" "pandas==3.1.1"
cat > "$work/look.py" <<'PY'
import math
import sys

import numpy as np
from mlxtend.evaluate import mcnemar, permutation_test, proportion_difference
from scipy.stats import norm

PAIRS, ANSWERS = 4000, 500
made = np.random.default_rng(0)


def p_value(first: float, second: float, answers: int) -> tuple[float, float, float]:
    """z and p as given, and the two-sided p value of this z."""
    z, p = (float(value) for value in proportion_difference(first, second, answers))
    spread = math.sqrt(first * (1 - first) / answers + second * (1 - second) / answers)
    assert abs(z - (first - second) / spread) < 1e-9
    return z, p, float(2 * norm.sf(abs(z)))


def share_below(first: float, second: float, way: int) -> float:
    """The share of simulated pairs whose p is below .05: as given (1), two-sided (2)."""
    right = made.binomial(ANSWERS, [first, second], size=(PAIRS, 2)) / ANSWERS
    return sum(p_value(*pair, ANSWERS)[way] < 0.05 for pair in right) / PAIRS


guide, turned, large = p_value(0.84, 0.92, 100), p_value(0.92, 0.84, 100), p_value(0.9, 0.8, 1000)
for name, (z, p, due) in ((".84 and .92", guide), (".92 and .84", turned), (".9 and .8", large)):
    print(f"{name}: z {z:.3f}, p {p:.4f} (right, two-sided: {due:.2g})")
equal, better, due = share_below(0.5, 0.5, 1), share_below(0.6, 0.4, 1), share_below(0.6, 0.4, 2)
print(f"below .05: equal {equal:.3f} (right: .05), .6 against .4 {better:.3f} (right: {due:.3f})")
table = np.array([[40, 20], [5, 35]])
flipped = [mcnemar(one, exact=True)[1] for one in (table, table.T)]
answers = np.array([[1, 1, 1, 0, 1, 1], [0, 1, 0, 0, 1, 0]])
swapped = [permutation_test(*pair, method="exact") for pair in (answers, answers[::-1])]
print("mcnemar, both orders:", *(f"{value:.4f}" for value in flipped), "permutation_test:", *(f"{v:.2f}" for v in swapped))
sound = abs(flipped[0] - flipped[1]) < 1e-12 and abs(swapped[0] - swapped[1]) < 1e-12 and due > 0.99
seen = abs(guide[1] - 0.0397) < 0.001 and abs(turned[1] - 0.9603) < 0.001 and large[1] > 0.9999 and large[2] < 1e-9
sys.exit(0 if sound and seen and better == 0 and 0.03 < equal < 0.07 else 1)
PY
"$work/venv/bin/python" "$work/look.py" 2>/dev/null
echo "as described: p is the lower tail of z"
