#!/usr/bin/env bash
# statsmodels' multipletests with one missing p value: Holm's method declares the missing one significant.
#
# A test that cannot be made (a constant score, no pair that differs) has p = NaN. `multipletests` takes it in without
# an error, and each method does something else with it:
#   - "holm" and "holm-sidak": where all others are rejected, so is the NaN, and each of the others pays for one more
#     test;
#   - "fdr_bh" and "simes-hochberg": the decisions are those of four tests, but every corrected p value is NaN;
#   - "hommel": nothing is rejected, whatever the other p values.
#
# Versions: statsmodels 0.15.0, numpy 2.4.6, scipy 1.17.1, pandas 3.1.1, Python 3.11. Seen, p = .001, .012, NaN, .02 at
# level .05: decisions True True True True under Holm, corrected .004 .036 NaN .04 (without the missing one .003 .024
# .024); corrected p under Benjamini-Hochberg all NaN; rejected under Hommel 0 of 4 (without the missing one 3 of 3).
# Ends with 1 if that is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "statsmodels==0.15.0" "numpy==2.4.6" "scipy==1.17.1" "pandas==3.1.1"
cat > "$work/look.py" <<'PY'
import sys

import numpy as np
from statsmodels.stats.multitest import multipletests

KNOWN = np.array([0.001, 0.012, 0.02])
WITH = np.insert(KNOWN, 2, np.nan)
found = {method: multipletests(WITH, method=method)[:2] for method in ("holm", "fdr_bh", "hommel")}
right = {method: multipletests(KNOWN, method=method)[:2] for method in found}
for method, (rejected, corrected) in found.items():
    print(f"{method}: with a NaN {rejected.tolist()} {np.round(corrected, 3).tolist()}")
    print(f"{method}: without it {right[method][0].tolist()} {np.round(right[method][1], 3).tolist()}")
by_hand = [3 * 0.001, 2 * 0.012, max(2 * 0.012, 0.02)]  # Holm's adjusted p values
as_described = (
    np.allclose(right["holm"][1], by_hand)
    and found["holm"][0].all()
    and np.allclose(found["holm"][1], [0.004, 0.036, np.nan, 0.04], equal_nan=True)
    and np.isnan(found["fdr_bh"][1]).all()
    and not found["hommel"][0].any()
    and right["hommel"][0].all()
)
sys.exit(0 if as_described else 1)
PY
"$work/venv/bin/python" "$work/look.py"
echo "as described: a missing p value is declared significant"
