"""Scripts and styles of a widget, joined from ES modules without a build step.

A module names what it needs, `import { link } from "../base/link.js"`. Joined, every module comes after
those that it imports, without its import lines and without the word `export`; so no two modules may have a
name of the top level in common, and imports are never renamed (`as`). The same files run unjoined in a
browser or in Node.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path, PurePosixPath

STATIC = Path(__file__).parents[1] / "static"
_IMPORT = re.compile(r'^import\s+(?:[^;"\']*?\s+from\s+)?["\']([^"\']+)["\'];?[ \t]*\n', re.MULTILINE)
_EXPORT = re.compile(r"^export\s+(?=(?:async\s+)?(?:function|const|let|class)\b)", re.MULTILINE)
_TOP = re.compile(r"^(?:async\s+)?(?:function\*?|const|let|class)\s+([A-Za-z_$][\w$]*)", re.MULTILINE)


@cache
def script(entry: str) -> str:
    """The module `entry`, a path below `static/`, and all that it imports, as one ES module.

    Raises ValueError when two of the modules define one name, or one imports itself in a circle.
    """
    parts = {name: _body(name) for name in _ordered(entry)}
    seen: dict[str, str] = {}
    for name, body in parts.items():
        for top in _TOP.findall(body):
            if top in seen:
                raise ValueError(f"{name} and {seen[top]} both define {top}: give one another name")
            seen[top] = name
    return "\n".join(f"// ---- {name}\n{body}" for name, body in parts.items())


@cache
def style(*entries: str) -> str:
    """Style sheets below `static/`, one after the other."""
    return "\n".join((STATIC / name).read_text(encoding="utf-8") for name in entries)


def _ordered(entry: str, above: tuple[str, ...] = ()) -> list[str]:
    """The modules that one needs, each after what it imports, itself last."""
    if entry in above:
        raise ValueError("modules import each other in a circle: " + " -> ".join((*above, entry)))
    found: list[str] = []
    for path in _IMPORT.findall(_read(entry)):
        needed = _resolved(PurePosixPath(entry).parent, path)
        found += [name for name in _ordered(needed, (*above, entry)) if name not in found]
    return [*found, entry]


def _resolved(folder: PurePosixPath, path: str) -> str:
    parts: list[str] = list(folder.parts)
    for part in PurePosixPath(path).parts:
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def _read(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")


def _body(name: str) -> str:
    """A module without its imports; only the entry module's `export default` stays."""
    return _EXPORT.sub("", _IMPORT.sub("", _read(name)))
