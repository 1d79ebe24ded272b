"""What the models do, and how it is judged.

generation    answers and thinking of one model               tasks             held-out reasoning tasks
refusals      does an answer refuse? (rules and weights)      labels            a table of answers, each with what was
              judged of it
coherence     does it make sense?                             scores            the labels of both models, compared in
              pairs
toxicity      how toxic is it?                                benchmark_scores  the same by the formulas of the field's
              benchmarks
judges        is it aligned, for its probe item?              pairwise          ask, judge and compare in one call
external      other judges in place of the refusal rules      divergence        KL between the two models, token by
              token
choosing      which option does an answer name?
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
