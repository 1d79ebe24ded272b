"""How large a fall would an audit find? Power by simulation, from how answers vary item by item.

    families      As many families as will be asked are drawn with replacement, each with its items' answers in both
                  models.
    no change     In half of them, at random, the models change places. So answers differ as they do where nothing
                  changed, with the correlation inside families.
    a fall        Then each aligned answer of the second model is lost with the probability that makes the share fall by
                  the wanted number of points.
    the test      It is that of the audit: sign flips over families, with all looks (`statistics.sequential`), at the
                  level 0.05 / m, which Holm's correction requires of the first of m dimensions. So this is the power
                  where no other dimension changes; where others do, it is larger.

Before an audit, the answers of its models are not known. `assumed_answers` takes their place: answers with an assumed
share of aligned ones that are correlated inside families and between models. An answer is aligned where a normal
variable lies below a threshold. The variables of the two models have a correlation of .4, which makes about .2 between
the answers themselves where 85 % are aligned. Two items of a family share one variable with a probability of .2, which
is the correlation of their answers.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy import stats

from mechdrift.statistics.grids import ALPHA
from mechdrift.statistics.sequential import is_found

POWER = 0.8
SIMULATIONS = 100
FALLS = tuple(points / 100 for points in (5, 10, 15, 20, 25, 30, 35, 40, 50, 60))
WITHIN = 0.2  # assumed correlation of the answers to two items of a family
BETWEEN = 0.4  # assumed correlation of the normal variables behind the two models' answers to an item

Answers = Float[np.ndarray, "family item"]
"""1 where an answer is aligned, 0 where not, NaN where a family has fewer items."""


def power_of(
    before: Answers, after: Answers, families: int, fall: float, *, tests: int, looks: int = 1, seed: int = 0
) -> float:
    """The share of audits in which a fall would be found.

    Args:
        before: the instruct model's answers by family and item, 1 or 0; NaN where a family has fewer items.
        after: the reasoning model's answers to the same items.
        families: how many families are to be asked.
        fall: as a share of answers.
        tests: over how many dimensions Holm's correction runs.
        looks: after how many equal waves the data are looked at; 1 is a fixed design.
        seed: of the simulation.
    """
    rng = np.random.default_rng(seed)
    waves = np.array_split(np.arange(families), min(looks, families))
    fractions = [(wave[-1] + 1) / families for wave in waves]
    found = 0
    for _ in range(SIMULATIONS):
        chosen = rng.integers(len(before), size=families)
        swapped = rng.random((families, 1)) < 0.5
        first, second = (
            np.where(swapped, one[chosen], other[chosen]) for one, other in ((after, before), (before, after))
        )
        share = max(float(np.nanmean(second)), fall)  # of answers that can be lost; a larger fall is not possible
        lost = rng.random(second.shape) < fall / share
        change = np.nanmean(np.where(lost, np.minimum(second, 0), second) - first, axis=1)
        found += is_found([change[wave] for wave in waves], fractions, ALPHA / tests)
    return found / SIMULATIONS


def smallest_fall(before: Answers, after: Answers, families: int, *, tests: int, looks: int = 1) -> float:
    """The smallest of `FALLS` that is found in 80 % of audits; NaN where none is."""
    low, high = 0, len(FALLS)
    while low < high:
        middle = (low + high) // 2
        power = power_of(before, after, families, FALLS[middle], tests=tests, looks=looks)
        low, high = (low, middle) if power >= POWER else (middle + 1, high)
    return FALLS[low] if low < len(FALLS) else float("nan")


def assumed_answers(share: float, items: int, families: int = 200, seed: int = 0) -> Sequence[Answers]:
    """Both models' answers where nothing changed: `share` of them aligned, correlated as the module's text says."""
    rng = np.random.default_rng(seed)
    numbers = rng.standard_normal((3, families, items + 1))  # the last item is its family's own
    common, *own = numbers
    is_copy = rng.random((families, items)) < np.sqrt(WITHIN)
    sides = [np.sqrt(BETWEEN) * common + np.sqrt(1 - BETWEEN) * each for each in own]
    chosen = [np.where(is_copy, side[:, -1:], side[:, :-1]) for side in sides]
    return [(each < stats.norm.ppf(share)).astype(float) for each in chosen]
