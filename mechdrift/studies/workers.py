"""What a launcher offers (`local`, `on_ray`): workers by name, each of which runs one cell at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from mechdrift.studies.cells import Cell


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The end of one worker's cell: `why` says why it failed (empty where it is done); `is_lost` says that the worker
    was lost with it."""

    worker: str
    why: str = ""
    is_lost: bool = False


@runtime_checkable
class Workers(Protocol):
    """The workers of a launcher: their names, each with the memory of its device in bytes; one cell for each at a
    time."""

    @property
    def memory(self) -> Mapping[str, int]: ...

    def start(self, worker: str, cell: Cell) -> None:
        """Let an idle worker begin a cell."""
        ...

    def wait(self) -> Sequence[Ended]:
        """Wait until some cell ends."""
        ...
