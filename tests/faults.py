"""Faults on purpose: processes that are killed at each of their writes, and starts that come in between.

    kill_at_every_write(work)    forks a process that does `work` and dies at its first write; forks again, to die at
                                 the first write that was not reached before; and so on, until one ends by itself
    second_starts(folder)        processes that try to go on with a run while another one writes to it

A write is the moment in which a finished file gets its name (`os.replace`). A process dies right before or right after
it. Children are forked, so that what they need is imported once; without `fork` (Windows) these tests are left out.
"""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Collection
from pathlib import Path
from random import Random

import torch

from mechdrift.records import MechdriftError
from mechdrift.runs import files, open_run

ENDED, FAILED, SAID = 0, 1, 3  # exit codes of a child: well, with a traceback, with a sentence


def kill_at_every_write(work: Callable[[], object], before: bool = True, only: Collection[str] = ()) -> list[str]:
    """Do `work` until it ends by itself, in processes of which each dies at the first write that none before died at.

    `before`: it dies before the file has its name, or right after. `only`: files that it dies at; all if empty. Returns
    the writes at which a process died.
    """
    killed: list[str] = []
    while name := _forked(work, lambda write: _die_at_new(killed, before, only, write)):
        assert len(killed) < 500, f"it does not end: {killed[-5:]}"
        killed.append(name)
    return killed


def second_starts(folder: Path, count: int, seconds: float, seed: int = 0) -> list[int]:
    """Exit codes of `count` processes that try to go on with a run, each at a random moment within `seconds`."""
    rng = Random(seed)
    children = [child_of(lambda: _go_on(folder), rng.uniform(0, seconds)) for _ in range(count)]
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def _go_on(folder: Path) -> None:
    files.PATIENCE = 0.05
    run = open_run(folder, {}, {"config": {}})
    with run.locked():
        run.write_text("intruder", "should not be here")


def child_of(work: Callable[[], object], wait: float = 0.0) -> int:
    """The id of a process that does `work` after some seconds and ends with one of the codes above."""
    if child := os.fork():
        return child
    code = FAILED
    try:
        time.sleep(wait)
        work()
        code = ENDED
    except MechdriftError as error:
        print(error, file=sys.stderr)
        code = SAID
    except BaseException:  # noqa: BLE001 - the child must not go on as a second pytest
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _forked(work: Callable[[], object], prepare: Callable[[int], None]) -> str:
    """At which write a child that does `work` died; nothing where it ended well."""
    reader, write = os.pipe()

    def prepared() -> None:
        # PyTorch's pool of threads does not survive a fork. It is made anew here, before the threads that load weights
        # ask for it all at once, which it does not withstand.
        torch.set_num_threads(1)
        prepare(write)
        work()

    child = child_of(prepared)
    os.close(write)
    with os.fdopen(reader) as pipe:
        name = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == (-signal.SIGKILL if name else ENDED), f"exit code {code} at {name!r}: see above"
    return name


def _die_at_new(killed: Collection[str], before: bool, only: Collection[str], write: int) -> None:
    """From now on, the first write that is not among those `killed` ends this process."""
    replace = os.replace

    def replace_or_die(source: str | Path, target: str | Path) -> None:
        name = _name(Path(source), Path(target))
        dies = name not in killed and (not only or Path(target).name in only)
        if not (dies and before):
            replace(source, target)
        if dies:
            os.write(write, name.encode())
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replace_or_die


def _name(source: Path, target: Path) -> str:
    """A write's name: folder, file, and of run.json, which is written after each stage, how many had ended."""
    stages = source.read_text().count('"seconds"') if target.name == "run.json" else ""
    return f"{target.parent.name}/{target.name} {stages}".strip()
