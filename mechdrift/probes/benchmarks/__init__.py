"""Reading the field's benchmarks into the same records as the project's own probe sets.

`load_benchmark("xstest")` fetches a set from the Hugging Face hub; with `path` it reads a file or a folder in the
published format. Nothing of a benchmark ships with this package. `BENCHMARKS` gives the source and licence of each, and
how it is scored (by the formulas in `behaviour.benchmark_scores`). A reader turns the published rows into items:

    contrast   `trigger` where special behaviour is called for (harmful, ambiguous, a secret, a changed style),
               `neutral` elsewhere
    family     the unit of resampling: the benchmark's own category, or, where its items share templates or terms, the
               template or term (BBQ, StereoSet, the sentence whose style is changed)
    twin       the matched item where the benchmark publishes one (JailbreakBench), else ""
    tags       what the scorer needs: the right option, the biased option, the secret, the human rating. `group` names
               items that share a text and so stay together in `subset`.

Where a benchmark leaves the wording of the question open (ETHICS, AdvGLUE, SST-2, BBQ), the wording is ours: compare
the two models of a pair with each other, not with a published number. A system prompt is put before the user's text,
because not every chat template has a place for it. The hub is asked for the `revision` that `BENCHMARKS` names, or,
where that is None, for the newest version.

    registry    BENCHMARKS: source, licence, files, hub copy, reader and scoring of each
    loading     load_benchmark, subset: from a name to a checked probe set
    rows        rows of files, each with its file and number
    items       what a reader makes of a row
    safety, toxicity, bias, ethics, privacy, robustness     the readers, by dimension
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
