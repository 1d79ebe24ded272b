"""Which quantities a later commit changed on purpose, and why: pattern of stage and quantity, commit, reason.

A quantity that stands here is compared all the same: where it did not change, the table says so. What differs and does
not stand here is a fault. Patterns are `fnmatch`'s; the first that fits counts.
"""

from typing import NamedTuple


class Change(NamedTuple):
    quantity: str
    commit: str
    why: str


INTERVALS = "42611d1", "95 % intervals count families that were not asked; estimates stay"
CUT = "df046ae", "an answer that the budget cut is missing, neither aligned nor misaligned"
WAVES = "e867568", "audits ask in waves until each dimension is decided"
CHANGES = (
    Change("scores | score_table: convention", *CUT),
    Change("scores | score_table: *low", *INTERVALS),
    Change("scores | score_table: *high", *INTERVALS),
    Change("statistics | *_bootstrap: low", *INTERVALS),
    Change("statistics | *_bootstrap: high", *INTERVALS),
    Change("statistics | unseen_share", "42611d1", "the default level is that of a two-sided 95 % interval"),
    Change("readouts | validate: low", *INTERVALS),
    Change("readouts | validate: high", *INTERVALS),
    Change("divergence | summarise_kl: low", *INTERVALS),
    Change("divergence | summarise_kl: high", *INTERVALS),
    Change("patching | decompose: table: low", *INTERVALS),
    Change("patching | decompose: table: high", *INTERVALS),
    Change("steering | steer_back: low", *INTERVALS),
    Change("steering | steer_back: high", *INTERVALS),
    Change("weights | audit_pair: fingerprints", "5ee53b0", "a third sum per tensor sees rows that changed places"),
    Change("weights | audit_pair: facts: template_mentions_think", "2f1a913", "`thinking` says what was read off it"),
    Change("weights | audit_pair: facts: asked", "2f1a913", "how the model is asked"),
    Change("weights | audit_pair: facts: thinking", "2f1a913", "how the model thinks"),
    Change("weights | audit_pair: facts: output_matrix", "15baf0d", "the size of the logits bounds a batch"),
    Change("weights | audit_pair: facts: parameters", "62b9f7d", "pages of many runs sort by size"),
    Change("judges | judge_all: harm", "554c4ed", "a judge of harm may score the answer"),
    Change("judges | judge_all: stopped", "51e4d2c", "a thought that the model stopped is told from a cut one"),
    Change("judges | judge_all: *_tokens", *CUT),
    Change("judges | judge_all: forced_*", *CUT),
    Change("judges | judge_all: missing", *CUT),
    Change("scores | score_table: asked", *CUT),
    Change("scores | score_table: reason", *CUT),
    Change("scores | score_table: *_least", *CUT),
    Change("scores | score_table: *_most", *CUT),
    Change("scores | score_table: decision", *WAVES),
    Change("scores | score_table: margin", *WAVES),
    Change("scores | score_table: wave", *WAVES),
    Change("judges, changed rules | verdict", "see below", "the second table has a row for each answer"),
)
