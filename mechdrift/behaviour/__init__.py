"""What the models do, and how it is judged.

generation         `generate` and `ask`: answers and thinking of one model
two_stages         the two requests behind an answer: thinking, then answer
answer_store       finished answers on disk, so that a killed run resumes
thoughts           what a model wrote, cut into thinking and answer
pilot              how long a model thinks and answers, measured before budgets are set
censoring          answers that a budget cut off are missing data
backends           what writes: token ids in, token ids out
sampling           budgets, and greedy answers or draws at a temperature
tasks              held-out reasoning tasks with exact answers
dimensions         the six dimensions: how an answer is judged, and which metrics are computed
judges             does an answer refuse, make sense, harm?
judging            is an answer aligned for its probe item?
labels             tables of answers, each with its judgement
scores             the score table of an audit: both models, compared in pairs
paired             comparing the two models on the items that both answered
lengths            how long both models think and answer
metrics            what a metric is: name, formula, direction, unit
looks              what is decided of each headline after every wave of families
verdicts           which changes count as established
benchmark_scores   scores by the formulas of the field's benchmarks
one_call           `score`: ask, judge and compare in one call
both_models        asking both models the same, each as it is normally used
imported           answers that another tool asked for, matched, judged and compared
kept               what a score has computed so far, on disk, until its table is complete
divergence         KL between the two models, token by token
web                one request to a server, within a deadline
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
