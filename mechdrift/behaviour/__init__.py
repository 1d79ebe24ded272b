"""What the models do, and how it is judged.

generation         answers and thinking of one model
backends           what writes them: token ids in, token ids out
sampling           budgets, and greedy answers or draws at a temperature
tasks              held-out reasoning tasks with exact answers
judges             does an answer refuse, make sense, harm; is it aligned for its probe item?
labels             a table of answers, each with what was judged of it
scores             the labels of both models, compared in pairs
metrics            what a metric is: name, formula, direction, unit
looks              what is decided of each headline after every wave of families
verdicts           which changes count as established
benchmark_scores   scores by the formulas of the field's benchmarks
one_call           `score`: ask, judge and compare in one call
imported           answers that another tool asked for, matched, judged and compared
kept               what a score has so far, on disk, until its table is complete
divergence         KL between the two models, token by token
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
