"""What a launcher has to offer: workers by name, each of which runs one cell at a time (`local`, `on_ray`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from mechdrift.studies.cells import Cell


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What became of the cell of one worker: nothing, or why it failed; `is_lost` where the worker went with it."""

    worker: str
    why: str = ""
    is_lost: bool = False


@runtime_checkable
class Workers(Protocol):
    """What runs cells: names of workers, each with the bytes of its device, and one cell for each at a time."""

    @property
    def memory(self) -> Mapping[str, int]: ...

    def start(self, worker: str, cell: Cell) -> None:
        """Let an idle worker begin a cell."""
        ...

    def wait(self) -> Sequence[Ended]:
        """Wait until some cell ends."""
        ...
