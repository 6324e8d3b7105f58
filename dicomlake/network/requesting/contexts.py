"""What is proposed for a C-GET: the SOP classes that may come, in the transfer syntaxes they may come in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from dicomlake.network.requesting.associations import MAX_CONTEXTS, Context
from dicomlake.network.requesting.studies import Study

_TS = "1.2.840.10008.1.2"
NATIVE = (f"{_TS}.1", _TS)
COMPRESSED = (
    *(f"{_TS}.4.{tail}" for tail in ("70", "57", "50", "51", "80", "81", "90", "91", "201", "202", "203")),
    *(f"{_TS}.5", f"{_TS}.1.99", f"{_TS}.4.100", f"{_TS}.4.102", f"{_TS}.4.103"),
)
_STORAGE = "1.2.840.10008.5.1.4.1.1"
_OF_MODALITY: Mapping[str, tuple[str, ...]] = {
    "CT": ("2", "2.1", "2.2"),
    "MR": ("4", "4.1", "4.2", "4.3", "4.4"),
    "PT": ("128", "130", "128.1"),
    "NM": ("20",),
    "US": ("6.1", "3.1", "6.2"),
    "CR": ("1",),
    "DX": ("1.1", "1.1.1", "1"),
    "MG": ("1.2", "1.2.1", "13.1.3"),
    "XA": ("12.1", "12.1.1", "13.1.1"),
    "RF": ("12.2", "12.2.1"),
    "SC": ("7", "7.1", "7.2", "7.3", "7.4"),
    "OT": ("7", "7.1", "7.2", "7.3", "7.4"),
    "SR": ("88.11", "88.22", "88.33", "88.67", "88.34", "88.35", "88.50", "88.59", "88.65"),
    "SEG": ("66.4", "66.7"),
    "REG": ("66.1", "66.3"),
    "KO": ("88.59",),
    "PR": ("11.1", "11.2", "11.3", "11.4", "11.5", "11.6"),
    "DOC": ("104.1", "104.2"),
    "RTSTRUCT": ("481.3",),
    "RTDOSE": ("481.2",),
    "RTPLAN": ("481.5", "481.8"),
    "RTIMAGE": ("481.1",),
    "SM": ("77.1.6",),
    "ECG": ("9.1.1", "9.1.2", "9.1.3"),
    "ES": ("77.1.1", "77.1.1.1"),
    "OP": ("77.1.5.1", "77.1.5.2"),
    "OPT": ("77.1.5.4",),
}
_ALWAYS = ("7", "88.22", "88.33", "88.67", "88.59", "11.1", "66", "66.4", "104.1")  # come beside any modality


def get_contexts(study: Study, room: int = MAX_CONTEXTS - 1) -> list[Context]:
    """Contexts for the objects of a study, in which the peer is SCU: `room` of them at most.

    A transfer syntax of its own each, as long as there is room, so that nothing must be converted to come.
    """
    classes = list(dict.fromkeys(_classes(study)))
    for groups in (tuple((syntax,) for syntax in (*NATIVE, *COMPRESSED)), (NATIVE, COMPRESSED)):
        if len(classes) * len(groups) <= room:
            return [Context(uid, syntaxes, scp=True) for uid in classes for syntaxes in groups]
    return [Context(uid, (*NATIVE, *COMPRESSED), scp=True) for uid in classes[:room]]


def _classes(study: Study) -> Iterator[str]:
    """What the peer names, else what goes with the modalities, else the most common."""
    if study.sop_classes:
        yield from study.sop_classes
        return
    if study.modalities and all(modality in _OF_MODALITY for modality in study.modalities):
        for modality in study.modalities:
            yield from _full(_OF_MODALITY[modality])
        yield from _full(_ALWAYS)
        return
    for tails in _OF_MODALITY.values():
        yield from _full(tails)
    yield from _full(_ALWAYS)


def _full(tails: Sequence[str]) -> Iterator[str]:
    return (f"{_STORAGE}.{tail}" for tail in tails)
