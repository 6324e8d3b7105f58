"""An RT Plan or RT Ion Plan: prescriptions, fractions, beams, control points, brachytherapy channels.

Labels, names and descriptions of people, places and machines are not read (PS3.3 A.20, A.47, C.8.8.9 to
C.8.8.15, C.8.8.24 to C.8.8.26).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from dicomlake import tables
from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.headers import Header, read_header
from dicomlake.errors import DicomlakeError

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]

_KINDS = {"1.2.840.10008.5.1.4.1.1.481.5": "RT Plan", "1.2.840.10008.5.1.4.1.1.481.8": "RT Ion Plan"}
_ENERGY_UNITS = {"PHOTON": "MV", "ELECTRON": "MeV", "NEUTRON": "MeV", "PROTON": "MeV"}

# Column: (how it is read, keyword). "count" and "text" and "number" are the first value; xyz three numbers.
_Columns = dict[str, tuple[str, str]]
_PRESCRIPTION: _Columns = {
    "dose_reference": ("count", "DoseReferenceNumber"),
    "structure_type": ("text", "DoseReferenceStructureType"),
    "reference_type": ("text", "DoseReferenceType"),
    "roi_number": ("count", "ReferencedROINumber"),
    "point_mm": ("xyz", "DoseReferencePointCoordinates"),
    "target_prescription_gy": ("number", "TargetPrescriptionDose"),
    "target_minimum_gy": ("number", "TargetMinimumDose"),
    "target_maximum_gy": ("number", "TargetMaximumDose"),
    "target_underdose_percent": ("number", "TargetUnderdoseVolumeFraction"),
    "organ_full_volume_gy": ("number", "OrganAtRiskFullVolumeDose"),
    "organ_limit_gy": ("number", "OrganAtRiskLimitDose"),
    "organ_maximum_gy": ("number", "OrganAtRiskMaximumDose"),
    "organ_overdose_percent": ("number", "OrganAtRiskOverdoseVolumeFraction"),
    "delivery_maximum_gy": ("number", "DeliveryMaximumDose"),
    "dose_reference_uid": ("text", "DoseReferenceUID"),
}
_FRACTIONS: _Columns = {
    "fraction_group": ("count", "FractionGroupNumber"),
    "fractions_planned": ("count", "NumberOfFractionsPlanned"),
    "beams": ("count", "NumberOfBeams"),
    "brachy_setups": ("count", "NumberOfBrachyApplicationSetups"),
}
_FRACTION_BEAM: _Columns = {
    "beam_number": ("count", "ReferencedBeamNumber"),
    "meterset": ("number", "BeamMeterset"),
    "beam_dose_gy": ("number", "BeamDose"),
    "dose_point_mm": ("xyz", "BeamDoseSpecificationPoint"),
}
_BEAM: _Columns = {
    "beam_number": ("count", "BeamNumber"),
    "beam_type": ("text", "BeamType"),
    "radiation_type": ("text", "RadiationType"),
    "delivery_type": ("text", "TreatmentDeliveryType"),
    "scan_mode": ("text", "ScanMode"),
    "mass_number": ("count", "RadiationMassNumber"),
    "atomic_number": ("count", "RadiationAtomicNumber"),
    "meterset_unit": ("text", "PrimaryDosimeterUnit"),
    "source_axis_mm": ("number", "SourceAxisDistance"),
    "wedges": ("count", "NumberOfWedges"),
    "compensators": ("count", "NumberOfCompensators"),
    "boli": ("count", "NumberOfBoli"),
    "blocks": ("count", "NumberOfBlocks"),
    "range_shifters": ("count", "NumberOfRangeShifters"),
    "final_weight": ("number", "FinalCumulativeMetersetWeight"),
}
_CHANGING: _Columns = {  # stated at control point 0 and where it changes: carried on in between
    "energy": ("number", "NominalBeamEnergy"),
    "gantry_degrees": ("number", "GantryAngle"),
    "gantry_rotation": ("text", "GantryRotationDirection"),
    "gantry_pitch_degrees": ("number", "GantryPitchAngle"),
    "collimator_degrees": ("number", "BeamLimitingDeviceAngle"),
    "couch_degrees": ("number", "PatientSupportAngle"),
    "table_eccentric_degrees": ("number", "TableTopEccentricAngle"),
    "table_pitch_degrees": ("number", "TableTopPitchAngle"),
    "table_roll_degrees": ("number", "TableTopRollAngle"),
    "isocenter_mm": ("xyz", "IsocenterPosition"),
    "snout_mm": ("number", "SnoutPosition"),
}
_OWN: _Columns = {  # of this control point only: absent does not mean unchanged
    "cumulative_weight": ("number", "CumulativeMetersetWeight"),
    "dose_rate": ("number", "DoseRateSet"),
    "ssd_mm": ("number", "SourceToSurfaceDistance"),
    "spots": ("count", "NumberOfScanSpotPositions"),
}
_DEVICES = {"X": "x", "ASYMX": "x", "Y": "y", "ASYMY": "y", "MLCX": "leaves_x", "MLCY": "leaves_y"}
_SOURCE: _Columns = {
    "nuclide": ("text", "SourceIsotopeName"),
    "half_life_days": ("number", "SourceIsotopeHalfLife"),
    "air_kerma_rate_ugy_h": ("number", "ReferenceAirKermaRate"),
}
_SETUP: _Columns = {
    "setup_number": ("count", "ApplicationSetupNumber"),
    "setup_type": ("text", "ApplicationSetupType"),
    "total_air_kerma_ugy": ("number", "TotalReferenceAirKerma"),
}
_CHANNEL: _Columns = {
    "channel_number": ("count", "ChannelNumber"),
    "source_number": ("count", "ReferencedSourceNumber"),
    "total_time_s": ("number", "ChannelTotalTime"),
    "control_points": ("count", "NumberOfControlPoints"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What an RT Plan or RT Ion Plan object says, in tables.

    kind: "RT Plan" or "RT Ion Plan". intent: PlanIntent. geometry: RTPlanGeometry, PATIENT or
    TREATMENT_DEVICE. approval: ApprovalStatus. technique: BrachyTreatmentTechnique.
    structure_set_uids, dose_uids: SOPInstanceUIDs that it refers to.
    findings: what contradicts itself, in words without identifying values.
    """

    kind: str
    sop_instance_uid: str | None
    frame_of_reference_uid: str | None
    intent: str | None
    geometry: str | None
    approval: str | None
    technique: str | None
    structure_set_uids: tuple[str, ...]
    dose_uids: tuple[str, ...]
    findings: tuple[str, ...]
    _rows: dict[str, list[Row]] = field(repr=False)

    def prescriptions(self) -> pd.DataFrame:
        """The dose references (PS3.3 C.8.8.10): doses in Gy, points in LPS mm."""
        return tables.frame(self._rows["prescriptions"], list(_PRESCRIPTION))

    def fractions(self) -> pd.DataFrame:
        """The fraction groups (PS3.3 C.8.8.13)."""
        return tables.frame(self._rows["fractions"], list(_FRACTIONS))

    def fraction_beams(self) -> pd.DataFrame:
        """Which beam has which meterset and dose (Gy, for one fraction) in which fraction group."""
        return tables.frame(self._rows["fraction_beams"], ["fraction_group", *_FRACTION_BEAM])

    def beams(self) -> pd.DataFrame:
        """The beams, a row each (PS3.3 C.8.8.14, C.8.8.25).

        Angles, energy and isocenter (LPS, mm) are those of the first control point, gantry_stop_degrees
        that of the last. Energy in energy_unit: MV for photons, MeV, MeV/u in an ion plan. Meterset and
        dose for one fraction, in meterset_unit and Gy; missing when several fraction groups use the beam,
        see `fraction_beams`.
        """
        return tables.frame(self._rows["beams"], list(_beam_row({}, [], [], None)))

    def control_points(self) -> pd.DataFrame:
        """The control points of all beams, a row each (PS3.3 C.8.8.14, C.8.8.25).

        Angles, energy, isocenter, jaws and leaves hold until changed, so they are carried on from the
        control point that states them; dose_rate, ssd_mm and spots are given only where stated. Jaws and
        leaves in mm in the beam limiting device's coordinates: x and y are (lower, upper), leaves_x and
        leaves_y arrays of shape (2, pairs). cumulative_meterset is BeamMeterset x cumulative weight / final
        weight, for one fraction.
        """
        names = ["beam_number", "index", *_OWN, *_CHANGING, *_DEVICES.values(), "cumulative_meterset"]
        return tables.frame(self._rows["control_points"], list(dict.fromkeys(names)))

    def brachy(self) -> pd.DataFrame:
        """The channels of brachytherapy, a row each (PS3.3 C.8.8.15).

        air_kerma_rate_ugy_h is that of the source in µGy/h at 1 m, total_air_kerma_ugy that of the whole
        application setup in µGy at 1 m.
        """
        return tables.frame(self._rows["brachy"], [*_SETUP, *_CHANNEL, *_SOURCE])

    def __repr__(self) -> str:
        counts = f"{len(self._rows['beams'])} beams, {len(self._rows['control_points'])} control points"
        channels = f", {len(self._rows['brachy'])} brachy channels" if self._rows["brachy"] else ""
        noted = f", {len(self.findings)} findings" if self.findings else ""
        return f"<{self.kind}: {counts}{channels}{noted}>"


