"""One cell, in this process: note that it begins, do it (`doing`), and note what became of it.

Modules that open models are imported for the first cell that needs them, so that an empty cell costs nothing. They are
imported before that cell begins, so that a process that dies meanwhile has begun no cell.
"""

import time
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mechdrift.errors import OUT_OF_MEMORY, is_out_of_memory
from mechdrift.records import MechdriftError
from mechdrift.studies.cells import NOTHING, Cell
from mechdrift.studies.ledger import Ledger
from mechdrift.studies.storage import Store
from mechdrift.studies.study import Study

if TYPE_CHECKING:
    from mechdrift.studies.doing import Hands


@dataclass
class Worker:
    """Does cells of one study on one device, one after the other."""

    study: Study
    device: str = "auto"
    ledger: Ledger = field(init=False)
    hands: "Hands | None" = None

    def __post_init__(self):
        self.ledger = Ledger(store=Store(self.study.out))

    def run(self, cell: Cell) -> dict[str, Any]:
        """Do one cell and note its end; an error is noted as well, and raised."""
        hands = None if cell.step == NOTHING else self._hands()
        begun, start = self.ledger.begin(cell, self.device), time.perf_counter()
        try:
            facts = {} if hands is None else hands.do(cell)
        except Exception as error:
            self.ledger.fail(cell, sentence_of(error), traceback.format_exc())
            raise
        self.ledger.end(cell, begun, time.perf_counter() - start, **facts)
        return facts

    def _hands(self) -> "Hands":
        from mechdrift.studies.doing import Hands

        if self.hands is None:
            self.hands = Hands(study=self.study, store=self.ledger.store, device=self.device)
        return self.hands


def sentence_of(error: BaseException) -> str:
    """An error in one line: a `MechdriftError` as it is, any other with its type."""
    if isinstance(error, MemoryError | RuntimeError) and is_out_of_memory(error):
        return OUT_OF_MEMORY
    told = " ".join(str(error).split())[:500]
    return told if isinstance(error, MechdriftError) else f"{type(error).__name__}: {told}"
