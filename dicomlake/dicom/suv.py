"""Standardised uptake values of PET, by the vendor-neutral rules of QIBA (FDG-PET/CT profile, appendix G).

What the rules need is gathered once, as numbers without dates (`pet_inputs`); `suv` computes the factor
from them, names its rule, and refuses when an input is missing: a guessed SUV is worse than none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dicomlake.dicom import private, times
from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.frames import Frame
from dicomlake.dicom.private import PrivateElement
from dicomlake.errors import QuantityError

Kind = Literal["bw", "lbm", "bsa", "ibw"]

_UNITS = {"bw": "g/ml", "lbm": "g/ml", "bsa": "cm2/ml", "ibw": "g/ml"}  # UCUM; PS3.16 CID 85
_SUV_TYPES = {"BW": "bw", "LBM": "lbm", "BSA": "bsa", "IBW": "ibw"}  # SUVType (0054,1006)
_PHILIPS_SUV = PrivateElement(0x7053, "Philips PET Private Group", 0x00, "DS")
_PHILIPS_BQML = PrivateElement(0x7053, "Philips PET Private Group", 0x09, "DS")
_GE_SCAN_TIME = PrivateElement(0x0009, "GEMS_PETD_01", 0x0D, "DT")
_DAY = 86_400.0
_LONGEST_DELAY = 2 * _DAY  # longer between injection and scan is a mistake in the dates


@dataclass(frozen=True, slots=True)
class Suv:
    """What makes SUVs of rescaled values. factor: to multiply by; units: UCUM; rule: in one sentence."""

    factor: float
    units: str
    rule: str


# ---- what the rules need ---------------------------------------------------------------------------


def pet_inputs(header: Attributes, frames: Sequence[Frame]) -> dict[str, Any]:
    """The inputs of the rules that a PET series states, JSON types, absent where it does not say.

    header: of one instance. frames: all of the volume. Times become delays in s, no date is kept.
    """
    tracer = next(iter(header.items("RadiopharmaceuticalInformationSequence")), None)
    half_life = tracer.number("RadionuclideHalfLife") if tracer else None
    delay, reason = _delay(header, tracer, frames, half_life)
    found = {
        "units": frames[0].units or header.text("Units"),
        "suv_type": header.text("SUVType"),
        "attenuation_corrected": _corrected(header, "ATTN", "AttenuationCorrected"),
        "decay_corrected": _corrected(header, "DECY", "DecayCorrected"),
        "decay_correction": header.text("DecayCorrection") or _enhanced_decay(header),
        "half_life_s": half_life,
        "dose_bq": tracer.number("RadionuclideTotalDose") if tracer else None,
        "delay_s": delay,
        "delay_rule": reason,
        "weight_kg": header.number("PatientWeight"),
        "height_m": header.number("PatientSize"),
        "sex": header.text("PatientSex"),
        "philips_suv": _first(private.numbers(header, _PHILIPS_SUV)),
        "philips_bqml": _first(private.numbers(header, _PHILIPS_BQML)),
    }
    return {name: value for name, value in found.items() if value is not None}


def _first(values: Sequence[Any]) -> Any:
    return values[0] if values else None


def _corrected(header: Attributes, term: str, enhanced: str) -> bool:
    return term in header.texts("CorrectedImage") or header.text(enhanced) == "YES"


def _enhanced_decay(header: Attributes) -> str | None:
    """Enhanced PET states the moment itself: DecayCorrectionDateTime."""
    return "DATETIME" if "DecayCorrectionDateTime" in header else None


def _delay(
    header: Attributes, tracer: Attributes | None, frames: Sequence[Frame], half_life: float | None
) -> tuple[float | None, str]:
    """Seconds from injection to the moment that the values were decay corrected to, and how it is known."""
    reference, rule = _reference(header, frames, half_life)
    if tracer is None or reference is None:
        return None, rule
    start = times.seconds_of_datetime(tracer.text("RadiopharmaceuticalStartDateTime"))
    if start is not None:
        return _sane(reference - start), f"{rule}, from RadiopharmaceuticalStartDateTime"
    of_day = times.seconds(None, tracer.text("RadiopharmaceuticalStartTime"))
    if of_day is None:
        return None, "RadiopharmaceuticalStartDateTime and RadiopharmaceuticalStartTime are missing"
    return (reference - of_day) % _DAY, f"{rule}, from RadiopharmaceuticalStartTime within 24 h before"


def _sane(delay: float) -> float | None:
    return delay if 0 <= delay <= _LONGEST_DELAY else None


def _reference(
    header: Attributes, frames: Sequence[Frame], half_life: float | None
) -> tuple[float | None, str]:
    """The moment that the values were decay corrected to, when DecayCorrection is START."""
    moment = times.seconds_of_datetime(header.text("DecayCorrectionDateTime"))
    if moment is not None:
        return moment, "decayed to DecayCorrectionDateTime"
    series = times.seconds(header.text("SeriesDate"), header.text("SeriesTime"))
    acquired = [t for f in frames if isinstance(t := f.facets.get("acquisition_time"), int | float)]
    if series is not None and acquired and series <= min(acquired):
        return series, "decayed to SeriesDate and SeriesTime"
    scan = times.seconds_of_datetime(_first(private.texts(header, _GE_SCAN_TIME)))
    if scan is not None:
        return scan, "decayed to the scan time of GE (0009,xx0D)"
    start = _start_of_first(frames, acquired, header.number("ActualFrameDuration"), half_life)
    if start is not None:
        return start, "decayed to the scan start by FrameReferenceTime"
    return None, "SeriesTime is after AcquisitionTime or missing, and FrameReferenceTime does not tell more"


def _start_of_first(
    frames: Sequence[Frame], acquired: Sequence[float], duration_ms: float | None, half_life: float | None
) -> float | None:
    """Scan start = acquisition start + moment of the mean count rate - FrameReferenceTime (QIBA)."""
    if not acquired or not duration_ms or not half_life:
        return None
    first = next(f for f in frames if f.facets.get("acquisition_time") == min(acquired))
    reference = first.facets.get("frame_reference_time")
    if not isinstance(reference, int | float):
        return None
    decays = math.log(2) / half_life * duration_ms / 1000
    mean_s = half_life / math.log(2) * math.log(decays / -math.expm1(-decays))
    return min(acquired) + mean_s - reference / 1000


# ---- the rules -------------------------------------------------------------------------------------


def suv(inputs: Mapping[str, Any], kind: Kind = "bw") -> Suv:
    """The factor from rescaled values to SUV.

    inputs: of `pet_inputs`. kind: by body weight, lean body mass (James), body surface, ideal body weight.
    Raises QuantityError, naming what is missing or why the rules do not apply.
    """
    if kind not in _UNITS:
        raise QuantityError(f"SUV is bw, lbm, bsa or ibw, not {kind!r}")
    units = inputs.get("units")
    if units in ("GML", "CM2ML"):
        return _stated(inputs, kind)
    if units == "CNTS":
        return _philips(inputs, kind)
    if units not in ("BQML", "Bq/ml"):
        raise QuantityError(f"SUV needs Units BQML, CNTS of Philips, or GML; they are {units or 'missing'}")
    factor, rule = _per_activity(inputs, kind)
    return Suv(factor, _UNITS[kind], rule)


def _stated(inputs: Mapping[str, Any], kind: Kind) -> Suv:
    """Values that are SUV already (GML; CM2ML for body surface)."""
    default = "BW" if inputs["units"] == "GML" else "BSA"
    found = _SUV_TYPES.get(inputs.get("suv_type") or default)
    if found != kind:
        raise QuantityError(
            f"the values are SUV{found or '?'} already and cannot become SUV{kind} without the dose"
        )
    return Suv(1.0, _UNITS[kind], f"the values are SUV{kind} already (Units {inputs['units']})")


def _philips(inputs: Mapping[str, Any], kind: Kind) -> Suv:
    """Philips keeps counts and, privately, what makes SUV bw or Bq/ml of them."""
    if inputs.get("philips_suv"):
        body = _body(inputs, kind)[0] / _body(inputs, "bw")[0] if kind != "bw" else 1.0
        return Suv(
            inputs["philips_suv"] * body, _UNITS[kind], "counts by the SUV factor of Philips (7053,xx00)"
        )
    if inputs.get("philips_bqml"):
        factor, rule = _per_activity(inputs, kind)
        rule = f"counts by the activity factor of Philips (7053,xx09); {rule}"
        return Suv(factor * inputs["philips_bqml"], _UNITS[kind], rule)
    raise QuantityError("Units are CNTS and the private factors of Philips (7053,xx00 and xx09) are missing")


def _per_activity(inputs: Mapping[str, Any], kind: Kind) -> tuple[float, str]:
    """SUV per Bq/ml: what the body is, by the dose that was left at the reference time."""
    missing = [name for name in ("attenuation_corrected", "decay_corrected") if not inputs.get(name)]
    correction = inputs.get("decay_correction")
    if missing or correction == "NONE":
        raise QuantityError(
            "SUV needs values corrected for attenuation and decay (CorrectedImage ATTN, DECY)"
        )
    dose = _positive(inputs, "dose_bq", "RadionuclideTotalDose")
    body, what = _body(inputs, kind)
    if correction == "ADMIN":
        return body / dose, f"SUV{kind} by {what}; decayed to administration (DecayCorrection ADMIN)"
    if correction not in ("START", "DATETIME"):
        raise QuantityError(f"SUV needs DecayCorrection START or ADMIN; it is {correction or 'missing'}")
    half_life = _positive(inputs, "half_life_s", "RadionuclideHalfLife")
    delay = inputs.get("delay_s")
    if delay is None:
        raise QuantityError(f"SUV needs the time from injection to scan: {inputs.get('delay_rule')}")
    left = dose * 2.0 ** (-delay / half_life)
    return body / left, f"SUV{kind} by {what}; {inputs['delay_rule']}"


def _body(inputs: Mapping[str, Any], kind: Kind) -> tuple[float, str]:
    """Mass in g, or surface in cm2, that the dose is spread over."""
    weight = _positive(inputs, "weight_kg", "PatientWeight")
    if kind == "bw":
        return weight * 1000, "body weight"
    height = _positive(inputs, "height_m", "PatientSize") * 100
    if kind == "bsa":
        return weight**0.425 * height**0.725 * 0.007184 * 1e4, "body surface (Du Bois)"
    sex = inputs.get("sex")
    if sex not in ("M", "F"):
        raise QuantityError(f"SUV{kind} needs PatientSex M or F")
    if kind == "lbm":
        lean = 1.10 * weight - 120 * (weight / height) ** 2
        lean = lean if sex == "M" else 1.07 * weight - 148 * (weight / height) ** 2
        if lean <= 0:
            raise QuantityError("PatientWeight and PatientSize give no positive lean body mass")
        return lean * 1000, "lean body mass (James)"
    ideal = 48.0 + 1.06 * (height - 152) if sex == "M" else 45.5 + 0.91 * (height - 152)
    return min(ideal, weight) * 1000, "ideal body weight"


def _positive(inputs: Mapping[str, Any], name: str, keyword: str) -> float:
    value = inputs.get(name)
    if not isinstance(value, int | float) or not value > 0:
        raise QuantityError(f"SUV needs {keyword}, which is missing or not positive")
    return float(value)
