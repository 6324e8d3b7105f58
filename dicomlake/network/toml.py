"""Settings in TOML, read strictly: what is unknown or of the wrong kind is refused, with place and remedy."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dicomlake.errors import SettingsError


def read(path: Path) -> dict[str, Any]:
    """The tables of a file. Raises SettingsError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}: give a file that is there") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is no TOML: {error}: correct it there") from error


def refuse_unknown(table: Mapping[str, object], known: Iterable[str], where: str) -> None:
    """Raise SettingsError for a key that means nothing, naming the one it resembles."""
    known = sorted(known)
    for key in table:
        if key not in known:
            raise SettingsError(f"{where}: `{key}` is no setting: {nearest(key, known)}")


def resembles(word: str, known: Iterable[str]) -> bool:
    """Whether a word looks like a known one that was mistyped."""
    return bool(difflib.get_close_matches(word.lower(), list(known), 1, 0.75))


def nearest(word: str, known: Iterable[str]) -> str:
    """The remedy for a word that is not among the known ones."""
    known = sorted(known)
    begin = [one for one in known if one.startswith(word)]
    near = begin or difflib.get_close_matches(word, known, 1, 0.5)
    return f"did you mean `{near[0]}`?" if near else f"there are {', '.join(known)}"


def text(value: object, key: str, where: str) -> str:
    """A text on one line, perhaps an empty one."""
    if not isinstance(value, str) or not (value.isprintable() or not value):
        raise SettingsError(f"{where}: `{key}` must be a text in quotes, on one line")
    return value


def texts(value: object, key: str, where: str) -> list[str]:
    """A list of texts that are not empty; a text alone is a list of one."""
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(one, str) and one for one in found):
        raise SettingsError(f'{where}: `{key}` must be a list of texts, like ["…", "…"]')
    return found


def flag(value: object, key: str, where: str) -> bool:
    """A yes or no."""
    if not isinstance(value, bool):
        raise SettingsError(f"{where}: `{key}` must be true or false")
    return value


def whole(value: object, key: str, where: str, *, least: int = 0, most: int | None = None) -> int:
    """A whole number within bounds."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most and value > most):
        bounds = f"from {least} to {most}" if most else f"of at least {least}"
        raise SettingsError(f"{where}: `{key}` must be a whole number {bounds}")
    return value


def seconds(value: object, key: str, where: str) -> float:
    """A time span."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise SettingsError(f"{where}: `{key}` must be a number of seconds, 0 or more")
    return float(value)


def one_of(value: object, key: str, where: str, known: tuple[str, ...]) -> str:
    """One of some words."""
    if value not in known:
        raise SettingsError(f"{where}: `{key}` must be one of {', '.join(map(repr, known))}")
    return str(value)
