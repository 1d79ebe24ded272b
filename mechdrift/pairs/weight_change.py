"""How far training moved the weights of each layer: `‖W_child − W_parent‖ / ‖W_parent‖`.

Tensors of the two models correspond by their place in the decoder (`layers.2.mlp.up_proj.weight`), which is the same
for a text model and for the text part of a multimodal one. Only one model is in memory at a time: the instruct model's
tensors wait in files, one file each.
"""

import math
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors.torch import load_file, save_file
from torch import Tensor

from mechdrift.pairs.loading import LanguageModel
from mechdrift.pairs.pair import Pair
from mechdrift.pairs.precision import smallest_exact, squared_norms
from mechdrift.records import MechdriftError, Side


def weight_change(
    pair: Pair, folder: Path | None = None, look: Callable[[Side, LanguageModel], None] = lambda *_: None
) -> pd.DataFrame:
    """Relative weight change per layer and module.

    Columns: `layer` (-1 outside the blocks), `module`, `change` (‖child − parent‖ / ‖parent‖), `norm` (the squared norm
    of the parent's weights). Squared norms are summed in float64 over the parameters of a module before the ratio is
    taken. Only one model is in memory: the instruct model's tensors wait in files of `folder`, one file each, and
    `look` is called with each model while it is loaded. Raises `MechdriftError` where weights are NaN or infinite.
    """
    with tempfile.TemporaryDirectory(dir=folder) as place:
        stored = _store_weights(pair, Path(place), look)
        pair.close("float32")
        rows = _compare_weights(pair, stored, look)
        pair.close("float32")
    table = (
        pd.DataFrame(rows, columns=["layer", "module", "squared", "norm"])
        .groupby(["layer", "module"], as_index=False)
        .sum()
    )
    return table.assign(change=(table.squared / table.norm.clip(lower=1e-30)) ** 0.5).drop(columns="squared")


def tensors_by_place(loaded: LanguageModel) -> dict[str, Tensor]:
    """A model's tensors by their place in the decoder (`layers.2.mlp.up_proj.weight`, `lm_head.weight`). These names
    are the same for a text model and for the text part of a multimodal one. Other tensors keep their own names."""
    model, structure = loaded.model, loaded.structure
    paths = {module: name for name, module in model.named_modules()}
    places = {paths[block]: f"layers.{layer}" for layer, block in enumerate(structure.blocks)}
    for module in (structure.unembed, structure.final_norm, model.get_input_embeddings()):
        if module in paths:
            places[paths[module]] = paths[module].rpartition(".")[2]
    return {_placed(name, places): tensor for name, tensor in model.state_dict().items()}


def _placed(name: str, places: Mapping[str, str]) -> str:
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        if place := places.get(".".join(parts[:length])):
            return ".".join([place, *parts[length:]])
    return name


def _store_weights(pair: Pair, folder: Path, look: Callable[[Side, LanguageModel], None]) -> dict[str, Path]:
    """The instruct model's tensors by name, each in a file of its own. What accelerate keeps on disk is left out."""
    loaded, stored = pair.open("instruct"), {}
    look("instruct", loaded)
    for number, (name, tensor) in enumerate(tensors_by_place(loaded).items()):
        if tensor.device.type != "meta":
            stored[name] = folder / f"{number}.safetensors"
            save_file({"tensor": smallest_exact(tensor).cpu().contiguous()}, stored[name])
    return stored


def _compare_weights(
    pair: Pair, stored: Mapping[str, Path], look: Callable[[Side, LanguageModel], None]
) -> list[dict[str, Any]]:
    """One row per tensor that both models have in the same shape. Embeddings are compared on the vocabulary rows that
    both have."""
    loaded, rows = pair.open("reasoning"), []
    look("reasoning", loaded)
    child = tensors_by_place(loaded)
    for name, file in stored.items():
        before, after = load_file(file)["tensor"], child.get(name)
        if after is None or after.shape[1:] != before.shape[1:]:
            continue
        if len(after.shape) == 2 and after.shape != before.shape and not name.startswith("layers."):
            before, after = before[: len(after)], after[: len(before)]
        if after.shape != before.shape:
            continue
        difference, norm = squared_norms(after.cpu(), before)
        if not math.isfinite(difference + norm):
            side = "instruct" if not math.isfinite(norm) else "reasoning"
            raise MechdriftError(
                f"the weights of {pair.source(side).name} are damaged ({name} holds NaN or infinite numbers): get the "
                "model again."
            )
        layer = re.match(r"layers\.(\d+)\.", name)
        module = name.rsplit(".", 2)[-2] if "." in name else name
        rows.append(
            {
                "layer": int(layer[1]) if layer else -1,
                "module": module,
                "squared": difference,
                "norm": norm,
            }
        )
    return rows


def layer_change(table: pd.DataFrame) -> pd.DataFrame:
    """`weight_change` summed over each layer's modules: `layer`, `change`."""
    squared = (
        table.assign(squared=table.change**2 * table.norm).groupby("layer", as_index=False)[["squared", "norm"]].sum()
    )
    return squared.assign(change=(squared.squared / squared.norm) ** 0.5)[["layer", "change"]]
