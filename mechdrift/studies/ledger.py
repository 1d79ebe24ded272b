"""The state of each cell, as files of the study, so that any process can read it and the same command goes on.

    study.json                  name, shards, options and version: another study is refused
    plan.jsonl                  the cells
    cells/ID.running.json       host and process that work on it, since when, and how many times it was begun
    cells/ID.done.json          seconds, tokens written, host and device
    cells/ID.failed.json        the sentence of the error, and its traceback

A process writes only the files of the cell that it works on. It writes the file `done` last, so a cell whose process
dies does not count as finished. Durations come from the clock of the machine that did the work.
"""

import json
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mechdrift.records import MechdriftError
from mechdrift.runs import version_of
from mechdrift.studies.cells import Cell
from mechdrift.studies.storage import Store
from mechdrift.studies.study import Study

STATES = ("running", "failed", "done")
AHEAD = 120.0  # seconds that another machine's clock may be ahead before a note says so


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """The states of a study's cells in its store."""

    store: Store

    def open(self, study: Study, cells: Sequence[Cell]) -> None:
        """Begin a study, or go on with it; raises where the folder belongs to another one."""
        identity = {"schema": 1, **study.identity}
        stored = self.store.read("study.json")
        if stored is not None:
            self._check(self._parsed("study.json", stored), identity)
        elif self.store.names(""):
            raise MechdriftError(f"{self.store.url} is not empty and holds no study: give another out.")
        told = {"mechdrift": version_of("mechdrift"), **identity}
        self.store.write("study.json", (json.dumps(told, indent=2, default=str) + "\n").encode())
        self.store.write("plan.jsonl", "".join(f"{cell.line}\n" for cell in cells).encode())

    def _check(self, stored: dict[str, Any], identity: dict[str, Any]) -> None:
        theirs = json.loads(json.dumps(identity, default=str))
        if different := [key for key in theirs if stored.get(key) != theirs[key]]:
            key = different[0]
            raise MechdriftError(
                f"{self.store.url} holds another study ({key} is {stored.get(key)!r} there, {theirs[key]!r} here): "
                "give another out, or delete that one."
            )

    def plan(self) -> list[Cell]:
        """The cells as they were planned; raises where no study has begun here."""
        stored = self.store.read("plan.jsonl")
        if stored is None:
            raise MechdriftError(f"{self.store.url} holds no study that has begun: start it with 'mechdrift run'.")
        try:
            return [Cell.read(line) for line in stored.decode().splitlines()]
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise self._damaged("plan.jsonl") from error

    def states(self) -> dict[str, str]:
        """The latest state of every cell that was begun, by id; from the names of the files alone."""
        found: dict[str, str] = {}
        for name in self.store.names("cells"):
            id, _, state = name.removesuffix(".json").partition(".")
            if state in STATES and STATES.index(state) >= STATES.index(found.get(id, STATES[0])):
                found[id] = state
        return found

    def facts(self, id: str, state: str) -> dict[str, Any]:
        """The content of a cell's file of one state; empty where the file is gone."""
        name = f"cells/{id}.{state}.json"
        return self._parsed(name, self.store.read(name) or b"{}")

    def _parsed(self, name: str, stored: bytes) -> dict[str, Any]:
        """The table in one of the files; raises where it holds something else."""
        try:
            found = json.loads(stored)
        except (ValueError, RecursionError) as error:
            raise self._damaged(name) from error
        if not isinstance(found, dict):
            raise self._damaged(name)
        return found

    def _damaged(self, name: str) -> MechdriftError:
        return MechdriftError(f"{self.store.url}/{name} is damaged: delete it and start 'mechdrift run' again.")

    def begin(self, cell: Cell, device: str) -> dict[str, Any]:
        """Note that this process begins a cell."""
        before = self.facts(cell.id, "running") or self.facts(cell.id, "failed")
        facts = {"starts": before.get("starts", 0) + 1, "host": socket.gethostname(), "pid": os.getpid()}
        facts |= {"device": device, "since": time.time(), "step": cell.step, "run": cell.run}
        self._write(cell.id, "running", facts)
        self._forget(cell.id, "failed")
        return facts

    def end(self, cell: Cell, begun: dict[str, Any], seconds: float, **facts: Any) -> None:
        """Note that it is done."""
        self._write(cell.id, "done", begun | {"seconds": round(seconds, 3)} | facts)
        self._forget(cell.id, "running", "failed")

    def fail(self, cell: Cell, why: str, trace: str = "", **facts: Any) -> None:
        """Note that it failed, and why."""
        begun = self.facts(cell.id, "running")
        self._write(cell.id, "failed", begun | {"why": why, "trace": trace, "step": cell.step, "run": cell.run} | facts)
        self._forget(cell.id, "running")

    def _write(self, id: str, state: str, facts: dict[str, Any]) -> None:
        self.store.write(f"cells/{id}.{state}.json", json.dumps(facts).encode())

    def _forget(self, id: str, *states: str) -> None:
        for state in states:
            self.store.remove(f"cells/{id}.{state}.json")


def clocks_differ(since: float) -> str:
    """A sentence where another machine's clock is ahead of this one's; else nothing."""
    ahead = since - time.time()
    if ahead <= AHEAD:
        return ""
    return (
        f"the clock of another machine is {ahead:,.0f} s ahead of this one's: the time left is not estimated, and no "
        "result is affected."
    )
