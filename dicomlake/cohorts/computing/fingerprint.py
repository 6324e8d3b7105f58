"""What code made a result: its text, what it rests on, and a hash that only the same code has."""

from __future__ import annotations

import functools
import hashlib
import inspect
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any

from dicomlake import __version__

_NAMED = ("numpy", "xarray", "dask", "SimpleITK", "pandas", "scipy", "skimage", "torch")


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A function as it was.

    name: module and qualified name. code: its source text; empty where Python does not know it.
    sha256: over the code, the functions of the same program that it names, the values it closes over, and
    the version of dicomlake; None where these cannot be told apart: such code is never taken for the same.
    """

    name: str
    code: str
    sha256: str | None


def fingerprint(function: Callable[..., Any], arguments: Any = ()) -> Fingerprint:
    """The function and the arguments that come with it."""
    bound: list[Any] = [arguments]
    while isinstance(function, functools.partial):
        bound.append((function.args, function.keywords))
        function = function.func
    of = (getattr(function, "__module__", None), getattr(function, "__qualname__", type(function).__name__))
    name = ".".join(filter(None, of))
    code = _source(function)
    parts = [__version__, code or _of_library(function), _token(bound), *_beneath(function, set())]
    if None in parts:
        return Fingerprint(name, code, None)
    return Fingerprint(name, code, hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest())


def _source(function: Any) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return ""


def _of_library(function: Any) -> str | None:
    """Name and version of a function without source text; None for one that was typed in and is lost."""
    module = str(getattr(function, "__module__", "") or "")
    top = sys.modules.get(module.partition(".")[0])
    version = getattr(top, "__version__", None)
    return None if version is None else f"{module}.{getattr(function, '__qualname__', '')} {version}"


def _beneath(function: Any, seen: set[int]) -> list[str | None]:
    """Tokens of what a function closes over and of the globals that it names; functions by their source."""
    if not isinstance(function, FunctionType) or id(function) in seen:
        return []
    seen.add(id(function))
    try:
        named = inspect.getclosurevars(function)
    except (TypeError, ValueError):
        return [None]
    found: list[str | None] = []
    for name, value in sorted({**named.globals, **named.nonlocals}.items()):
        if isinstance(value, ModuleType):
            found.append(f"{name} {value.__name__} {getattr(value, '__version__', '')}")
        elif isinstance(value, FunctionType):
            found += [f"{name} {_source(value)}" if _source(value) else _of_library(value)]
            found += _beneath(value, seen) if value.__module__ == function.__module__ else []
        elif isinstance(value, type):
            found.append(f"{name} {_source(value) or _of_library(value)}")
        else:
            token = _token(value)
            found.append(None if token is None else f"{name} {token}")
    return found


def _token(value: Any) -> str | None:
    """A text that is the same for equal values in any process; None where there is none."""
    import dask
    from dask.base import tokenize
    from dask.tokenize import TokenizationError

    try:
        with dask.config.set({"tokenize.ensure-deterministic": True}):
            return str(tokenize(value))
    except (TokenizationError, RuntimeError):
        return None


def versions() -> Mapping[str, str]:
    """Of Python, dicomlake and the libraries that are loaded and take part in numbers."""
    found = {"python": platform.python_version(), "dicomlake": __version__}
    loaded = {name: getattr(sys.modules.get(name), "__version__", None) for name in _NAMED}
    return found | {name: str(version) for name, version in loaded.items() if version}
