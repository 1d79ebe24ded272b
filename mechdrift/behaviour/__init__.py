"""What the models do, and how it is judged.

generation    answers and thinking of one model               tasks             held-out reasoning tasks
refusals      does an answer refuse? (rules and weights)      labels            a table of answers, each with what was judged of it
coherence     does it make sense?                             scores            the labels of both models, compared in pairs
toxicity      how toxic is it?                                benchmark_scores  the same by the formulas of the field's benchmarks
judges        is it aligned, for its probe item?              pairwise          ask, judge and compare in one call
external      other judges in place of the refusal rules      divergence        KL between the two models, token by token
choosing      which option does an answer name?
"""

from mechdrift.behaviour.divergence import kl_drift
from mechdrift.behaviour.external import ChatJudge, ClassifierJudge, RefusalJudge, RuleJudge, load_judge
from mechdrift.behaviour.generation import Budget, Question, Sampling, ask, generate
from mechdrift.behaviour.judges import judge
from mechdrift.behaviour.labels import judge_all, judge_tasks
from mechdrift.behaviour.pairwise import score
from mechdrift.behaviour.refusals import judge_refusals
from mechdrift.behaviour.scores import score_table
from mechdrift.behaviour.tasks import held_out
from mechdrift.behaviour.toxicity import score_toxicity

__all__ = [
    "Budget", "ChatJudge", "ClassifierJudge", "Question", "RefusalJudge", "RuleJudge", "Sampling", "ask", "generate", "held_out", "judge",
    "judge_all", "judge_refusals", "judge_tasks", "kl_drift", "load_judge", "score", "score_table", "score_toxicity",
]  # fmt: skip
