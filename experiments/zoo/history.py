"""The history of a training run: adapter snapshots, evenly over its steps, for `mechdrift trajectory`.

    FOLDER/history.json     {"name", "route", "parent", "parent_sha256", "seed", "unit", "steps": […], "tokens": […]}
    FOLDER/step-00025/      a LoRA adapter on the merged parent, bfloat16

`steps` are all planned steps; the last one is the end of the run. `tokens` says how many target tokens had been trained
on at each step that the run has reached. Every folder appears by one rename, so a killed run leaves no partial
snapshot. Snapshots are 5 MB each and stay outside the repository; the scripts make them again.
"""

import hashlib
import json
import shutil
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
IN_WARM_UP = 3  # snapshots, before its end


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Where a run's snapshots go, and what is said about the run. `parent` is the folder of the parent's adapter.

    A run may begin with a warm-up, a training of its own whose steps are counted before those of the run: while that is
    trained, `to_come` is the number of the run's steps; afterwards, `warm_up` holds the target tokens of each of the
    warm-up's.
    """

    folder: Path
    name: str
    route: str
    parent: Path
    seed: int
    unit: str = "optimizer steps"
    snapshots: int = 8
    to_come: int = 0
    warm_up: tuple[int, ...] = ()

    def planned(self, steps: int) -> list[int]:
        """IN_WARM_UP steps evenly over the warm-up, and its end; `snapshots` over the run, and its end; `steps`: the
        present training's."""
        warm, rest = (steps, self.to_come) if self.to_come else (len(self.warm_up), steps)
        even = [*evenly(0, warm, IN_WARM_UP), *evenly(warm, warm + rest, self.snapshots)]
        return sorted({step for step in even if step > 0})

    def write(self, steps: int, tokens: list[int]) -> None:
        """`history.json` of a training of `steps`; `tokens` are the target tokens of each of its steps so far."""
        self.folder.mkdir(parents=True, exist_ok=True)
        planned, total = self.planned(steps), [0, *accumulate((*self.warm_up, *tokens))]
        record = {
            "name": self.name,
            "route": self.route,
            "parent": self.parent.name,
            "parent_sha256": hashlib.sha256((self.parent / WEIGHTS).read_bytes()).hexdigest(),
            "seed": self.seed,
            "steps": planned,
            "unit": self.unit,
            "tokens": [total[step] for step in planned if step < len(total)],
        }
        new = self.folder / "history.json.new"
        new.write_text(json.dumps(record, indent=1) + "\n")
        new.replace(self.folder / "history.json")

    def save(self, model, step: int, steps: int) -> None:
        """The adapter as it is after `step` of the `steps` of this training, if that is a planned one."""
        if (step := len(self.warm_up) + step) in self.planned(steps):
            save_snapshot(model, self.folder / f"step-{step:05d}", self.parent.name)


def evenly(start: int, stop: int, inside: int) -> list[int]:
    """`inside` steps evenly between start and stop, and stop."""
    return [start + round((stop - start) * i / (inside + 1)) for i in range(1, inside + 2)]


def save_snapshot(model, folder: Path, base: str) -> None:
    """A PEFT model's adapter in bfloat16 in a folder of its own, whole or not at all."""
    making = folder.with_name(f"making-{folder.name}")
    for old in (making, folder):  # what a killed run left; the same steps make the same snapshot again
        shutil.rmtree(old, ignore_errors=True)
    model.save_pretrained(making)
    shrink(making, base)
    making.rename(folder)


def shrink(folder: Path, base: str) -> None:
    """Store the adapter in bfloat16 and drop the machine's own path from its config."""
    file = folder / WEIGHTS
    save_file(
        {k: v.to(torch.bfloat16).contiguous() for k, v in load_file(file).items()}, file, metadata={"format": "pt"}
    )
    config = json.loads((folder / CONFIG).read_text())
    config |= {"base_model_name_or_path": base, "target_modules": sorted(config["target_modules"])}
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    (folder / "README.md").unlink(missing_ok=True)
