"""Which cell next, on which device? A cell is ready when all that it needs is done.

    a worker asks for work     it gets the first that there is of
                               1. a cell that joins parts, because others wait for it
                               2. a ready cell of the model that the worker has open
                               3. a ready cell of the model with the most ready cells per worker that has it open
    a cell fails               it is tried once more, on another worker where there is one; after that it is given up,
                               with all cells that need it
    a worker is lost           the same; a loss before its cell began does not count as a try, up to five times

Handing out a cell and noting its end take the same short time for ten cells and for a hundred thousand.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from mechdrift.studies.cells import Cell

TRIES = 2
LOSSES = 5  # workers lost before a cell began, after which it is given up


@dataclass
class Schedule:
    """The cells that are still to be done. `memory` is the memory of each worker's device, in bytes."""

    cells: Sequence[Cell]
    done: Collection[str] = ()
    memory: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self):
        finished = set(self.done)
        open_cells = [cell for cell in self.cells if cell.id not in finished]
        self.waiting: dict[str, int] = {}
        self.followers: dict[str, list[Cell]] = defaultdict(list)
        self.ready: dict[str, deque[Cell]] = defaultdict(deque)
        self.open_models: dict[str, str] = {}
        self.tries: Counter[str] = Counter()
        self.losses: Counter[str] = Counter()
        self.failed_on: dict[str, set[str]] = defaultdict(set)
        self.running: dict[str, Cell] = {}
        self.given_up: dict[str, str] = {}
        self.left = len(open_cells)
        for cell in open_cells:
            missing = [id for id in cell.after if id not in finished]
            self.waiting[cell.id] = len(missing)
            for id in missing:
                self.followers[id].append(cell)
            if not missing:
                self.ready[cell.model].append(cell)

    @property
    def is_over(self) -> bool:
        """Whether nothing is left that could still be done."""
        return not self.left

    def next_for(self, worker: str) -> Cell | None:
        """A cell for an idle worker, which is then running; None where none is ready that it can do."""
        for model in self._models(worker):
            queue = self.ready[model]
            for _ in range(len(queue)):
                cell = queue.popleft()
                if cell.id in self.given_up:
                    continue
                if self._can(worker, cell):
                    self.running[worker] = cell
                    if model:
                        self.open_models[worker] = model
                    return cell
                queue.append(cell)
        return None

    def _models(self, worker: str) -> list[str]:
        """Models with ready cells, in the order in which this worker should take them; "" stands for cells that open
        none."""
        holders = Counter(self.open_models.get(name) for name in self.running if name != worker)
        mine = self.open_models.get(worker)
        found = [model for model, queue in self.ready.items() if queue]
        return sorted(found, key=lambda m: (m != "", m != mine, -len(self.ready[m]) / (1 + holders[m])))

    def _can(self, worker: str, cell: Cell) -> bool:
        """Whether a worker may take a cell: it has the memory, and has not failed on it where another could try."""
        if worker in self.failed_on[cell.id] and len(self.failed_on[cell.id]) < len(self.memory):
            return False
        return not cell.memory or cell.memory <= self.memory.get(worker, cell.memory)

    def finish(self, worker: str) -> None:
        """The worker's cell is done."""
        cell = self.running.pop(worker)
        self.left -= 1
        for follower in self.followers.pop(cell.id, ()):
            self.waiting[follower.id] -= 1
            if not self.waiting[follower.id] and follower.id not in self.given_up:
                self.ready[follower.model].append(follower)

    def fail(self, worker: str, why: str, *, begun: bool = True) -> bool:
        """The worker's cell failed, or the worker was lost, before or after the cell had begun. True where it is tried
        once more."""
        cell = self.running.pop(worker)
        self.open_models.pop(worker, None)
        if begun:
            self.tries[cell.id] += 1
            self.failed_on[cell.id].add(worker)
        else:
            self.losses[cell.id] += 1
        if self.tries[cell.id] < TRIES and self.losses[cell.id] < LOSSES:
            self.ready[cell.model].append(cell)
            return True
        self.give_up(cell, why)
        return False

    def give_up(self, cell: Cell, why: str) -> None:
        """Give up a cell and all cells that need it."""
        waiting = [cell]
        while waiting:
            one = waiting.pop()
            if one.id not in self.given_up:
                self.given_up[one.id] = why
                self.left -= 1
                waiting += self.followers.pop(one.id, ())

    def give_up_what_fits_nowhere(self) -> list[tuple[Cell, str]]:
        """Give up the cells that no worker has the memory for. Returns them with the reasons."""
        largest = max(self.memory.values(), default=0)
        found = []
        for cell in self.cells:
            if cell.id in self.waiting and (cell.memory or 0) > largest > 0:
                why = (
                    f"{cell.step} needs about {(cell.memory or 0) / 1e9:.1f} GB, and the largest device here has "
                    f"{largest / 1e9:.1f}: use generation_dtype or dtype bfloat16, device_map auto, or another machine."
                )
                found.append((cell, why))
                self.give_up(cell, why)
        return found
