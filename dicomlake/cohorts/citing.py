"""Citations of a frozen cohort: BibTeX or RIS for it, for the collections of its data, and for dicomlake."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from dicomlake.catalog.frozen import FrozenRow

if TYPE_CHECKING:
    from dicomlake.cohorts.cohort import Cohort

COLLECTION_COLUMNS = ("label.citation", "label.doi", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName")
_DOI = re.compile(r"(?:https?://(?:dx\.)?doi\.org/|doi:\s*)?(10\.\d{4,9}/\S+)")


class Collection(NamedTuple):
    """Where some data are from: a title, and a DOI where one is known."""

    title: str
    doi: str | None
    series: int


def collections(cohort: Cohort) -> list[Collection]:
    """The collections that a cohort's series say they are of, the largest first."""
    table = cohort.table(*COLLECTION_COLUMNS)
    found: dict[tuple[str, str | None], int] = {}
    for row in table[list(COLLECTION_COLUMNS)].itertuples(index=False):
        citation, doi, protocol, name = (list(_texts(value)) for value in row)
        dois = [match[1] for text in (*doi, *citation) if (match := _DOI.search(text))]
        titles = citation or name or protocol
        if titles or dois:
            entry = (titles[0] if titles else f"Data set {dois[0]}", dois[0] if dois else None)
            found[entry] = found.get(entry, 0) + 1
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0][0]))
    return [Collection(title, doi, n) for (title, doi), n in ordered]


def _texts(value: Any) -> Iterable[str]:
    """The texts in a cell of a table: none, one or several."""
    if isinstance(value, tuple | list):
        return [str(one) for one in value if one not in (None, "")]
    missing = value is None or value != value  # NaN is not itself
    return [] if missing or value == "" else [str(value)]


class _Entry(NamedTuple):
    kind: str
    key: str
    fields: dict[str, str]


def citation(row: FrozenRow, found: Iterable[Collection], style: Literal["bibtex", "ris"]) -> str:
    """The entries of a reference manager for a cohort and the collections of its data."""
    entries = [_cohort(row), *map(_collection, found), _program(row)]
    write: Callable[[_Entry], str] = _bibtex if style == "bibtex" else _ris
    return "\n".join(map(write, entries))


def _cohort(row: FrozenRow) -> _Entry:
    note = f"{len(row.members)} series, frozen at change {row.change}; SHA-256 of its content {row.digest}"
    fields = {"title": f"Imaging cohort {row.name}", "author": row.who, "year": row.at[:4], "note": note}
    return _Entry("dataset", f"cohort-{_key(row.name)}", fields)


def _collection(found: Collection) -> _Entry:
    fields = {"title": found.title, "note": f"{found.series} series of the cohort"}
    if found.doi:
        fields["doi"] = found.doi
    return _Entry("dataset", f"data-{_key(found.doi or found.title)}", fields)


def _program(row: FrozenRow) -> _Entry:
    fields = {
        "title": f"dicomlake {row.program}: the research imaging archive that lives in Jupyter",
        "author": "The dicomlake authors",
        "year": row.at[:4],
        "url": "https://github.com/dicomlake/dicomlake",
    }
    return _Entry("software", f"dicomlake-{_key(row.program)}", fields)


def _key(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:48] or "unnamed"


_BIBTEX = str.maketrans(
    {**{c: f"\\{c}" for c in "&%$#_{}"}, "\\": r"\textbackslash{}", "~": r"\textasciitilde{}"}
)
_VERBATIM = ("doi", "url")


def _bibtex(entry: _Entry) -> str:
    kind = {"dataset": "misc", "software": "misc"}[entry.kind]
    lines = [
        f"  {name} = {{{value if name in _VERBATIM else f'{{{value.translate(_BIBTEX)}}}'}}},"
        for name, value in entry.fields.items()
    ]
    return "\n".join([f"@{kind}{{{entry.key},", *lines, "}", ""])


_RIS_TYPES = {"dataset": "DATA", "software": "COMP"}
_RIS_TAGS = {"title": "TI", "author": "AU", "year": "PY", "note": "N1", "doi": "DO", "url": "UR"}


def _ris(entry: _Entry) -> str:
    lines = [f"{_RIS_TAGS[name]}  - {' '.join(value.split())}" for name, value in entry.fields.items()]
    return "\n".join([f"TY  - {_RIS_TYPES[entry.kind]}", *lines, "ER  - ", ""])
