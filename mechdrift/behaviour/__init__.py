"""What the models do, and how it is judged.

generation    answers and thinking of one model               tasks             held-out reasoning tasks
refusals      does an answer refuse? (rules and weights)      scores            judged answers of both models, compared in pairs
coherence     does it make sense?                             benchmark_scores  the same by the formulas of the field's benchmarks
toxicity      how toxic is it?                                pairwise          ask, judge and compare in one call
judges        is it aligned, for its probe item?              divergence        KL between the two models, token by token
external      other judges in place of the refusal rules      choosing          which option does an answer name?
"""

from mechdrift.behaviour.divergence import kl_drift
from mechdrift.behaviour.external import ChatJudge, ClassifierJudge, RefusalJudge, RuleJudge, load_judge
from mechdrift.behaviour.generation import Budget, Question, Sampling, ask, generate
from mechdrift.behaviour.judges import judge
from mechdrift.behaviour.pairwise import score
from mechdrift.behaviour.refusals import judge_refusals
from mechdrift.behaviour.scores import judge_all, judge_tasks, score_table
from mechdrift.behaviour.tasks import held_out
from mechdrift.behaviour.toxicity import score_toxicity

__all__ = [
    "Budget", "ChatJudge", "ClassifierJudge", "Question", "RefusalJudge", "RuleJudge", "Sampling", "ask", "generate", "held_out", "judge",
    "judge_all", "judge_refusals", "judge_tasks", "kl_drift", "load_judge", "score", "score_table", "score_toxicity",
]  # fmt: skip
