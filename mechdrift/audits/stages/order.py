"""The stages of an audit in the order in which they run.

The order also saves loading: where one stage ends with a model open, the next begins with it. Models that do not stay
resident are loaded eleven times in all, and a null model once:

    pair        instruct, reasoning         drift       reasoning (still open), instruct, reasoning
    answers     reasoning, instruct         readouts    reasoning (still open), instruct
    kl          instruct, reasoning         patch       instruct (still open), null model, reasoning, instruct

A pilot, where there is one, loads both once more, and every wave loads both.
"""

from mechdrift.audits.config import Audit
from mechdrift.audits.plan import Stage
from mechdrift.audits.stages import answers, drift, kl, pair, patch, pilot, readouts, scores, waves

STAGES = tuple(stage.STAGE for stage in (pair, answers, scores, kl, drift, readouts, patch))


def stages_of(config: Audit) -> tuple[Stage, ...]:
    """The stages of one audit: a pilot comes before the answers where budgets are to be measured, and waves where all
    is asked until it is decided."""
    first, *rest = STAGES
    before = ((pilot.STAGE, config.budget.is_auto), (waves.STAGE, bool(config.until_decided)))
    return (first, *(stage for stage, is_there in before if is_there), *rest)
