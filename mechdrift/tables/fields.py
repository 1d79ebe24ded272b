"""The fields of a JSON or TOML file, checked by pydantic and told in this project's words.

A file's shape is a `TypedDict`; `fault_of(shape, value)` says what does not fit, as half a sentence that the caller
puts behind the file's name. pydantic's own texts are for programmers, and never shown.
"""

from functools import cache
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

OPEN = ConfigDict(extra="allow", strict=True)
CLOSED = ConfigDict(extra="forbid", strict=True)
EXPECTED = {  # by pydantic's types of error
    "string_type": "a text",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a table of names and values",
}
QUOTED = 60  # characters of a strange value


def fault_of(shape: Any, value: object) -> str:
    """The first thing in which a value does not fit a shape, such as "'pair.route' should be a text, not 3"; empty
    where it fits."""
    try:
        _adapter(shape).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    else:
        return ""
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f"{name!r} is missing"
    if first["type"] == "extra_forbidden":
        return f"{name!r} is unknown"
    expected = EXPECTED.get(first["type"]) or first.get("ctx", {}).get("expected", "of another kind")
    subject = repr(name) if name else "all of it"
    return f"{subject} should be {expected}, not {first['input']!r:.{QUOTED}}"


@cache
def _adapter(shape: Any) -> TypeAdapter:
    return TypeAdapter(shape)