def read_plan(source: bytes | Header) -> Plan:
    """The plan in an RT Plan or RT Ion Plan object.

    source: the whole object, or its header. Raises NotADicomObject or BrokenObject when it cannot be read,
    DicomlakeError when it is another kind of object.
    """
    header = source if isinstance(source, Header) else read_header(source)
    dataset = header.dataset
    kind = _KINDS.get(dataset.text("SOPClassUID") or "")
    if kind is None:
        raise DicomlakeError("the object is neither RT Plan nor RT Ion Plan: open it as its own kind")
    rows, findings = _all_rows(dataset)
    return Plan(
        kind,
        dataset.text("SOPInstanceUID"),
        dataset.text("FrameOfReferenceUID"),
        dataset.text("PlanIntent"),
        dataset.text("RTPlanGeometry"),
        dataset.text("ApprovalStatus"),
        dataset.text("BrachyTreatmentTechnique"),
        _references(dataset, "ReferencedStructureSetSequence"),
        _references(dataset, "ReferencedDoseSequence"),
        (*header.problems, *findings),
        rows,
    )


def _references(dataset: Attributes, keyword: str) -> tuple[str, ...]:
    uids = (item.text("ReferencedSOPInstanceUID") for item in dataset.items(keyword))
    return tuple(uid for uid in uids if uid)


