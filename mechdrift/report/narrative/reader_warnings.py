"""What a reader must know before trusting the numbers: missing or incoherent answers, little data, readouts that do
not follow behaviour, and self-tests that failed."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mechdrift.behaviour.verdicts import headline_rows
from mechdrift.records import SIDES, order_dimensions
from mechdrift.report.words import THINK_NAMES, capitalised, dimension_name, listing, number

LOW_FAMILIES, LOW_ITEMS = 8, 30
HIGH_RATE = 0.10  # of the answers missing, or incoherent
SELF_TEST_TOLERANCE = 1e-3
RATES = {
    "incomplete": "Many answers are missing, because thinking or answer did not come to an end: {}. They count neither "
    "as aligned nor as misaligned.",
    "incoherent": "Many answers made no sense: {}. They count as not aligned, and are not refusals.",
}


def reader_warnings(
    manifest: Mapping[str, Any], scores: pd.DataFrame | None, validation: pd.DataFrame | None
) -> list[str]:
    """Every warning of a run, each one or more sentences.

    Args:
        manifest: the run's; its pair's own warnings come first, its self-tests last.
        scores: the score table, or None.
        validation: how well readouts follow judged behaviour (`readout_validation`), or None.
    """
    found = [str(text) for text in manifest.get("pair", {}).get("warnings", ())]
    if scores is not None:
        found += _rate_warnings(scores) + _size_warnings(scores)
    if validation is not None:
        found += _readout_warnings(validation)
    found += _self_test_warnings(manifest.get("self_tests", {}))
    return [capitalised(text) for text in found]


def _rate_warnings(scores: pd.DataFrame) -> list[str]:
    found = []
    for metric, sentence in RATES.items():
        high = [
            f"{dimension_name(row['dimension']).lower()} {number(row[side], share=True)} ({side})"
            for row in scores[scores.metric == metric].to_dict("records")
            for side in SIDES
            if row[side] > HIGH_RATE
        ]
        found += [sentence.format(listing(high))] if high else []
    return found


def _size_warnings(scores: pd.DataFrame) -> list[str]:
    rows = headline_rows(scores)
    small = rows[(rows.families < LOW_FAMILIES) | (rows.n < LOW_ITEMS)]
    sizes = [
        f"{n} prompts in {families} families in {listing(dimension_name(name).lower() for name in group.dimension)}"
        for (n, families), group in small.groupby(["n", "families"])
    ]
    return [f"Little data: {'; '.join(sizes)}. So few prompts establish only large changes."] if sizes else []


def _readout_warnings(validation: pd.DataFrame) -> list[str]:
    bad = validation[~validation.reliable.astype(bool)]
    each = [
        f"{dimension_name(dimension).lower()} ({'; '.join(unreliable_readouts(bad[bad.dimension == dimension]))})"
        for dimension in order_dimensions(bad.dimension)
    ]
    if not each:
        return []
    return [
        f"Some readouts do not follow judged behaviour well enough to be trusted: {listing(each)}. The number is the "
        "area under the ROC curve, where 0.5 is chance. Patch grids that rest on such a readout with an empty think "
        "block are faded below and left out of the verdict."
    ]


def unreliable_readouts(rows: pd.DataFrame) -> list[str]:
    """Model, think mode and AUROC of each row: "reasoning model, empty think block: 0.61"."""
    return [
        f"{row.side} model, {THINK_NAMES.get(row.think, row.think)}: {number(row.auroc)}" for row in rows.itertuples()
    ]


def _self_test_warnings(tests: Mapping[str, Any]) -> list[str]:
    found = []
    surface = max((float(value) for value in tests.get("surface_error", {}).values()), default=0.0)
    if surface > SELF_TEST_TOLERANCE:
        found.append(f"The recorded activations differ from the model's own hidden states by up to {surface:.1e}.")
    identity = float(tests.get("identity_patch_error") or 0.0)
    if identity > SELF_TEST_TOLERANCE:
        found.append(
            f"Patching a model with its own activations changed its readout by {identity:.1e}; it should change "
            "nothing."
        )
    if "forward" in str(tests.get("patch_engine", "")):
        found.append(
            "A model could not be replayed exactly. Its patch grids took one full forward pass per cell, which is "
            "exact, but slower."
        )
    return found
