"""Under test every function of the package checks its annotations at each call: types by beartype, shapes by jaxtyping.

The package is imported with `@check` above each of its functions and dataclasses, closures among them. jaxtyping's own
import hook does this, too, but costs a fifth of the suite's time: it binds the arguments and checks them twice, whether
or not an array is among them, and compiles other packages anew. Here beartype checks once, and only a function whose
annotations name a shape gets the context in which its axes agree. The checks of a function are written when it is first
called, because a process calls few of the thousands that it imports.
"""

import ast
import dataclasses
import functools
import inspect
import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder, SourceFileLoader
from types import CodeType, ModuleType, SimpleNamespace
from typing import get_type_hints

import jaxtyping
from beartype import BeartypeConf, beartype

PACKAGE = "mechdrift"


def check(function):
    """The function with checks of its annotations; of a class, which must be a dataclass, those of its fields."""
    if inspect.isclass(function):
        if dataclasses.is_dataclass(function):
            function.__init__ = check(function.__init__)
        return function
    checked = None

    @functools.wraps(function)
    def call(*args, **kwargs):
        nonlocal checked
        checked = checked or write_checks(function)
        return checked(*args, **kwargs)

    return call


def write_checks(function: Callable) -> Callable:
    hints = inspect.get_annotations(function)
    function.__annotations__ = {name: hint for name, hint in hints.items() if is_known(hint, function.__globals__)}
    checked = beartype(function, conf=BeartypeConf(is_pep484_tower=True))  # an int is a float
    return jaxtyping.jaxtyped(checked, typechecker=None) if "jaxtyping." in repr(hints) else checked


def is_known(hint: object, names: dict[str, object]) -> bool:
    """Whether the names in a hint exist: a quoted one may be imported for type checkers only."""
    try:
        get_type_hints(SimpleNamespace(__annotations__={"hint": hint}), names)
    except NameError:
        return False
    return True


class Loader(SourceFileLoader):
    """Writes the decorator next to each function, and before each class's own, which see the class first."""

    def get_code(self, fullname: str) -> CodeType:
        tree = ast.parse(self.get_data(self.path), self.path)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                mark = ast.copy_location(ast.Name("__check__", ast.Load()), node)
                node.decorator_list.insert(0 if isinstance(node, ast.ClassDef) else len(node.decorator_list), mark)
        return compile(tree, self.path, "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        module.__check__ = check
        super().exec_module(module)


class Finder(MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] != PACKAGE:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = Loader(spec.loader.name, spec.loader.path)
        return spec


sys.meta_path.insert(0, Finder())
