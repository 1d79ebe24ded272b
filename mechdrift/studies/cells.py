"""A cell: one unit of work of a study, as a line of JSON.

This module needs little more than the standard library, so that a process that only schedules cells stays small.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from mechdrift.records.notebook import counted

NOTHING = "nothing"  # a cell that does nothing, to measure what the rest costs
JOIN = "join"  # steps that join parts are called join-answers, …


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One unit of work.

    `run` is the run's name in the study. `after` holds the ids of the cells that must be done before. `model` names the
    model or pair that the cell opens, so that cells of one model can follow each other on one device. `tokens` (read
    and written, at most) and `memory` (bytes) are estimates; None where they are not known before the pilot or without
    the models' files. `device` is `accelerator` for cells that open a model and `cpu` for the others.
    """

    id: str
    run: str
    pair: str
    checkpoint: str
    preset: str
    seed: int
    step: str
    shard: str = "1/1"
    dimensions: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    model: str = ""
    tokens: int | None = None
    memory: int | None = None
    device: str = "accelerator"

    @property
    def line(self) -> str:
        """The cell as a line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, line: str) -> "Cell":
        """The cell of a line of JSON."""
        row = json.loads(line)
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in row.items()})

    @property
    def told(self) -> str:
        """The run and the step in a few words, for messages."""
        return f"{self.run}, {self.step}" + (f" {self.shard}" if self.shard != "1/1" else "")


def waves_of(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Cells that can run side by side, wave after wave."""
    depth: dict[str, int] = {}
    for cell in cells:
        depth[cell.id] = 1 + max((depth.get(id, -1) for id in cell.after), default=-1)
    waves: list[list[Cell]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for cell in cells:
        waves[depth[cell.id]].append(cell)
    return waves


def as_table(cells: Sequence[Cell]) -> str:
    """A plan as a table for a terminal: the number of cells of each step, with tokens and memory per cell and in
    all."""
    lines = [f"{'step':18} {'cells':>6} {'device':12} {'tokens each':>13} {'tokens':>15} {'memory each':>12}"]
    for step in dict.fromkeys(cell.step for cell in cells):
        mine = [cell for cell in cells if cell.step == step]
        tokens = [cell.tokens for cell in mine if cell.tokens is not None]
        memory = [cell.memory for cell in mine if cell.memory is not None]
        known, unknown = len(tokens) == len(mine), "?" if mine[0].model else ""  # joining takes next to nothing
        lines.append(
            f"{step:18} {len(mine):>6,} {mine[0].device:12} "
            f"{f'{max(tokens):,}' if known else unknown:>13} {f'{sum(tokens):,}' if known else unknown:>15} "
            f"{f'{max(memory) / 1e9:.1f} GB' if len(memory) == len(mine) else unknown:>12}"
        )
    runs = len({cell.run for cell in cells})
    models = len({cell.model for cell in cells if cell.model})
    total = sum(cell.tokens or 0 for cell in cells)
    lines.append(f"{'all':18} {len(cells):>6,} {'':12} {'':>13} {f'{total:,}':>15}")
    lines.append(f"{counted(runs, 'run')}; {models:,} models and pairs to open; tokens: read and written, at most")
    return "\n".join(lines)
