"""Benchmarks, scored as the field scores them, for both models of a pair.

`score_benchmark` asks both models, reads their answers, and puts one row per metric into a tidy table. Its files, in
that order:

    asking       score_benchmark: all of what follows, for both models
    readings     what one answer says, as numbers: a refusal, the right option, a leak, …
    answers      one row per item and side: readings of the answers, pooled over samples
    likelihoods  the same for benchmarks that compare sentences and ask nothing (CrowS-Pairs, StereoSet)
    exact        the same for reasoning tasks (GSM8K, MATH-500)
    formulas     the published scores, each with its paper: `(columns [item], weights [draw, item]) -> [draw]`
    metrics      the formulas of each kind of benchmark, with the convention that a reader should know
    scorings     which kind of benchmark is read and scored by what
    table        every metric for each side and for the paired difference (reasoning - instruct), with 95 % intervals

Five conventions hold everywhere. Scores are shares from 0 to 1 (papers often print them times 100). `n` counts the
items that both sides were asked and judged on. An answer that cannot be read (never ended, gibberish, names no option)
is *unanswered*, is counted beside every score, and is never a refusal; in accuracies it is wrong. A judge that fails
says nothing of the answer: the failures are counted, and the item leaves `n` for both sides. Families are resampled as
a whole; with fewer than eight of them, intervals would be far too short, so the item (or the group of items about one
text) is the unit, and the column `unit` says so.

Answers are greedy, one an item, unless several samples are asked for; the conventions then say how many, at which
temperature. Scores over k samples are those of all the answers, each item weighing the same, apart from toxicity, where
the worst of an item's k answers counts. `unanswered_…` and `failed_…` count answers, k an item.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
