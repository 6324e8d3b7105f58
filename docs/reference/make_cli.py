"""Write cli.md from the verbs themselves: `python docs/reference/make_cli.py`.

The source is what typer is given: signatures, help texts, examples. A test compares the page with it.
"""

from __future__ import annotations

import enum
import inspect
import re
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from typer.models import ArgumentInfo, OptionInfo

from dicomlake.cli.app import app

PAGE = Path(__file__).with_name("cli.md")
INTRODUCTION = """# Command line

Written by `docs/reference/make_cli.py` from the program's own help.

The verbs are the same as in Python and mean the same. `--lake` defaults to the environment variable
`DICOMLAKE_LAKE`, then to the current folder. `--json` prints one JSON value for programs; tables become
tab-separated lines when the output is not a terminal.

Exit status: 0 fine, 1 findings or failure, 2 wrong usage, 130 interrupted.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([INTRODUCTION, *(part for verb in verbs() for part in _verb(*verb))])


def verbs() -> list[tuple[str, Callable[..., None], str]]:
    """Name, function and examples of each verb; a verb within a group has both names."""
    found = [(str(command.name), command) for command in app.registered_commands]
    for group in app.registered_groups:
        inner = group.typer_instance.registered_commands if group.typer_instance else []
        found += [(f"{group.name} {command.name}", command) for command in inner]
    return [(name, c.callback, str(c.epilog)) for name, c in found if c.callback is not None]


def examples(epilog: str) -> list[str]:
    """The command lines in the examples below a verb's help."""
    return re.findall(r"\$ (.*?)\[/cyan\]", epilog)


def _verb(name: str, function: Callable[..., None], epilog: str) -> Iterator[str]:
    yield f"## dicomlake {name}\n"
    yield inspect.cleandoc(function.__doc__ or "") + "\n"
    yield from _parameters(function)
    yield "```sh"
    yield from examples(epilog)
    yield "```\n"


def _parameters(function: Callable[..., None]) -> Iterator[str]:
    yield "| | |\n|---|---|"
    hints = typing.get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        kind, info = typing.get_args(hints[name])[:2]
        words = str(info.help)
        if isinstance(kind, enum.EnumMeta):
            words += f" One of {', '.join(f'`{one.value}`' for one in kind)}."  # type: ignore[var-annotated]
        default = parameter.default
        if default is not inspect.Parameter.empty and default not in (None, False):
            words += f" Default: {_default(name, default)}."
        yield f"| `{_written(name, kind, info)}` | {words} |"
    yield ""


def _default(name: str, default: Any) -> str:
    if default is True:
        return f"`--{name}`"
    return f"`{default.value if isinstance(default, enum.Enum) else default}`"


def _written(name: str, kind: Any, info: ArgumentInfo | OptionInfo) -> str:
    """How a parameter is written on the command line."""
    if isinstance(info, ArgumentInfo):
        return info.metavar or name.upper()
    first = info.default  # within Annotated, typer has the first declaration here
    declared = [first] if isinstance(first, str) and first.startswith("-") else list(info.param_decls or ())
    if kind is bool and not declared:
        return f"--{name} / --no-{name}"
    flag = declared[0] if declared else f"--{name}"
    return flag if _is_flag(kind) else f"{flag} {info.metavar or 'N'}"


def _is_flag(kind: Any) -> bool:
    """bool, or bool that may be left open."""
    return kind is bool or bool in typing.get_args(kind)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
