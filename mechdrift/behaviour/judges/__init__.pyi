from .external import ChatJudge, ClassifierJudge, RefusalJudge, RuleJudge
from .files import load_judge
from .harm import HarmJudge
from .refusals import judge_refusals
from .toxicity import score_toxicity

__all__ = [
    "ChatJudge",
    "ClassifierJudge",
    "HarmJudge",
    "RefusalJudge",
    "RuleJudge",
    "judge_refusals",
    "load_judge",
    "score_toxicity",
]
