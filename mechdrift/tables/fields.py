"""The fields of a JSON or TOML file, checked by pydantic; faults are described in this project's words.

A file's shape is a `TypedDict`. `fault_of(shape, value)` says what does not fit, as half a sentence that the caller
puts after the file's name. pydantic's own messages are for programmers, and never shown.
"""

import re
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, NotRequired, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic needs this one below Python 3.12

OPEN = ConfigDict(extra="allow", strict=True)
CLOSED = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
EXPECTED = {  # by pydantic's types of error
    "string_type": "a text",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "is_instance_of": "the name of a file",
    "dict_type": "a table of names and values",
    "mapping_type": "a table of names and values",
}
UNION = re.compile(r"int|float|str|bool|literal\[.*\]")  # what pydantic adds to the name of a field of several kinds
QUOTED = 60  # characters of a value that are shown


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
        return f"{name!r} is unknown; known are {', '.join(get_type_hints(shape))}"
    if "." in name and UNION.fullmatch(str(first["loc"][-1])):
        name = name.removesuffix(f".{first['loc'][-1]}")
    expected = EXPECTED.get(first["type"]) or first.get("ctx", {}).get("expected", "of another kind")
    subject = repr(name) if name else "all of it"
    return f"{subject} should be {expected}, not {first['input']!r:.{QUOTED}}"


@cache
def shape_of(record: type) -> Any:
    """The shape of a file that holds a record's fields: those with a default may be left out."""
    kinds = get_type_hints(record)
    known = {
        field.name: kinds[field.name]
        if field.default is field.default_factory is MISSING
        else NotRequired[kinds[field.name]]
        for field in fields(record)
    }
    shape = TypedDict(record.__name__, known)
    shape.__pydantic_config__ = CLOSED
    return shape


@cache
def _adapter(shape: Any) -> TypeAdapter:
    return TypeAdapter(shape)