def _row(item: Attributes, columns: _Columns) -> Row:
    return {name: _value(item, how, keyword) for name, (how, keyword) in columns.items()}


def _value(item: Attributes, how: str, keyword: str) -> Any:
    if how == "text":
        return item.text(keyword)
    numbers = item.numbers(keyword)
    if how == "xyz":
        return numbers if len(numbers) == 3 else None
    if not numbers:
        return None
    return int(numbers[0]) if how == "count" else numbers[0]


def _all_rows(dataset: Attributes) -> tuple[dict[str, list[Row]], list[str]]:
    fractions, fraction_beams = [], []
    for group in dataset.items("FractionGroupSequence"):
        fractions.append(row := _row(group, _FRACTIONS))
        number = {"fraction_group": row["fraction_group"]}
        fraction_beams += [
            number | _row(one, _FRACTION_BEAM) for one in group.items("ReferencedBeamSequence")
        ]
    beams: list[Row] = []
    points: list[Row] = []
    findings: list[str] = []
    for item in (*dataset.items("BeamSequence"), *dataset.items("IonBeamSequence")):
        beam, unit = _row(item, _BEAM), _energy_unit(item)
        mine = _control_points(item, beam["beam_number"])
        used = [one for one in fraction_beams if one["beam_number"] == beam["beam_number"]]
        beams.append(_beam_row(beam, mine, used, unit))
        points += _with_metersets(mine, beams[-1])
        findings += _beam_findings(item, beam, mine)
    findings += _reference_findings(fractions, fraction_beams, beams)
    prescriptions = [_row(item, _PRESCRIPTION) for item in dataset.items("DoseReferenceSequence")]
    rows = {"prescriptions": prescriptions, "fractions": fractions, "fraction_beams": fraction_beams}
    return rows | {"beams": beams, "control_points": points, "brachy": list(_channels(dataset))}, findings


def _energy_unit(item: Attributes) -> str | None:
    if "IonControlPointSequence" in item:
        return "MeV/u"
    return _ENERGY_UNITS.get(item.text("RadiationType") or "")


