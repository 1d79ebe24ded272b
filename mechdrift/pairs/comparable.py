"""Whether two models can be compared layer by layer; reads configurations and tokenizers, no weights."""

from typing import TYPE_CHECKING

from mechdrift.pairs.loading import load_adapter_config
from mechdrift.records import SIDES, MechdriftError

if TYPE_CHECKING:
    from mechdrift.pairs.pair import Pair


def check_comparable(pair: "Pair") -> None:
    """Raise unless both models have the same width, depth and vocabulary size, and chat templates; reads no weights."""
    for adapter in pair.reasoning.adapters:
        load_adapter_config(adapter)
    configs = {side: pair.config(side).get_text_config() for side in SIDES}
    for attribute, word in (
        ("hidden_size", "width"),
        ("num_hidden_layers", "number of layers"),
        ("vocab_size", "vocabulary size"),
    ):
        values = [getattr(configs[side], attribute, None) for side in SIDES]
        if values[0] != values[1]:
            raise MechdriftError(
                f"the models differ in {word} ({pair.instruct.name}: {values[0]}, {pair.reasoning.name}: {values[1]}): "
                "they cannot be compared layer by layer; choose a reasoning model trained from this instruct model."
            )
    for side in SIDES:
        pair.tokenizer(side)
