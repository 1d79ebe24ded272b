#!/usr/bin/env bash
# mlxtend's .632+ bootstrap gives accuracies of less than 0 and more than 1, and means that are made of them.
#
# The method weighs the error on left-out data and the error on training data by the share of overfitting, R, which says how
# far the first is on its way from the second to that of a guess. The paper that the package names (Efron and Tibshirani 1997)
# keeps R between 0 and 1 and takes no error that is above a guess's. mlxtend does neither. In a bootstrap sample where the
# classifier does worse than guessing on what was left out, which is every second one where there is nothing to be found, R is
# above 1; the weight grows without bound as R nears 2.7, and turns negative behind it. Where training error and a guess's are
# equal, the result is NaN. So a probe on noise, the control of every probing result, may come out far below chance or with a
# meaningless mean, and a control that looks bad makes the probe look good. "oob" and ".632" stay between 0 and 1. Nothing
# warns. Of mlxtend nothing was found upstream; of another package it is issue 512 of mlr-org/mlr.
#
# Versions: mlxtend 0.25.0, scikit-learn 1.9.1, numpy 2.4.6, scipy 1.17.1, pandas 3.1.1, Python 3.11.
# Seen, 30 points of noise in 2 dimensions, 15 of each label, nearest neighbour, 200 samples: least -20.3, largest 3.7,
# a quarter outside 0 and 1, mean -.20. By hand with the bounds of the paper: all within 0 and 1, mean between .4
# and .6; without them the same numbers as the package's. Ends with 1 if that is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "mlxtend==0.25.0" "scikit-learn==1.9.1" "numpy==2.4.6" "scipy==1.17.1" "pandas==3.1.1"
cat > "$work/look.py" <<'PY'
import sys

import numpy as np
from mlxtend.evaluate import BootstrapOutOfBag, bootstrap_point632_score
from sklearn.neighbors import KNeighborsClassifier

POINTS, SPLITS = 30, 200
made = np.random.default_rng(0)
noise = made.normal(size=(POINTS, 2))
labels = made.permutation(np.repeat([0, 1], POINTS // 2))


def by_hand(bounded: bool) -> np.ndarray:
    found = []
    for train, test in BootstrapOutOfBag(n_splits=SPLITS, random_seed=1).split(noise):
        probe = KNeighborsClassifier(1).fit(noise[train], labels[train])
        said = probe.predict(noise)
        seen, left_out = float((said != labels).mean()), float((said[test] != labels[test]).mean())
        guess = float((labels[:, None] != said[None]).mean())  # every label against every answer
        if bounded:
            left_out = min(left_out, guess)
            overfitting = (left_out - seen) / (guess - seen) if left_out > seen else 0.0
        else:
            overfitting = (left_out - seen) / (guess - seen)
        weight = 0.632 / (1 - 0.368 * overfitting)
        found.append(1 - weight * left_out - (1 - weight) * seen)
    return np.array(found)


def outside(values: np.ndarray) -> float:
    return float(((values < 0) | (values > 1)).mean())


given = {method: bootstrap_point632_score(KNeighborsClassifier(1), noise, labels, n_splits=SPLITS, method=method,
                                          random_seed=1) for method in ("oob", ".632", ".632+")}
given |= {"by hand": by_hand(True), "by hand, no bounds": by_hand(False)}
for name, values in given.items():
    print(f"{name}: mean {values.mean():.3f}, {values.min():.2f} to {values.max():.2f}", end="")
    print(f", outside 0 and 1: {outside(values):.3f} (right: 0)")
plus, hand = given[".632+"], given["by hand"]
sound = all(outside(given[name]) == 0 for name in ("oob", ".632", "by hand")) and 0.4 < hand.mean() < 0.6
same = np.allclose(plus, given["by hand, no bounds"], rtol=1e-6, atol=1e-9)
sys.exit(0 if sound and same and plus.min() < -1 and plus.max() > 2 and outside(plus) > 0.05 else 1)
PY
"$work/venv/bin/python" "$work/look.py" 2>/dev/null
echo "as described: accuracies below 0 and above 1"
