from .cells import Cell, plan_cells
from .launch import run_study
from .status import Status, status_of
from .study import Study, read_study

__all__ = ["Cell", "Status", "Study", "plan_cells", "read_study", "run_study", "status_of"]
