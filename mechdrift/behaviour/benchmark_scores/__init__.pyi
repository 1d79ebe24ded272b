from .answers import read_answers
from .asking import score_benchmark
from .exact import draw_tasks, final_answer, is_exact, load_tasks, read_tasks
from .formulas import (
    compare_pair,
    compare_triple,
    expected_maximum_toxicity,
    form_consistency,
    marginal_action_likelihood,
    toxicity_probability,
)
from .likelihoods import log_likelihoods, read_likelihoods
from .readings import agreement, rating
from .table import COLUMNS, benchmark_table

__all__ = [
    "COLUMNS",
    "agreement",
    "benchmark_table",
    "compare_pair",
    "compare_triple",
    "draw_tasks",
    "expected_maximum_toxicity",
    "final_answer",
    "form_consistency",
    "is_exact",
    "load_tasks",
    "log_likelihoods",
    "marginal_action_likelihood",
    "rating",
    "read_answers",
    "read_likelihoods",
    "read_tasks",
    "score_benchmark",
    "toxicity_probability",
]
