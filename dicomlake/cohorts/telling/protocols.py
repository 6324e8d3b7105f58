"""Groups of series that were acquired alike: which protocols there are, and which series stray from them.

Series are compared with those of their Modality. Two belong to one protocol when every parameter agrees:
numbers within a relative tolerance (`agreement.clusters`), text exactly, missing with missing. A protocol
is rare when it has less than a given share of its modality's series and is not the largest; series of rare
protocols are outliers, told by how they differ from the protocol that is not rare and is most like them.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dicomlake.cohorts.telling import cells
from dicomlake.cohorts.telling.agreement import Parameter, Tolerance, parameter, tolerance_of
from dicomlake.cohorts.telling.cells import Codes, Mask
from dicomlake.cohorts.telling.naming import protocol_name, value_text

if TYPE_CHECKING:
    import pandas as pd

PARAMETERS: dict[str, tuple[str, ...]] = {
    "CT": ("KVP", "SliceThickness", "ConvolutionKernel", "PixelSpacing", "ExposureTime", "SpiralPitchFactor"),
    "MR": (
        *("MagneticFieldStrength", "RepetitionTime", "EchoTime", "InversionTime", "FlipAngle"),
        *("SliceThickness", "ScanningSequence", "SequenceVariant", "Rows", "Columns"),
    ),
    "PT": (
        *("SliceThickness", "PixelSpacing", "ReconstructionMethod", "ConvolutionKernel"),
        *("ScatterCorrectionMethod", "AttenuationCorrectionMethod", "Units"),
    ),
    "NM": ("SliceThickness", "PixelSpacing", "Rows", "Columns", "ActualFrameDuration"),
}
"""What the series of a modality are compared by."""
OTHERWISE = ("KVP", "SliceThickness", "PixelSpacing", "Rows", "Columns")
NEEDED = ("PatientID", "IssuerOfPatientID", "StudyInstanceUID", "Modality")
RARE = 0.05
_ALIKE = 200_000  # differing protocols that are compared at once
_SHOWN = 12


def needed(by: Sequence[str] | Mapping[str, Sequence[str]] | None = None) -> tuple[str, ...]:
    """The columns that `protocols` takes from a table; defaults that are absent do not matter."""
    listed = by.values() if isinstance(by, Mapping) else [by] if by else [*PARAMETERS.values(), OTHERWISE]
    return (*NEEDED, *dict.fromkeys(name for names in listed for name in names))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Protocols:
    """The protocols of a table of series.

    table: one row a protocol, by modality and then the largest first: protocol (its number, from 1),
        name, Modality, series, share (of the modality's), patients where the table tells, rare, and what
        stands for it of each parameter.
    outliers: one row for each parameter in which a series of a rare protocol differs from the protocol it
        is `like`: position (of the series in the table), protocol, like, parameter, value, expected,
        difference (value - expected) and relative (difference / expected), both NaN for text, for what is
        missing, and for several values in a cell.
    of: for each series the number of its protocol.
    """

    table: pd.DataFrame
    outliers: pd.DataFrame
    of: pd.Series[int]

    def __len__(self) -> int:
        return len(self.table)

    @property
    def dominant(self) -> dict[str, str]:
        """For each modality the name of its largest protocol."""
        first = self.table.drop_duplicates("Modality")
        return dict(zip(first["Modality"], first["name"], strict=True))

    def members(self, protocol: int) -> Codes:
        """The positions of the series of a protocol."""
        return np.flatnonzero(self.of.to_numpy() == protocol)

    @property
    def strays(self) -> Codes:
        """The positions of the series of rare protocols."""
        rare = self.table.loc[self.table["rare"], "protocol"]
        return np.flatnonzero(self.of.isin(rare).to_numpy())

    def __repr__(self) -> str:
        lines = [f"{len(self):,} protocols of {len(self.of):,} series, {len(self.strays):,} series outlying"]
        rows = self.table[~self.table["rare"]].head(_SHOWN)
        lines += [f"{one.series:>9,}  {one.share:>4.0%}  {one.name}" for one in rows.itertuples(index=False)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        common = self.table[~self.table["rare"]].head(_SHOWN)
        left, right = "style='text-align:left'", "style='text-align:right'"
        rows = "".join(
            f"<tr><td {right}>{one.protocol}</td><td {left}>{html.escape(str(one.name))}</td>"
            f"<td {right}>{one.series:,}</td><td {right}>{one.share:.0%}</td></tr>"
            for one in common.itertuples(index=False)
        )
        differ = self.outliers.groupby("parameter", sort=False)["position"].nunique()
        told = ", ".join(f"{name} {n:,}" for name, n in differ.sort_values(ascending=False).items())
        head = f"<tr><th></th><th {left}>protocol</th><th {right}>series</th><th {right}>share</th></tr>"
        return (
            f"<div><strong>{len(self):,} protocols of {len(self.of):,} series</strong><table>{head}{rows}"
            f"</table>{len(self.strays):,} series outlying{f', in {html.escape(told)}' if told else ''}</div>"
        )


def protocols(
    table: pd.DataFrame,
    *,
    by: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    tolerance: Tolerance | None = None,
    rare: float = RARE,
) -> Protocols:
    """The groups of series that were acquired alike.

    by: the parameters that are compared, the same for all modalities or given for each; PARAMETERS unless
        given, as far as the table has them.
    tolerance: relative, for all or for each parameter; 0.01 unless given, wider for some (agreement.WIDER).
    rare: the share of its modality's series below which a protocol is rare.
    Raises QueryError when the table lacks Modality, or a parameter that `by` names.
    """
    import pandas as pd

    cells.require(table, "Modality")
    kinds = cells.coded(table["Modality"])
    patient = cells.patients(table) if set(NEEDED) - {"IssuerOfPatientID"} <= set(table.columns) else None
    number = np.zeros(len(table), dtype=np.int64)
    listed: list[pd.DataFrame] = []
    strayed: list[pd.DataFrame] = []
    first = 0
    labels = [*kinds.labels, ""]
    for at in sorted(range(-1, len(kinds.values)), key=lambda at: labels[at]):
        rows = np.flatnonzero(kinds.codes == at)
        if not len(rows):
            continue
        names = _compared(table, labels[at], by)
        found = _grouped(table, rows, labels[at], names, tolerance, rare)
        number[rows] = found.group + first + 1
        listed.append(_listing(found, first, None if patient is None else patient[rows]))
        strayed.append(_straying(found, rows, first))
        first += len(found.series)
    return Protocols(
        pd.concat(listed, ignore_index=True) if listed else pd.DataFrame(columns=_LISTED),
        pd.concat(strayed, ignore_index=True) if strayed else pd.DataFrame(columns=_STRAYED),
        pd.Series(number, index=table.index, name="protocol"),
    )


_LISTED = ["protocol", "name", "Modality", "series", "share", "rare"]
_STRAYED = ["position", "protocol", "like", "parameter", "value", "expected", "difference", "relative"]


def _compared(
    table: pd.DataFrame, modality: str, by: Sequence[str] | Mapping[str, Sequence[str]] | None
) -> list[str]:
    if by is None:
        return [name for name in PARAMETERS.get(modality, OTHERWISE) if name in table.columns]
    names = list(by.get(modality, ()) if isinstance(by, Mapping) else by)
    cells.require(table, *names)
    return names


@dataclass(frozen=True, slots=True, eq=False)
class _Groups:
    """The protocols of one modality, the largest first.

    group: of each row. codes: (protocols, parameters), as in `Parameter.code`. rare: of each protocol.
    """

    modality: str
    parameters: list[Parameter]
    group: Codes
    codes: Codes
    series: Codes
    rare: Mask


def _grouped(
    table: pd.DataFrame,
    rows: Codes,
    modality: str,
    names: list[str],
    tolerance: Tolerance | None,
    rare: float,
) -> _Groups:
    held = [parameter(table[name].iloc[rows], tolerance_of(name, tolerance)) for name in names]
    key = np.zeros(len(rows), dtype=np.int64)
    for one in held:
        key = cells.renumbered(key * (one.code.max(initial=-1) + 2) + one.code + 1)
    counts = np.bincount(key)
    order = np.argsort(-counts, kind="stable")  # of equal ones that which came first
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    _, first = np.unique(key, return_index=True)
    codes = np.stack([one.code[first[order]] for one in held], axis=1) if held else np.zeros((1, 0), np.int64)
    series = counts[order]
    seldom = series < rare * len(rows)
    seldom[0] = False
    return _Groups(modality, held, place[key], codes, series, seldom)


def _listing(found: _Groups, first: int, patient: Codes | None) -> pd.DataFrame:
    import pandas as pd

    shown = {
        one.name: [one.shown[code] if code >= 0 else None for code in found.codes[:, at]]
        for at, one in enumerate(found.parameters)
    }
    count = len(found.series)
    values = [dict(zip(shown, row, strict=True)) for row in zip(*shown.values(), strict=True)] or [{}] * count
    columns: dict[str, Any] = {
        "protocol": np.arange(count) + first + 1,
        "name": _different([protocol_name(found.modality, one) for one in values]),
        "Modality": found.modality,
        "series": found.series,
        "share": found.series / found.series.sum(),
    }
    if patient is not None:
        pairs = pd.unique(found.group * (patient.max(initial=0) + 1) + patient)
        columns["patients"] = np.bincount(pairs // (patient.max(initial=0) + 1), minlength=count)
    return pd.DataFrame({**columns, "rare": found.rare, **shown})


def _different(names: list[str]) -> list[str]:
    """Names that tell protocols apart: those whose difference is lost in rounding get a number."""
    seen: dict[str, int] = {}
    for at, name in enumerate(names):
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            names[at] = f"{name} ({seen[name]})"
    return names


def _straying(found: _Groups, rows: Codes, first: int) -> pd.DataFrame:
    """How each series of a rare protocol differs from the one most like it that is not rare."""
    import pandas as pd

    like = _most_like(found)
    strays = np.flatnonzero(found.rare[found.group])
    group = found.group[strays]
    parts = []
    for at, one in enumerate(found.parameters):
        differs = found.codes[group, at] != found.codes[like[group], at]
        chosen, expected = strays[differs], found.codes[like[group[differs]], at]
        shown = [*one.shown, None]
        number = one.values if one.values is not None else np.full(len(rows), np.nan)
        single = np.array([not isinstance(value, tuple) and value is not None for value in shown])
        usable = single[one.code[chosen]] & single[expected] & (one.values is not None)
        goal = np.full(len(chosen), np.nan)
        goal[usable] = [shown[code] for code in expected[usable]]
        difference = np.where(usable, number[chosen], np.nan) - goal
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = np.where(goal != 0, difference / goal, np.nan)
        stated = np.array([value_text(value) for value in shown], dtype=object)
        value = stated[one.code[chosen]]
        value[usable] = [value_text(float(exact)) for exact in number[chosen[usable]]]
        parts.append(
            pd.DataFrame(
                {
                    "position": rows[chosen],
                    "protocol": group[differs] + first + 1,
                    "like": like[group[differs]] + first + 1,
                    "parameter": one.name,
                    "value": value,
                    "expected": stated[expected],
                    "difference": difference,
                    "relative": relative,
                }
            )
        )
    if not parts:
        return pd.DataFrame(columns=_STRAYED)
    return pd.concat(parts, ignore_index=True).sort_values("position", kind="stable", ignore_index=True)


def _most_like(found: _Groups) -> Codes:
    """For each protocol the common one that differs in the fewest parameters, of equals the larger."""
    common = np.flatnonzero(~found.rare)
    like = np.arange(len(found.series))
    seldom = np.flatnonzero(found.rare)
    for start in range(0, len(seldom), _ALIKE):
        some = seldom[start : start + _ALIKE]
        differing = np.stack([(found.codes[some] != found.codes[at]).sum(axis=1) for at in common])
        like[some] = common[differing.argmin(axis=0)]
    return like
