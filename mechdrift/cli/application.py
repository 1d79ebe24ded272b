"""The commands, in the groups and the order of `mechdrift --help`.

A command is a function: its signature is its arguments and options, its docstring is its help. What stands below
"Examples:" there is printed below the options.
"""

import inspect
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, get_args

from cyclopts import App, Group, Parameter, Token, convert
from cyclopts.help import DefaultFormatter, HelpPanel, InlineText

from mechdrift.cli.audits import audit, repair, stress, trajectory
from mechdrift.cli.inventory import look, pairs, probes
from mechdrift.cli.measuring import bench
from mechdrift.cli.results import card, compare, export, gate, report
from mechdrift.cli.scores import score
from mechdrift.cli.studies import merge, plan, run, status, work

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions

COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Ask the models of a pair": (audit, stress, score, trajectory, repair),
    "Read a finished run (loads no model)": (report, card, compare, gate, export),
    "Many audits, many machines": (plan, run, status, work, merge),
    "What there is to ask": (pairs, probes, look),
    "Measure mechdrift": (bench,),
}


class Reflowed(DefaultFormatter):
    """Help in which each text is one paragraph, wherever its docstring breaks the line, and empty defaults are not
    shown."""

    def __call__(self, console: "Console", options: "ConsoleOptions", panel: HelpPanel) -> None:
        super().__call__(console, options, panel.copy(entries=[_reflowed(entry) for entry in panel.entries]))


def _reflowed(entry: Any) -> Any:
    entry = entry.copy(default=entry.default or None)
    text = getattr(entry.description, "primary_renderable", None)
    return entry.copy(description=InlineText.from_format(_in_one_line(str(text)), "plaintext")) if text else entry


def _in_one_line(text: str) -> str:
    return " ".join(text.split())


def default_in_words(value: Any) -> str:
    """A default as one would type it: nothing where nothing is given, or a switch is off."""
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return "" if value is None or value is False else str(value)


def exact(hint: Any, tokens: Sequence[Token]) -> Any:
    """What was typed, as cyclopts converts it, except that 2.7 is no whole number: cyclopts rounds it to 3."""
    wanted = get_args(hint) or (hint,)
    if int in wanted and float not in wanted:
        for token in tokens:
            if re.fullmatch(r"[+-]?\d*\.\d*", token.value) and not float(token.value).is_integer():
                raise ValueError(f"a whole number is expected, not {token.value}")
    return convert(hint, tokens)


app = App(
    name="mechdrift",
    help="What a reasoning conversion did to a language model's alignment, and where inside it happened.",
    help_epilogue="""Examples:

    mechdrift audit                      the embedded pair, standard preset
    mechdrift audit --preset quick       fewer items and layers
    mechdrift report runs/smollm2-sft    draw the report again, without a model

`mechdrift COMMAND --help` says what a command takes.""",
    default_parameter=Parameter(negative=(), consume_multiple=True, show_default=default_in_words, converter=exact),
    group_parameters=Group("Options", sort_key=5),
    group_commands=Group("General", sort_key=9),
    version_flags=["--version"],
    help_format="plaintext",
    help_formatter=Reflowed(),
    suppress_keyboard_interrupt=False,
)


def _add(command: Callable[..., None], group: Group, place: int) -> None:
    text, _, examples = (inspect.getdoc(command) or "").partition("Examples:\n")
    paragraphs = [_in_one_line(paragraph) for paragraph in text.strip().split("\n\n")]
    app.command(
        command, group=group, sort_key=place, help="\n\n".join(paragraphs), help_epilogue=f"Examples:\n{examples}"
    )


for number, (title, commands) in enumerate(COMMANDS.items()):
    group = Group(title, sort_key=number)
    for place, command in enumerate(commands):
        _add(command, group, place)
