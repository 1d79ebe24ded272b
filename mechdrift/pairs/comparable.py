"""Whether two models can be compared layer by layer, and how far their vocabularies agree; reads configurations and
tokenizers, no weights.

Width and depth have to be equal. Vocabularies need not be: embeddings are padded, trimmed and grown in training, and
the rows that both models have are compared. Where a prompt of the reasoning model holds an id that the instruct model
has no row for, or knows as another token, each model reads its own template's prompts (`activations.prompts`).
"""

from typing import TYPE_CHECKING

from mechdrift.pairs.adapters import embedding_rows, load_adapter_config
from mechdrift.pairs.loading import factory_of
from mechdrift.records import SIDES, MechdriftError, Side

if TYPE_CHECKING:
    from mechdrift.pairs.pair import Pair


def check_comparable(pair: "Pair") -> tuple[str, ...]:
    """Raise unless both models have the same width and depth, and chat templates. Returns the pair's warnings: one
    where the sizes of the vocabularies differ, else none."""
    for adapter in pair.reasoning.adapters:
        load_adapter_config(adapter)
    configs = {side: pair.config(side) for side in SIDES}
    for side, config in configs.items():
        if pair.models[side].own is None and not pair.source(side).trust_remote_code:
            factory_of(pair.source(side).name, config)
    for attribute, word in (("hidden_size", "width"), ("num_hidden_layers", "number of layers")):
        values = [getattr(configs[side].get_text_config(), attribute, None) for side in SIDES]
        if values[0] != values[1]:
            raise MechdriftError(
                f"the models differ in {word} ({pair.instruct.name}: {values[0]}, {pair.reasoning.name}: {values[1]}): "
                "they cannot be compared layer by layer; choose a reasoning model trained from this instruct model."
            )
    for side in SIDES:
        pair.tokenizer(side)
    rows = {side: vocabulary_of(pair, side) for side in SIDES}
    if rows["instruct"] == rows["reasoning"]:
        return ()
    return (
        f"the models' vocabularies have different sizes ({pair.instruct.name}: {rows['instruct']}, "
        f"{pair.reasoning.name}: {rows['reasoning']}): they are compared on the {shared_vocabulary(pair)} tokens that "
        "both have.",
    )


def vocabulary_of(pair: "Pair", side: Side) -> int:
    """How many tokens one model has embeddings for."""
    config, source = pair.config(side).get_text_config(), pair.source(side)
    return max(int(getattr(config, "vocab_size", 0) or 0), *map(embedding_rows, source.adapters), 0)


def shared_vocabulary(pair: "Pair") -> int:
    """How many tokens, from the first on, both models have embeddings for."""
    return min(vocabulary_of(pair, side) for side in SIDES)
