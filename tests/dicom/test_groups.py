"""Functional groups: which macro counts, what it says, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ParametricMapStorage, VLWholeSlideMicroscopyImageStorage

from dicomlake.dicom import standard
from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.expand import frames_of
from dicomlake.dicom.frames import Frame
from dicomlake.dicom.functional_groups import FunctionalGroups
from dicomlake.dicom.headers import read_header
from tests.dicom.enhanced import AXIAL_PLANE, MEASURES, Item, at, expand, grouped, item
from tests.dicom.phantoms import as_bytes

PLACED: Item = {**AXIAL_PLANE, **MEASURES}


def content(**values: Any) -> Item:
    return {"FrameContentSequence": values}


def dimension(pointer: int | str) -> Item:
    """One entry of DimensionIndexSequence."""
    tag = standard.tag_of(pointer) if isinstance(pointer, str) else pointer
    return {"DimensionIndexPointer": tag, "FunctionalGroupPointer": 0x00209111}


def facets_of_one(macro: Item, shared: Item | None = None) -> dict[str, object]:
    (frame,) = expand(grouped([at(0, 0, 0, **macro)], shared or PLACED))
    return dict(frame.facets)


# ---- geometry --------------------------------------------------------------------------------------


def test_frames_take_their_own_position_and_the_shared_orientation_and_spacing() -> None:
    frames = expand(grouped([at(1, 2, 3), at(1, 2, 5.5)], PLACED))
    assert [frame.position for frame in frames] == [(1, 2, 3), (1, 2, 5.5)]
    assert all(frame.orientation == (1, 0, 0, 0, 1, 0) for frame in frames)
    assert all((frame.spacing_mm, frame.nominal_step_mm) == ((0.7, 0.6), 2.5) for frame in frames)
    assert [(frame.frame_index, frame.multiframe, frame.flaw) for frame in frames] == [
        (0, True, None),
        (1, True, None),
    ]


def test_the_macro_of_a_frame_wins_over_the_shared_one() -> None:
    own = {
        "PlaneOrientationSequence": {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]},
        "PixelMeasuresSequence": {"PixelSpacing": [3, 4], "SliceThickness": 5},
    }
    plain, special = expand(grouped([at(0, 0, 0), at(0, 0, 1, **own)], PLACED))
    assert (plain.orientation, plain.spacing_mm) == ((1, 0, 0, 0, 1, 0), (0.7, 0.6))
    assert (special.orientation, special.spacing_mm) == ((0, 1, 0, 0, 0, -1), (3, 4))
    assert special.nominal_step_mm == 5


def test_orientation_and_spacing_of_the_top_level_stand_in_for_macros() -> None:
    ds = grouped([at(0, 0, 0), at(0, 0, 1)])
    ds.ImageOrientationPatient, ds.PixelSpacing = [0, 1, 0, 0, 0, -1], [0.25, 0.5]
    assert [(frame.orientation, frame.spacing_mm) for frame in expand(ds)] == 2 * [
        ((0, 1, 0, 0, 0, -1), (0.25, 0.5))
    ]


def test_a_position_at_the_top_level_is_that_of_a_lone_frame_only() -> None:
    def of(count: int) -> tuple[Frame, ...]:
        ds = grouped([content(StackID="1")] * count, PLACED)
        ds.ImagePositionPatient = [7, 8, 9]
        return expand(ds)

    assert of(1)[0].position == (7, 8, 9)
    assert all(frame.position is None and "ImagePositionPatient" in str(frame.flaw) for frame in of(2))


def test_a_position_that_all_frames_share_is_theirs() -> None:
    shared = {**PLACED, **at(1, 2, 3)}
    frames = expand(grouped([content(TemporalPositionIndex=i) for i in (1, 2)], shared))
    assert [(frame.position, frame.facets["temporal"]) for frame in frames] == [
        ((1, 2, 3), 1),
        ((1, 2, 3), 2),
    ]


def test_a_frame_without_its_macro_has_no_geometry_and_the_others_keep_theirs() -> None:
    first, second, third = expand(grouped([at(0, 0, 0), content(StackID="1"), at(0, 0, 2)], PLACED))
    assert (first.position, third.position) == ((0, 0, 0), (0, 0, 2))
    assert (second.position, second.orientation, second.spacing_mm) == (None, None, None)
    assert "ImagePositionPatient" in str(second.flaw)


@pytest.mark.parametrize(("items", "count"), [(2, 3), (3, 2), (1, 2), (2, 1)])
def test_items_that_are_not_one_for_each_frame_place_none(items: int, count: int) -> None:
    ds = grouped([at(0, 0, i) for i in range(items)], PLACED, NumberOfFrames=count)
    frames = expand(ds)
    assert len(frames) == count
    assert all(frame.position is None and not frame.has_geometry for frame in frames)
    assert all(f"{items} items for {count} frames" in str(frame.flaw) for frame in frames)


def test_without_groups_an_enhanced_object_places_nothing() -> None:
    ds = grouped(None, NumberOfFrames=2)
    ds.ImagePositionPatient, ds.ImageOrientationPatient, ds.PixelSpacing = (
        [0, 0, 0],
        [1, 0, 0, 0, 1, 0],
        [1, 1],
    )
    frames = expand(ds)
    assert len(frames) == 2
    assert all(frame.position is None and "absent" in str(frame.flaw) for frame in frames)


@pytest.mark.parametrize("keyword", ["PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"])
def test_groups_that_cannot_be_read_place_nothing(keyword: str) -> None:
    dataset = read_header(as_bytes(grouped([at(0, 0, 0), at(0, 0, 1)], PLACED))).dataset
    tag = standard.tag_of(keyword)
    assert tag is not None
    broken = replace(dataset, elements={**dataset.elements, tag: ("SQ", b"no item here at all")})
    assert all("cannot be read" in str(frame.flaw) for frame in frames_of(broken))


def test_a_macro_that_cannot_be_read_loses_its_frame_only() -> None:
    dataset = read_header(as_bytes(grouped([at(0, 0, 0), at(0, 0, 1)], PLACED))).dataset
    groups = FunctionalGroups(dataset, 2)
    position = standard.tag_of("PlanePositionSequence")
    sequence = standard.tag_of("PerFrameFunctionalGroupsSequence")
    assert position is not None
    assert sequence is not None
    (whole,) = groups.items(1, "PlanePositionSequence")
    assert whole.numbers("ImagePositionPatient") == (0, 0, 1)
    raw = dataset.elements[sequence][1]
    mark = b"\x20\x00\x13\x91SQ"
    place = raw.rindex(mark) + 12  # the tag of the first item in the second position macro
    damaged = raw[:place] + b"\xff\x7f" + raw[place + 2 :]
    first, second = frames_of(replace(dataset, elements={**dataset.elements, sequence: ("SQ", damaged)}))
    assert first.position == (0, 0, 0)
    assert second.position is None
    assert "cannot be read" in str(second.flaw)


def test_planes_of_an_ultrasound_volume_are_in_the_coordinates_of_that_volume() -> None:
    planes = [{"PlanePositionVolumeSequence": {"ImagePositionVolume": [0.0, 0.0, z]}} for z in (0.0, 0.5)]
    shared = {"PlaneOrientationVolumeSequence": {"ImageOrientationVolume": [1.0, 0, 0, 0, 1, 0]}, **MEASURES}
    ds = grouped(planes, shared, SOPClassUID="1.2.840.10008.5.1.4.1.1.6.2", VolumeFrameOfReferenceUID="1.2.3")
    frames = expand(ds)
    assert [frame.position for frame in frames] == [(0, 0, 0), (0, 0, 0.5)]
    assert all(frame.frame_of_reference_uid == "1.2.3" for frame in frames)
    assert all(frame.facets["coordinates"] == "volume" for frame in frames)


def test_tiles_of_a_slide_have_no_place_in_a_patient() -> None:
    tile = {
        "PlanePositionSlideSequence": {"ColumnPositionInTotalImagePixelMatrix": 1},
        "OpticalPathIdentificationSequence": {"OpticalPathIdentifier": "blue"},
    }
    for frame in expand(grouped([tile, tile], MEASURES, SOPClassUID=VLWholeSlideMicroscopyImageStorage)):
        assert frame.position is None
        assert "slide" in str(frame.flaw)
        assert frame.facets["optical_path"] == "blue"


def test_tiles_that_are_all_there_need_no_items() -> None:
    ds = grouped(None, MEASURES, NumberOfFrames=500, DimensionOrganizationType="TILED_FULL")
    frames = expand(ds)
    assert [frame.frame_index for frame in frames] == list(range(500))
    assert all("slide" in str(frame.flaw) for frame in frames)


def test_equal_macros_are_read_once() -> None:
    seen: list[float | None] = []

    def reader(found: Attributes) -> float | None:
        seen.append(found.number("EffectiveEchoTime"))
        return seen[-1]

    echoes = [10.0, 20.0, 10.0, 20.0, 10.0]
    ds = grouped([at(0, 0, i, MREchoSequence={"EffectiveEchoTime": e}) for i, e in enumerate(echoes)], PLACED)
    groups = FunctionalGroups(read_header(as_bytes(ds)).dataset, 5)
    assert [groups.read(i, "MREchoSequence", reader) for i in range(5)] == echoes
    assert seen == [10.0, 20.0]


# ---- what tells frames apart -----------------------------------------------------------------------

TEN_PAST_NOON = 1709208600.0  # 2024-02-29 12:10 UTC


@pytest.mark.parametrize(
    ("macro", "expected"),
    [
        ({"MREchoSequence": {"EffectiveEchoTime": 4.6}}, {"echo": 4.6}),
        ({"MRTimingAndRelatedParametersSequence": {"FlipAngle": 70.0}}, {"flip": 70}),
        ({"MRModifierSequence": {"InversionRecovery": "YES", "InversionTimes": [900.0]}}, {"inversion": 900}),
        ({"MRModifierSequence": {"InversionRecovery": "YES", "InversionTimes": [900.0, 2700.0]}}, {}),
        (
            {
                "MRImageFrameTypeSequence": {
                    "FrameType": ["ORIGINAL", "PRIMARY"],
                    "ComplexImageComponent": "PHASE",
                }
            },
            {"component": "phase", "image_type": "ORIGINAL\\PRIMARY"},
        ),
        (
            content(FrameAcquisitionDateTime="20240229121000.5", FrameReferenceDateTime="20240229121001"),
            {"acquisition_time": TEN_PAST_NOON + 0.5, "reference_time": TEN_PAST_NOON + 1},
        ),
        (content(TemporalPositionIndex=3, FrameAcquisitionNumber=9), {"temporal": 3, "acquisition": 9}),
        ({"TemporalPositionSequence": {"TemporalPositionTimeOffset": 1.5}}, {"frame_reference_time": 1500}),
        (
            {"CardiacSynchronizationSequence": {"NominalCardiacTriggerDelayTime": 320.0}},
            {"trigger": 320},
        ),
        ({"CardiacSynchronizationSequence": {"NominalPercentageOfCardiacPhase": 75.0}}, {"phase": 75}),
        (
            {"RespiratorySynchronizationSequence": {"NominalPercentageOfRespiratoryPhase": 50.0}},
            {"dim_respiratory_phase": 50},
        ),
        ({"CTXRayDetailsSequence": {"KVP": 120.0}}, {"kvp": 120}),
        ({"CTReconstructionSequence": {"ConvolutionKernel": "B30f"}}, {"kernel": "B30f"}),
        ({"MultienergyCTCharacteristicsSequence": {"MonoenergeticEnergyEquivalent": 70.0}}, {"energy": 70}),
        ({"PositionerPositionSequence": {"PositionerPrimaryAngle": -30.0}}, {"angle": -30}),
        ({"ImageDataTypeSequence": {"DataType": "FLOW_VELOCITY"}}, {"component": "flow_velocity"}),
        ({"SegmentIdentificationSequence": {"ReferencedSegmentNumber": 4}}, {"segment": 4}),
        ({"MRArterialSpinLabelingSequence": {"ASLContext": "CONTROL"}}, {"dim_asl_context": "control"}),
        (
            {"MRVelocityEncodingSequence": {"VelocityEncodingDirection": [0.0, 0.0, 2.0]}},
            {"dim_velocity_encoding": (0, 0, 1)},
        ),
    ],
)
def test_macros_say_what_tells_frames_apart(macro: Item, expected: dict[str, object]) -> None:
    usual = {"image_type": "ORIGINAL\\PRIMARY\\AXIAL"}  # of the top level
    assert facets_of_one(macro) == {**usual, **expected}


@pytest.mark.parametrize(
    ("macro", "expected"),
    [
        (
            {
                "DiffusionDirectionality": "DIRECTIONAL",
                "DiffusionBValue": 1000.0,
                "DiffusionGradientDirectionSequence": {"DiffusionGradientOrientation": [0.0, 0.6, -0.8]},
            },
            {"b": 1000, "gradient": (0, 0.6, -0.8)},
        ),
        ({"DiffusionDirectionality": "ISOTROPIC", "DiffusionBValue": 800.0}, {"b": 800}),
        ({"DiffusionDirectionality": "NONE", "DiffusionBValue": 0.0}, {"b": 0}),
        ({"DiffusionDirectionality": "NONE"}, {}),
        (
            {
                "DiffusionDirectionality": "BMATRIX",
                "DiffusionBMatrixSequence": {  # 500 times the outer product of (0.6, 0, -0.8)
                    f"DiffusionBValue{axes}": value
                    for axes, value in zip(
                        ("XX", "XY", "XZ", "YY", "YZ", "ZZ"), (180.0, 0, -240.0, 0, 0, 320.0), strict=True
                    )
                },
            },
            {"b": 500, "gradient": (-0.6, 0, 0.8)},
        ),
    ],
    ids=["directional", "isotropic", "none", "unstated", "matrix"],
)
def test_diffusion_weighting(macro: Item, expected: dict[str, Any]) -> None:
    found = facets_of_one({"MRDiffusionSequence": macro})
    assert set(found) - {"image_type"} == set(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value)


@pytest.mark.parametrize(
    "direction", [(0.6, 0, 0.8), (-0.6, 0.8, 0), (0, 0.8, 0.6), (1, 0, 0), (0.48, -0.6, 0.64), (-0.8, 0, 0.6)]
)
def test_the_direction_of_a_b_matrix_is_the_one_towards_the_head(direction: tuple[float, ...]) -> None:
    x, y, z = direction
    products = zip(
        ("XX", "XY", "XZ", "YY", "YZ", "ZZ"), (x * x, x * y, x * z, y * y, y * z, z * z), strict=True
    )
    matrix = {f"DiffusionBValue{axes}": 1000.0 * product for axes, product in products}
    found = facets_of_one(
        {"MRDiffusionSequence": {"DiffusionDirectionality": "BMATRIX", "DiffusionBMatrixSequence": matrix}}
    )
    assert found["b"] == pytest.approx(1000)
    assert found["gradient"] == pytest.approx(direction, abs=1e-6)


def test_a_shared_macro_speaks_for_frames_without_one() -> None:
    shared = {**PLACED, "MREchoSequence": {"EffectiveEchoTime": 5.0}}
    frames = expand(grouped([at(0, 0, 0), at(0, 0, 1, MREchoSequence={"EffectiveEchoTime": 9.0})], shared))
    assert [frame.facets["echo"] for frame in frames] == [5, 9]


def test_localizers_are_told_by_the_type_of_the_frame() -> None:
    kinds = (["ORIGINAL", "PRIMARY", "LOCALIZER"], ["ORIGINAL", "PRIMARY", "AXIAL"])
    groups = [at(0, 0, i, CTImageFrameTypeSequence={"FrameType": kind}) for i, kind in enumerate(kinds)]
    frames = expand(grouped(groups, PLACED, ImageType=["ORIGINAL", "PRIMARY", "MIXED"]))
    assert [frame.localizer for frame in frames] == [True, False]


def test_dimensions_that_nothing_names_are_facets_by_their_index() -> None:
    groups = [
        at(0, 0, 0, **content(DimensionIndexValues=[1, 1, t, k, 7], TemporalPositionIndex=t))
        for t in (1, 2)
        for k in (1, 2)
    ]
    pointers = ("StackID", "InStackPositionNumber", "TemporalPositionIndex", "ContrastBolusAgentNumber")
    ds = with_dimensions(groups, [*pointers, 0x20051011])
    found = [{k: v for k, v in frame.facets.items() if k.startswith("dim_")} for frame in expand(ds)]
    assert found == [
        {"dim_StackID": 1, "dim_ContrastBolusAgentNumber": k, "dim_Private20051011": 7} for k in (1, 2, 1, 2)
    ]


def with_dimensions(groups: list[Item], pointers: list[int | str], shared: Item = PLACED) -> Dataset:
    ds = grouped(groups, shared)
    ds.DimensionIndexSequence = [item(dimension(pointer)) for pointer in pointers]
    return ds


def test_the_place_in_a_stack_is_a_facet_only_where_positions_are_missing() -> None:
    def of(*groups: Item) -> list[object]:
        frames = expand(with_dimensions(list(groups), ["InStackPositionNumber"]))
        return [frame.facets.get("dim_InStackPositionNumber") for frame in frames]

    indices = [content(DimensionIndexValues=[i]) for i in (5, 6)]
    assert of(*indices) == [5, 6]
    assert of(*(at(0, 0, i, **found) for i, found in enumerate(indices))) == [None, None]


def test_index_values_that_do_not_match_the_dimensions_are_left_out() -> None:
    groups = [at(0, 0, 0, **content(DimensionIndexValues=[1, 2, 3]))]
    (frame,) = expand(with_dimensions(groups, ["StackID", "ContrastBolusAgentNumber"]))
    assert not any(name.startswith("dim_") for name in frame.facets)


def test_a_converted_object_keeps_what_its_images_said() -> None:
    groups = [
        at(0, 0, i, UnassignedPerFrameConvertedAttributesSequence={"EchoTime": echo, "AcquisitionNumber": 3})
        for i, echo in enumerate((10, 20))
    ]
    shared = {**PLACED, "UnassignedSharedConvertedAttributesSequence": {"FlipAngle": 15}}
    frames = expand(grouped(groups, shared, SOPClassUID="1.2.840.10008.5.1.4.1.1.4.4"))
    assert [(f.facets["echo"], f.facets["flip"], f.facets["acquisition"]) for f in frames] == [
        (10, 15, 3),
        (20, 15, 3),
    ]


def test_units_of_converted_pet_are_its_own_attribute() -> None:
    shared = {**PLACED, "UnassignedSharedConvertedAttributesSequence": {"Units": "BQML"}}
    groups = [at(0, 0, i, **rescale(str(1 + i))) for i in range(2)]
    frames = expand(grouped(groups, shared, SOPClassUID="1.2.840.10008.5.1.4.1.1.128.1"))
    assert [(frame.slope, frame.units) for frame in frames] == [(1, "BQML"), (2, "BQML")]
    frames = expand(grouped(groups, shared))
    assert [frame.units for frame in frames] == ["US", "US"]


# ---- what values mean ------------------------------------------------------------------------------


def mapping(slope: float, intercept: float = 0.0, **others: Any) -> Item:
    return {
        "LUTLabel": "ADC",
        "LUTExplanation": "ADC",
        "RealWorldValueFirstValueMapped": 0,
        "RealWorldValueLastValueMapped": 4095,
        "RealWorldValueSlope": slope,
        "RealWorldValueIntercept": intercept,
        "MeasurementUnitsCodeSequence": {
            "CodeValue": "mm2/s",
            "CodingSchemeDesignator": "UCUM",
            "CodeMeaning": "mm2/s",
        },
        **others,
    }


def rescale(slope: str, intercept: str = "0", units: str = "US") -> Item:
    content = {"RescaleSlope": slope, "RescaleIntercept": intercept, "RescaleType": units}
    return {"PixelValueTransformationSequence": content}


@pytest.mark.parametrize(
    ("macros", "expected"),
    [
        (rescale("2", "-1024", "HU"), (2, -1024, "HU")),
        ({}, (None, None, None)),
        ({"RealWorldValueMappingSequence": mapping(1e-6)}, (1e-6, 0, "mm2/s")),
        ({**rescale("1"), "RealWorldValueMappingSequence": mapping(1e-6)}, (1e-6, 0, "mm2/s")),
        (
            {**rescale("1.27985347985347"), "RealWorldValueMappingSequence": mapping(1.2798534798534797)},
            (1.2798534798534797, 0, "mm2/s"),
        ),
        ({**rescale("3"), "RealWorldValueMappingSequence": mapping(1e-6)}, (3, 0, "US")),
        ({**rescale("1", units="HU"), "RealWorldValueMappingSequence": mapping(5.0)}, (1, 0, "HU")),
        ({"RealWorldValueMappingSequence": [mapping(1e-6), mapping(2e-6)]}, (None, None, None)),
    ],
    ids=["rescaled", "nothing", "mapped", "identity", "same", "contradiction", "units", "several"],
)
def test_slope_intercept_and_units(macros: Item, expected: tuple[object, ...]) -> None:
    (frame,) = expand(grouped([at(0, 0, 0, **macros)], PLACED, SOPClassUID=ParametricMapStorage))
    assert (frame.slope, frame.intercept, frame.units) == expected


def test_slopes_are_those_of_each_frame() -> None:
    frames = expand(grouped([at(0, 0, i, **rescale(str(i + 1))) for i in range(3)], PLACED))
    assert [frame.slope for frame in frames] == [1, 2, 3]


def test_a_mapping_by_table_is_marked_and_gives_no_slope() -> None:
    table = mapping(1.0)
    del table["RealWorldValueSlope"], table["RealWorldValueIntercept"]
    table.update(RealWorldValueLastValueMapped=2, RealWorldValueLUTData=[0.0, 1.0, 4.0])
    (frame,) = expand(grouped([at(0, 0, 0, RealWorldValueMappingSequence=table)], PLACED))
    assert frame.slope is None
    assert frame.facets["real_world_lut"] == 1


def coded(name: tuple[str, str], value: tuple[str, str]) -> Item:
    """A content item, name and value as (code, meaning)."""
    codes = [
        {"CodeValue": code, "CodingSchemeDesignator": "99TEST", "CodeMeaning": meaning}
        for code, meaning in (name, value)
    ]
    return {"ValueType": "CODE", "ConceptNameCodeSequence": codes[0], "ConceptCodeSequence": codes[1]}


def test_the_quantity_of_a_map_is_the_meaning_of_its_code() -> None:
    quantity = coded(("246205007", "Quantity"), ("113041", "Apparent Diffusion Coefficient"))
    method = coded(("370129005", "Measurement Method"), ("113250", "Mono-exponential ADC model"))
    mapped = mapping(1.0, QuantityDefinitionSequence=[quantity, method])
    assert facets_of_one({"RealWorldValueMappingSequence": mapped})["quantity"] == (
        "Apparent Diffusion Coefficient"
    )
