"""The research imaging archive that lives in Jupyter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from dicomlake.cohorts.cohort import Cohort
    from dicomlake.cohorts.telling.visits import nearest
    from dicomlake.errors import DicomlakeError
    from dicomlake.lake import Lake, open, rebuild
    from dicomlake.series import Series
    from dicomlake.widgets.showing import compare, view

__all__ = [
    "Cohort",
    "DicomlakeError",
    "Lake",
    "Series",
    "__version__",
    "compare",
    "datasets",
    "nearest",
    "open",
    "rebuild",
    "view",
]

_HOMES = {
    "Cohort": "dicomlake.cohorts.cohort",
    "Series": "dicomlake.series",
    "Lake": "dicomlake.lake",
    "open": "dicomlake.lake",
    "rebuild": "dicomlake.lake",
    "DicomlakeError": "dicomlake.errors",
    "compare": "dicomlake.widgets.showing",
    "view": "dicomlake.widgets.showing",
    "nearest": "dicomlake.cohorts.telling.visits",
}


def __getattr__(name: str) -> Any:
    """Load a public name on first use: `import dicomlake` itself must stay fast."""
    from importlib import import_module

    if name == "datasets":
        return import_module("dicomlake.datasets")
    if name not in _HOMES:
        raise AttributeError(f"module 'dicomlake' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
