#!/usr/bin/env bash
# inspect_ai's match() scorer, as it is by default, counts an answer of 42 as right where the target is 2.
#
# By default it asks whether the answer *ends with* the target, letter by letter, and a number may begin before the
# match. So "The answer is 42" is right for targets 42 and 2, and "-5" is right for 5: accuracy on short numeric targets
# is too high. `match(numeric=True)` compares whole words and so judges those rightly, but does not find the number in
# "\boxed{42}" or "x=42", which the default does: too low there. Neither setting says so in its score.
#
# Versions: inspect_ai 0.3.285, Python 3.11.
# Seen (C correct, I incorrect): by default 42 for 2: C, -5 for 5: C, \boxed{42} for 42: C; with numeric=True I, I, I.
# Ends with 1 if that is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "inspect_ai==0.3.285"
cat > "$work/look.py" <<'PY'
import asyncio
import sys

from inspect_ai.model import ModelOutput
from inspect_ai.scorer import Target, match
from inspect_ai.solver import TaskState

CASES = (("The answer is 42", "2"), ("The answer is -5", "5"), (r"The answer is \boxed{42}", "42"))


def score(text: str, target: str, **settings) -> str:
    output = ModelOutput.from_content("none", text)
    state = TaskState(model="none/none", sample_id=1, epoch=1, input="?", messages=[], output=output)
    return str(asyncio.run(match(**settings)(state, Target(target))).value)


found = [[score(*case, **settings) for case in CASES] for settings in ({}, {"numeric": True})]
for (text, target), by_default, numeric in zip(CASES, *found, strict=True):
    print(f"{text!r} for {target}: by default {by_default}, numeric {numeric}")
sys.exit(0 if found == [["C", "C", "C"], ["I", "I", "I"]] else 1)
PY
"$work/venv/bin/python" "$work/look.py"
echo "as described: 42 ends with 2"
