"""Plans are read as pydicom reads them; what holds between control points is carried on."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTIonPlanStorage, RTPlanStorage

from dicomlake.errors import DicomlakeError
from dicomlake.objects.rt_plan import read_plan
from tests import objects
from tests.support import pydicom_files

REAL = [
    "rt-dicompyler/rtplan.dcm",
    *(
        f"rt-pymedphys/lib/pymedphys/{name}"
        for name in (
            "_experimental/serviceplans/templates/24mm_x_20mm_rectangle.dcm",
            "_experimental/serviceplans/templates/FFF_example.dcm",
            "_experimental/serviceplans/templates/vmat_example.dcm",
            "tests/dicom/data/rtplan/06MV_plan.dcm",
        )
    ),
]


def item(**values: Any) -> Dataset:
    """An item from keywords; dicts within lists become items too."""
    made = Dataset()
    for keyword, value in values.items():
        nested = isinstance(value, list) and value and isinstance(value[0], dict)
        setattr(made, keyword, [item(**one) for one in value] if nested else value)
    return made


def plan(sop_class: str = RTPlanStorage, **values: Any) -> bytes:
    ds = item(SOPClassUID=sop_class, SOPInstanceUID="1.2.3", Modality="RTPLAN", **values)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = sop_class, "1.2.3"
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def same(mine: Any, theirs: Any) -> bool:
    """Equal, where None, NaN and absent are the same."""
    if theirs is None or (isinstance(theirs, str) and not theirs):
        return mine is None or (not isinstance(mine, tuple) and bool(pd.isna(mine)))
    if isinstance(theirs, str):
        return bool(mine == theirs)
    return bool(np.array_equal(np.asarray(mine, float), np.asarray(theirs, float)))


def check_against_pydicom(data: bytes) -> int:
    """Compare beams and control points value by value; the number of control points."""
    truth, found = pydicom.dcmread(BytesIO(data), force=True), read_plan(data)
    beams, points = found.beams(), found.control_points()
    assert len(beams) == len(truth.BeamSequence)
    metersets = {
        int(ref.ReferencedBeamNumber): ref
        for group in truth.FractionGroupSequence
        for ref in group.get("ReferencedBeamSequence", [])
    }
    for row, beam in zip(beams.itertuples(), truth.BeamSequence, strict=True):
        first = beam.ControlPointSequence[0]
        for column, keyword in (("beam_number", "BeamNumber"), ("beam_type", "BeamType")):
            assert same(getattr(row, column), beam[keyword].value)
        assert row.radiation_type == beam.RadiationType
        assert row.energy_unit == "MV"
        assert same(row.energy, first.get("NominalBeamEnergy"))
        assert same(row.isocenter_mm, first.IsocenterPosition)
        assert same(row.meterset, metersets[int(beam.BeamNumber)].get("BeamMeterset"))
        assert same(row.beam_dose_gy, metersets[int(beam.BeamNumber)].get("BeamDose"))
        held: dict[str, Any] = {}
        mine = points[points.beam_number == row.beam_number]
        for point, other in zip(mine.itertuples(), beam.ControlPointSequence, strict=True):
            for column, keyword in (
                ("gantry_degrees", "GantryAngle"),
                ("collimator_degrees", "BeamLimitingDeviceAngle"),
                ("couch_degrees", "PatientSupportAngle"),
                ("gantry_rotation", "GantryRotationDirection"),
                ("isocenter_mm", "IsocenterPosition"),
            ):
                held[column] = other.get(keyword) if other.get(keyword) is not None else held.get(column)
                assert same(getattr(point, column), held[column]), column
            for column, keyword in (
                ("index", "ControlPointIndex"),
                ("cumulative_weight", "CumulativeMetersetWeight"),
                ("ssd_mm", "SourceToSurfaceDistance"),
            ):
                assert same(getattr(point, column), other.get(keyword)), column
            for device in other.get("BeamLimitingDevicePositionSequence", []):
                held[device.RTBeamLimitingDeviceType] = np.array(device.LeafJawPositions, float)
            for kind, column in (("ASYMY", "y"), ("MLCX", "leaves_x"), ("X", "x")):
                if kind in held:
                    np.testing.assert_array_equal(np.ravel(getattr(point, column)), held[kind])
    return len(points)


@pytest.mark.parametrize("name", REAL)
def test_pydicom_reads_the_same_from_real_plans(name: str, real_data: Path) -> None:
    assert check_against_pydicom((real_data / name).read_bytes()) >= 2


def test_pydicom_reads_the_same_from_its_own_sample() -> None:
    (path,) = (p for p in pydicom_files() if p.name == "rtplan.dcm")
    assert check_against_pydicom(path.read_bytes()) == 2


def test_prescriptions_and_fractions_are_those_of_a_real_plan(real_data: Path) -> None:
    found = read_plan((real_data / REAL[0]).read_bytes())
    assert found.prescriptions().target_prescription_gy.tolist() == [14, 11.3113869239676]
    assert found.prescriptions().reference_type.tolist() == ["TARGET", "TARGET"]
    assert found.prescriptions().point_mm[1] == (91.9182331220605, -319.57116385398, -5.7555046979658)
    assert found.fractions().to_dict("records") == [
        {"fraction_group": 1, "fractions_planned": 7, "beams": 4, "brachy_setups": 0}
    ]
    assert found.fraction_beams().meterset.tolist() == [97, 87, 89, 94]
    assert found.findings == ()
    assert (found.kind, found.geometry) == ("RT Plan", "PATIENT")
    last = found.control_points().groupby("beam_number").cumulative_meterset.last()
    assert last.tolist() == [97, 87, 89, 94]


def test_no_name_of_a_real_plan_is_in_any_table(real_data: Path) -> None:
    data = (real_data / REAL[0]).read_bytes()
    found, truth = read_plan(data), pydicom.dcmread(BytesIO(data))
    shown = repr(found) + "".join(
        getattr(found, name)().to_csv()
        for name in ("prescriptions", "fractions", "fraction_beams", "beams", "control_points", "brachy")
    )
    secrets = [str(truth.PatientName), truth.RTPlanLabel, truth.BeamSequence[0].TreatmentMachineName]
    secrets += [str(beam.BeamName) for beam in truth.BeamSequence]
    secrets += [one.DoseReferenceDescription for one in truth.DoseReferenceSequence]
    assert [secret for secret in secrets if f",{secret}," in shown or secret in repr(found)] == []
    assert "txmachine" not in shown


def beam(*points: dict[str, Any], number: int = 1, **others: Any) -> dict[str, Any]:
    return {
        "BeamNumber": number,
        "RadiationType": "ELECTRON",
        "FinalCumulativeMetersetWeight": 4,
        "NumberOfControlPoints": len(points),
        "ControlPointSequence": list(points),
        **others,
    }


def group(number: int, *metersets: float, beams: int | None = None) -> dict[str, Any]:
    return {
        "FractionGroupNumber": number,
        "NumberOfFractionsPlanned": 5,
        "NumberOfBeams": len(metersets) if beams is None else beams,
        "ReferencedBeamSequence": [
            {"ReferencedBeamNumber": place, "BeamMeterset": value} for place, value in enumerate(metersets, 1)
        ],
    }


POINTS = (
    {"ControlPointIndex": 0, "CumulativeMetersetWeight": 0, "GantryAngle": 10, "SourceToSurfaceDistance": 900,
     "NominalBeamEnergy": 9, "BeamLimitingDevicePositionSequence": [
         {"RTBeamLimitingDeviceType": "ASYMX", "LeafJawPositions": [-1, 2]}]},
    {"ControlPointIndex": 1, "CumulativeMetersetWeight": 1},
    {"ControlPointIndex": 2, "CumulativeMetersetWeight": 4, "GantryAngle": 30},
)  # fmt: skip


def test_what_is_not_restated_holds_but_a_distance_does_not() -> None:
    found = read_plan(plan(BeamSequence=[beam(*POINTS)], FractionGroupSequence=[group(1, 200)]))
    table = found.control_points()
    assert table.gantry_degrees.tolist() == [10, 10, 30]
    assert table.energy.tolist() == [9, 9, 9]
    assert table.x.tolist() == [(-1, 2)] * 3
    assert table.ssd_mm.tolist()[0] == 900
    assert table.ssd_mm.isna().tolist() == [False, True, True]
    assert table.cumulative_meterset.tolist() == [0, 50, 200]
    (row,) = found.beams().itertuples()
    assert (row.gantry_degrees, row.gantry_stop_degrees, row.energy_unit) == (10, 30, "MeV")
    assert found.findings == ()


def test_beams_with_and_without_leaves_stand_in_one_table() -> None:
    leaves = {"RTBeamLimitingDeviceType": "MLCX", "LeafJawPositions": [-1, -2, 3, 4]}
    second = {"ControlPointIndex": 0, "BeamLimitingDevicePositionSequence": [leaves]}
    found = read_plan(plan(BeamSequence=[beam(*POINTS), beam(second, number=2)])).control_points()
    assert found.leaves_x.isna().tolist() == [True, True, True, False]
    np.testing.assert_array_equal(found.leaves_x[3], [[-1, -2], [3, 4]])
    assert list(found) == list(read_plan(plan()).control_points())


def test_a_beam_of_two_fraction_groups_has_no_single_meterset() -> None:
    groups = [group(1, 200), group(2, 300)]
    found = read_plan(plan(BeamSequence=[beam(*POINTS)], FractionGroupSequence=groups))
    assert found.beams().meterset.isna().all()
    assert found.control_points().cumulative_meterset.isna().all()
    assert found.fraction_beams()[["fraction_group", "meterset"]].values.tolist() == [[1, 200], [2, 300]]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"BeamSequence": [beam(*POINTS, NumberOfControlPoints=5)]}, "3 control points"),
        ({"BeamSequence": [beam(*POINTS, FinalCumulativeMetersetWeight=1)]}, "does not end"),
        ({"BeamSequence": [beam(*POINTS[::-1])]}, "falls"),
        ({"BeamSequence": [beam(*POINTS), beam(*POINTS)]}, "same BeamNumber"),
        ({"FractionGroupSequence": [group(1, 9)]}, "refers to beam 1"),
        ({"FractionGroupSequence": [group(1, beams=2)]}, "NumberOfBeams says 2"),
    ],
)
def test_a_plan_that_contradicts_itself_says_so(values: dict[str, Any], words: str) -> None:
    assert any(words in finding for finding in read_plan(plan(**values)).findings)


def test_an_ion_plan_has_its_spots_and_energy_per_nucleon() -> None:
    points = [
        {"ControlPointIndex": n, "CumulativeMetersetWeight": n * 2.0, "NominalBeamEnergy": energy,
         "NumberOfScanSpotPositions": 7 + n, "SnoutPosition": 250.0}
        for n, energy in enumerate((120.5, 120.5, 110.25))
    ]  # fmt: skip
    ion = {
        "BeamNumber": 4,
        "RadiationType": "ION",
        "RadiationMassNumber": 12,
        "RadiationAtomicNumber": 6,
        "ScanMode": "MODULATED",
        "NumberOfRangeShifters": 1,
        "PrimaryDosimeterUnit": "NP",
        "FinalCumulativeMetersetWeight": 4,
        "NumberOfControlPoints": 3,
        "IonControlPointSequence": points,
    }
    found = read_plan(plan(RTIonPlanStorage, IonBeamSequence=[ion]))
    assert repr(found) == "<RT Ion Plan: 1 beams, 3 control points>"
    (row,) = found.beams().itertuples()
    assert (row.mass_number, row.atomic_number, row.scan_mode) == (12, 6, "MODULATED")
    assert (row.energy, row.energy_unit, row.meterset_unit) == (120.5, "MeV/u", "NP")
    assert (row.range_shifters, row.snout_mm) == (1, 250)
    assert found.control_points().energy.tolist() == [120.5, 120.5, 110.25]
    assert found.control_points().spots.tolist() == [7, 8, 9]


def test_brachytherapy_is_told_by_channel_with_its_source() -> None:
    setup = {
        "ApplicationSetupNumber": 1,
        "ApplicationSetupType": "VAGINAL",
        "TotalReferenceAirKerma": 5000,
        "ChannelSequence": [
            {"ChannelNumber": n, "ReferencedSourceNumber": 3, "ChannelTotalTime": 10 * n,
             "NumberOfControlPoints": 8} for n in (1, 2)
        ],
    }  # fmt: skip
    source = {"SourceNumber": 3, "SourceIsotopeName": "Ir-192", "ReferenceAirKermaRate": 40000}
    made = plan(
        ApplicationSetupSequence=[setup], SourceSequence=[source], BrachyTreatmentTechnique="INTRACAVITARY"
    )
    found = read_plan(made)
    table = found.brachy()
    assert table.channel_number.tolist() == [1, 2]
    assert table.total_time_s.tolist() == [10, 20]
    assert table.nuclide.tolist() == ["Ir-192"] * 2
    assert table.air_kerma_rate_ugy_h.tolist() == [40000] * 2
    assert found.technique == "INTRACAVITARY"
    assert "2 brachy channels" in repr(found)


def test_an_empty_plan_has_empty_tables_with_columns() -> None:
    found = read_plan(plan())
    assert list(found.beams()) == list(read_plan(plan(BeamSequence=[beam(*POINTS)])).beams())
    assert found.brachy().empty
    assert "gantry_degrees" in found.control_points()


def test_another_kind_of_object_is_refused() -> None:
    with pytest.raises(DicomlakeError, match="neither RT Plan"):
        read_plan(objects.dicom())
