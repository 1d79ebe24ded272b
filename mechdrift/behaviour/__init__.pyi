from .divergence import kl_drift
from .generation import ask, generate
from .judges.chat import ChatJudge
from .judges.external import ClassifierJudge, RefusalJudge, RuleJudge
from .judges.files import load_judge
from .judges.harm import HarmJudge
from .judges.refusals import judge_refusals
from .judges.toxicity import score_toxicity
from .judging import judge
from .labels import judge_all, judge_tasks
from .one_call import score
from .sampling import Budget, Sampling
from .scores import score_table
from .tasks import held_out
from .two_stages import Question

__all__ = [
    "Budget",
    "ChatJudge",
    "ClassifierJudge",
    "HarmJudge",
    "Question",
    "RefusalJudge",
    "RuleJudge",
    "Sampling",
    "ask",
    "generate",
    "held_out",
    "judge",
    "judge_all",
    "judge_refusals",
    "judge_tasks",
    "kl_drift",
    "load_judge",
    "score",
    "score_table",
    "score_toxicity",
]
