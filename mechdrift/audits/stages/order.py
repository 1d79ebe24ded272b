"""The stages of an audit in the order in which they run."""

from mechdrift.audits.stages import answers, drift, kl, pair, patch, readouts, scores

STAGES = tuple(stage.STAGE for stage in (pair, answers, scores, drift, readouts, patch, kl))
