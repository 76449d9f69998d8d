"""Puts a mutant in the place of the function that it was made of, in this process, whoever has imported that."""

from __future__ import annotations

import functools
import importlib
from types import FunctionType

from .mutation import Mutant


def put_in_place(mutant: Mutant) -> None:
    """Every caller runs ``mutant`` from now on. There is no way back, so do it in a process of its own.

    Raises:
        LookupError: there is no such function, or no such code.
    """
    code = mutant.code()
    for function in functions_called(mutant.module, mutant.function):
        if code is not None and function.__code__.co_firstlineno == code.co_firstlineno:
            function.__code__ = code
            return
    raise LookupError(mutant.name)


def functions_called(module: str, name: str) -> list[FunctionType]:
    """The functions of that qualified name: a property can have several."""
    found: object = importlib.import_module(module)
    for part in name.split("."):
        found = vars(found)[part]
    if isinstance(found, property):
        return [each for each in (found.fget, found.fset, found.fdel) if isinstance(each, FunctionType)]
    if isinstance(found, staticmethod | classmethod):
        found = found.__func__
    if isinstance(found, functools.cached_property):
        found = found.func
    found = getattr(found, "__wrapped__", found)
    return [found] if isinstance(found, FunctionType) else []
