"""Protocols in words: "MR 3 T, TR 2000, TE 30, FA 90, 3 mm"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dicomlake.cohorts.telling import cells

_WORDED = {
    "MagneticFieldStrength": "{} T",
    "RepetitionTime": "TR {}",
    "EchoTime": "TE {}",
    "InversionTime": "TI {}",
    "FlipAngle": "FA {}",
    "SliceThickness": "{} mm",
    "KVP": "{} kV",
    "ConvolutionKernel": "{}",
    "PixelSpacing": "pixels {} mm",
    "ExposureTime": "{} ms",
    "SpiralPitchFactor": "pitch {}",
    "ScanningSequence": "{}",
    "SequenceVariant": "{}",
    "ReconstructionMethod": "{}",
    "Units": "{}",
}
_USUAL = 4
_MAGNETS = (0.2, 0.35, 0.5, 0.55, 1.0, 1.5, 3.0, 4.7, 7.0, 9.4, 11.7)  # T, as they are called


def protocol_name(modality: str, values: Mapping[str, Any]) -> str:
    """What stands for a protocol, in a line: its parameters in order, those that are missing left out.

    Times in ms, angles in degrees, lengths in mm, as PS3.3 has them; numbers with four digits.
    """
    parts = [_worded(name, value) for name, value in values.items() if _is_there(value)]
    if _is_there(values.get("Rows")) and _is_there(values.get("Columns")):
        matrix = f"{value_text(values['Rows'])} × {value_text(values['Columns'])}"
        parts = [part for part in parts if not part.startswith(("Rows ", "Columns "))] + [matrix]
    told = ", ".join(parts) or "no parameter stated"
    return f"{modality or 'no Modality'} {told}"


def _is_there(value: Any) -> bool:
    return value is not None and value != ""


def _worded(name: str, value: Any) -> str:
    if name == "MagneticFieldStrength" and isinstance(value, float):
        value = min((one for one in _MAGNETS if abs(value - one) <= 0.05 * one), default=value)
    if name == "PixelSpacing" and isinstance(value, tuple) and len(set(value)) == 1:
        value = value[0]
    return _WORDED.get(name, f"{name} {{}}").format(value_text(value, _USUAL))


def value_text(value: Any, digits: int = 12) -> str | None:
    """A value in words, None for none: numbers with so many digits, several with a backslash between."""
    if value is None:
        return None
    if isinstance(value, tuple):
        return "\\".join(value_text(part, digits) or "" for part in value)
    return f"{value:.{digits}g}" if isinstance(value, float) else cells.label(value)
