"""Benchmarks, scored as the field scores them, for both models of a pair.

`score_benchmark` asks both models, reads their answers, and puts one row per metric into a tidy table. The files, in
the order of the work:

    asking       `score_benchmark`: everything below, for both models
    readings     what one answer says, as numbers: a refusal, the right option, a leak, …
    answers      one row per item and side: readings of the answers, pooled over samples
    likelihoods  the same for benchmarks that compare sentences and ask nothing (CrowS-Pairs, StereoSet)
    exact        the same for reasoning tasks (GSM8K, MATH-500)
    formulas     the published scores, each with its paper: `(columns [item], weights [draw, item]) -> [draw]`
    metrics      the formulas of each kind of benchmark, with the convention that a reader should know
    scorings     how each kind of benchmark is read and scored
    table        every metric for each side and for the paired difference (reasoning - instruct), with 95 % intervals

Five conventions hold everywhere:

    1. Scores are shares from 0 to 1 (papers often print them times 100).
    2. `n` counts the items on which both sides were asked and judged.
    3. An answer that cannot be read (it never ended, is gibberish, or names no option) is *unanswered*. It is counted
       with every score and is never a refusal; in accuracies it is wrong.
    4. A judge's failure says nothing about the answer: failures are counted, and the item leaves `n` for both sides.
    5. Families are resampled as a whole. With fewer than eight families, intervals would be far too short, so the item
       (or the group of items about one text) is the unit, as the column `unit` says.

Answers are greedy, one per item, unless several samples are wanted; the conventions then say how many, and at which
temperature. Scores over k samples are those of all answers, with equal weight for each item; only for toxicity, the
worst of an item's k answers counts. `unanswered_…` and `failed_…` count answers, k per item.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