def _control_points(beam: Attributes, number: int | None) -> list[Row]:
    """The control points of a beam in their order, what holds on carried along."""
    rows = []
    state: Row = dict.fromkeys([*_CHANGING, *_DEVICES.values()])
    for item in (*beam.items("ControlPointSequence"), *beam.items("IonControlPointSequence")):
        changed = {**_row(item, _CHANGING), **_devices(item)}
        state = state | {name: value for name, value in changed.items() if value is not None}
        index = _value(item, "count", "ControlPointIndex")
        rows.append({"beam_number": number, "index": index, **_row(item, _OWN), **state})
    return rows


def _devices(item: Attributes) -> Row:
    """Jaws as (lower, upper), leaves as (2, pairs): the first half of the values is the lower side."""
    found: Row = {}
    for device in item.items("BeamLimitingDevicePositionSequence"):
        name = _DEVICES.get(device.text("RTBeamLimitingDeviceType") or "")
        positions = device.numbers("LeafJawPositions")
        if name is None or not positions or len(positions) % 2:
            continue
        if name.startswith("leaves"):
            found[name] = np.array(positions).reshape(2, -1)
        elif len(positions) == 2:
            found[name] = positions
    return found


def _beam_row(beam: Row, points: Sequence[Row], used: Sequence[Row], unit: str | None) -> Row:
    first, last = (points[0], points[-1]) if points else ({}, {})
    only = used[0] if len(used) == 1 else {}
    return {
        **{name: beam.get(name) for name in _BEAM},
        **{name: first.get(name) for name in _CHANGING},
        "gantry_stop_degrees": last.get("gantry_degrees"),
        "energy_unit": unit,
        "ssd_mm": first.get("ssd_mm"),
        "meterset": only.get("meterset"),
        "beam_dose_gy": only.get("beam_dose_gy"),
        "control_points": len(points),
    }


def _with_metersets(points: Sequence[Row], beam: Row) -> Iterator[Row]:
    total, final = beam["meterset"], beam["final_weight"]
    for point in points:
        weight = point["cumulative_weight"]
        known = weight is not None and total is not None and bool(final)
        yield {**point, "cumulative_meterset": total * weight / final if known else None}


def _beam_findings(item: Attributes, beam: Row, points: Sequence[Row]) -> Iterator[str]:
    number, stated = beam["beam_number"], _value(item, "count", "NumberOfControlPoints")
    if stated is not None and stated != len(points):
        yield f"beam {number} has {len(points)} control points, NumberOfControlPoints says {stated}"
    weights = [p["cumulative_weight"] for p in points if p["cumulative_weight"] is not None]
    if any(later < earlier for earlier, later in pairwise(weights)):
        yield f"the cumulative meterset weight of beam {number} falls between control points"
    if weights and beam["final_weight"] is not None and not np.isclose(weights[-1], beam["final_weight"]):
        yield f"beam {number} does not end at its FinalCumulativeMetersetWeight"


def _reference_findings(fractions: Sequence[Row], used: Sequence[Row], beams: Sequence[Row]) -> Iterator[str]:
    known = [beam["beam_number"] for beam in beams]
    if len(set(known)) != len(known):
        yield "several beams have the same BeamNumber"
    for number in dict.fromkeys(one["beam_number"] for one in used):
        if number not in known:
            yield f"a fraction group refers to beam {number}, which the plan does not have"
    for group in fractions:
        listed = sum(one["fraction_group"] == group["fraction_group"] for one in used)
        if group["beams"] is not None and group["beams"] != listed:
            stated = group["beams"]
            yield f"fraction group {group['fraction_group']} has {listed} beams, NumberOfBeams says {stated}"


def _channels(dataset: Attributes) -> Iterator[Row]:
    sources = {}
    for item in dataset.items("SourceSequence"):
        sources[_value(item, "count", "SourceNumber")] = _row(item, _SOURCE)
    for setup in dataset.items("ApplicationSetupSequence"):
        for item in setup.items("ChannelSequence"):
            channel = _row(item, _CHANNEL)
            source = sources.get(channel["source_number"], dict.fromkeys(_SOURCE))
            yield {**_row(setup, _SETUP), **channel, **source}
