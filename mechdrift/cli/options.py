"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

DEBUG = "--debug"
PairArgument = Annotated[str | None, Parameter(help="The pair: the same as --pair.")]
RunFolder = Annotated[Path, Parameter(help="An audit's run folder.")]
StudyFile = Annotated[Path, Parameter(help="A study file (study.toml).")]
Debug = Annotated[
    bool, Parameter(name=DEBUG, help="Show the traceback of an error.", group=Group("Session", sort_key=9))
]
