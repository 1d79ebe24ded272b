#!/usr/bin/env bash
# lm-eval's bbh_cot_fewshot takes an answer that does not end in a full stop without its last character: 24 is 2.
#
# The pattern that reads the answer out of the text is "the answer is ", as much of the line as there is, and then one
# more character, whichever. It is meant for the full stop of the examples. Where the model writes none, or a line ends
# there, the last digit, letter or bracket of the answer is that character: 24 is wrong for 24 and right for 2, -123 is
# -12, and "(A)" is "(A". Such an answer still passes as one, not as "[invalid]", and nothing says so. "strict-match" of
# bbh_cot_zeroshot reads by the same pattern, and there no examples show the full stop. A change of style alone (a chat
# template, an adapter, a steered model that leaves full stops out) moves the score.
#
# Versions: lm-eval 0.4.13, datasets 5.2.0, numpy 2.4.6, Python 3.11; the task's own settings, five texts in place of a
# model and of the task's questions.
# Seen, what is taken and its score: "24." for 24: 24, 1; "24" for 24: 2, 0; "24" for 2: 2, 1; "(A)" for (A): "(A", 0;
# "-123" and a new line for -123: -12, 0; strict-match takes the same. Ends with 1 if that is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "lm_eval==0.4.13" "datasets==5.2.0" "numpy==2.4.6"
cat > "$work/look.py" <<'PY'
import json
import sys
from pathlib import Path

import lm_eval
import yaml
from lm_eval.api.model import LM
from lm_eval.filters.extraction import RegexFilter

folder, tasks = Path(sys.argv[1]), Path(lm_eval.__file__).parent / "tasks" / "bbh"
CASES = [  # the target, what the model writes, what is taken, its score
    ("24", "3 times 8. So the answer is 24.", "24", 1.0),
    ("24", "3 times 8. So the answer is 24", "2", 0.0),
    ("2", "3 times 8. So the answer is 24", "2", 1.0),
    ("(A)", "It is the first. So the answer is (A)", "(A", 0.0),
    ("-123", "So the answer is -123\nThat is all.", "-12", 0.0),
]
rows = [json.dumps({"place": place, "due": case[0]}) for place, case in enumerate(CASES)]
(folder / "own.jsonl").write_text("\n".join(rows))


class Fixed(LM):
    """Writes the text of the case that is asked for."""

    def generate_until(self, requests):
        return [CASES[int(request.args[0])][1] for request in requests]

    def loglikelihood(self, requests):
        raise NotImplementedError

    def loglikelihood_rolling(self, requests):
        raise NotImplementedError


own = dict(dataset_path="json", dataset_kwargs={"data_files": {"test": str(folder / "own.jsonl")}}, task="own")
own |= dict(doc_to_text="{{place}}", doc_to_target="{{due}}", num_fewshot=0)
task = yaml.safe_load((tasks / "cot_fewshot" / "_cot_fewshot_template_yaml").read_text()) | own
samples = lm_eval.simple_evaluate(model=Fixed(), tasks=[task], bootstrap_iters=0)["samples"]["own"]
found = [(sample["filtered_resps"][0], float(sample["exact_match"])) for sample in samples]

yaml.SafeLoader.add_constructor("!function", lambda loader, node: node.value)
zeroshot = yaml.safe_load((tasks / "cot_zeroshot" / "multistep_arithmetic_two.yaml").read_text())["filter_list"]
(strict,) = [one["filter"][0]["regex_pattern"] for one in zeroshot if one["name"] == "strict-match"]
(same,) = RegexFilter(strict).apply([[case[1] for case in CASES]], [{}])
for (due, text, *_), (taken, score), other in zip(CASES, found, same, strict=True):
    print(f"{text!r} for {due}: taken {taken!r}, score {score:.0f}; strict-match without examples takes {other!r}")
as_described = found == [case[2:] for case in CASES] and same == [case[2] for case in CASES]
sys.exit(0 if as_described else 1)
PY
HF_DATASETS_CACHE="$work/cache" "$work/venv/bin/python" "$work/look.py" "$work" 2>/dev/null
echo "as described: the last character of an answer is taken for a full stop"
