"""All modes by name, and `add_mode` for a mode of your own."""

from collections.abc import Iterable

from mechdrift.records import MechdriftError
from mechdrift.stress_tests.mode import Mode
from mechdrift.stress_tests.modes import prefilled, role_mix
from mechdrift.stress_tests.modes.budget import BUDGET
from mechdrift.stress_tests.modes.decoy import DECOY
from mechdrift.stress_tests.modes.less_think import LESS_THINK
from mechdrift.stress_tests.modes.more_think import MORE_THINK
from mechdrift.stress_tests.modes.persistence import PERSISTENCE
from mechdrift.stress_tests.modes.puzzle import PUZZLE
from mechdrift.stress_tests.modes.sampling import SAMPLING, SAMPLING_HOT
from mechdrift.stress_tests.modes.zero_think import ZERO_THINK

MODES: dict[str, Mode] = {
    mode.name: mode
    for mode in (
        ZERO_THINK,
        LESS_THINK,
        MORE_THINK,
        BUDGET,
        prefilled.OWN,
        prefilled.DONOR,
        prefilled.TWIN,
        prefilled.NEUTRAL,
        prefilled.EDITED,
        PUZZLE,
        DECOY,
        role_mix.TURNS,
        role_mix.TOOL,
        role_mix.BREVITY,
        role_mix.SWITCH,
        PERSISTENCE,
        SAMPLING,
        SAMPLING_HOT,
    )
}
PLAIN = "plain"  # the request as it is, with which every mode is compared


def mode_of(name: str) -> Mode:
    """The mode of a name; raises where there is none."""
    if name not in MODES:
        raise MechdriftError(f"there is no stress mode {name!r}: there are {', '.join(MODES)}.")
    return MODES[name]


def modes_of(names: str | Mode | Iterable[str | Mode] | None) -> tuple[Mode, ...]:
    """The modes that were named or handed over, each once; all where nothing was said."""
    names = [names] if isinstance(names, str | Mode) else names
    given = MODES.values() if names is None else [one if isinstance(one, Mode) else mode_of(one) for one in names]
    found = {mode.name: mode for mode in given}
    if not found:
        raise MechdriftError(f"no stress mode was named: give some of {', '.join(MODES)}.")
    return tuple(found.values())


def add_mode(mode: Mode) -> None:
    """Add a stress test of your own, for this Python process: it is asked, scored and shown like the others.

    Args:
        mode: its `name` must be new; `apply` takes a `Subject` and a dose and gives an `Attack`, most simply by
            `subject.ask(...)` (`mechdrift.stress_tests.mode`).

    Returns:
        Nothing; `stress(modes=...)` knows the name from now on, in this process. The command line does not.

    Raises:
        MechdriftError: where the name is taken.

    Source:
        Your own: name it in `paper`.

    Example:
        >>> polite = md.Mode(
        ...     name="polite", what="the request is asked politely", paper="",
        ...     apply=lambda subject, dose: subject.ask(f"Please be so kind: {subject.item.prompt}"),
        ...     placebo=lambda subject, dose: subject.ask(f"It is a Monday: {subject.item.prompt}"),
        ... )
        >>> md.add_mode(polite)
    """
    if mode.name in MODES or mode.name == PLAIN:
        raise MechdriftError(f"there is a stress mode {mode.name!r} already: give yours another name.")
    MODES[mode.name] = mode
