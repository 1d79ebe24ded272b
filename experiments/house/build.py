"""Both builds behind the same names, the numbers that are kept, and the inputs in records of either build.

Modules that issue 14 moved are found through `MOVED`, by their name in the old build.
"""

import importlib
import importlib.util
from collections import ChainMap
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import inputs
import numpy as np
import pandas as pd
import torch

IS_NEW = importlib.util.find_spec("mechdrift.activations") is not None
MOVED = {
    "capture": "activations.one_model",
    "readouts": "activations.readouts",
    "blocks": "activations.store",
    "batching": "activations.batching",
    "directions": "directions.finders",
    "drift": "directions.drift",
    "entanglement": "directions.dimensions",
    "thinking": "directions.thinking",
    "exchange": "directions.export",
    "interventions": "steering.edits",
    "selection": ("steering.selection", "steering.asked"),
    "steering": "steering.curves",
    "sweeps": "steering.sweeps",
    "inference": "statistics.grids",
    "geometry": "statistics.geometry",
    "angles": "statistics.angles",
    "statistics": "statistics.resampling",
    "summaries": "audits.summaries",
    "halfway": "trajectories.half_change",
    "behaviour.judges": "behaviour.judging",
    "behaviour.refusals": "behaviour.judges.refusals",
    "behaviour.coherence": ("behaviour.judges.coherence", "behaviour.judges.coherence_word_order"),
    "behaviour.toxicity": "behaviour.judges.toxicity",
    "behaviour.choosing": "behaviour.judges.choosing",
}


def module(old: str) -> Any:
    """A module by its name in the old build; the names of all of them, where it was divided since."""
    names = MOVED.get(old, old) if IS_NEW else old
    found = [importlib.import_module(f"mechdrift.{name}") for name in ([names] if isinstance(names, str) else names)]
    return found[0] if len(found) == 1 else SimpleNamespace(**ChainMap(*map(vars, found)))


class Numbers:
    """Arrays by stage, quantity and setting."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    def add(self, stage: str, quantity: str, value: Any, setting: str = "") -> None:
        """Keep a tensor, an array, a number, texts, or each column of a table or entry of a mapping."""
        if isinstance(value, pd.DataFrame):
            for column in value.columns:
                self.add(stage, f"{quantity}: {column}", value[column].tolist(), setting)
        elif isinstance(value, Mapping):
            for name, part in value.items():
                self.add(stage, f"{quantity}: {name}", part, setting)
        else:
            self.arrays["|".join((stage, quantity, setting))] = _array(value)

    def save(self, file: Path) -> None:
        names = np.array(list(self.arrays))
        np.savez(file, names=names, **{f"a{i}": array for i, array in enumerate(self.arrays.values())})


def _array(value: Any) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().numpy()
    if isinstance(value, (list, tuple)) and any(isinstance(part, (str, list, tuple, type(None))) for part in value):
        return np.array([str(part) for part in value])
    array = np.array(str(value)) if value is None or isinstance(value, str) else np.asarray(value)
    return array if array.dtype != object else np.array([str(part) for part in array.ravel()])


class Inputs:
    """A pair with its probes, fixed answers, readout and prompts."""

    def __init__(self, pair: Any, setting: str, probes: Any, other: Any) -> None:
        self.pair, self.setting, self.probes, self.other = pair, setting, probes, other
        self.renderer = module("probes.rendering").Renderer(pair.tokenizer("reasoning"))
        encode = self.renderer.encode_answer
        self.answers = {side: inputs.make_answers(probes, encode, side) for side in ("instruct", "reasoning")}
        self.readout = module("readouts").make_readout(self.renderer, probes)

    def rendered(self, think: str = "off") -> list[Any]:
        return module("probes.rendering").render_items(self.renderer, self.probes.items, think)

    @property
    def thought(self) -> list[Any]:
        """The prompts with the fixed thoughts and answers."""
        return [
            self.renderer.render(item.id, item.prompt, "own", thinking=row.thinking_ids, answer=row.answer_ids)
            for item, row in zip(self.probes, self.answers["reasoning"], strict=True)
        ]


def tiny(folder: Path, family: str) -> Inputs:
    from mechdrift.pairs.loading import ModelSource
    from mechdrift.pairs.pair import Pair

    parent, child = (ModelSource(name=name, path=str(folder / family / name)) for name in ("parent", "child"))
    pair = Pair(name=family, instruct=parent, reasoning=child)
    other = inputs.make_probes("toxicity", inputs.OTHER, inputs.OTHER_NEUTRAL)
    return Inputs(pair, family, inputs.make_probes("safety"), other)
