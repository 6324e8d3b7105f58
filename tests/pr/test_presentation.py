"""Presentation states: what other software wrote is read back, piece by piece."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from dicomlake.dicom.luts import Lut
from dicomlake.errors import BrokenObject
from dicomlake.objects.display import Window
from dicomlake.objects.presentation import PresentationState, read_presentation
from tests.objects import ROOT, as_bytes, dataset

REAL = "gsps/weasis-dicom-tools/src/test/resources/org/dcm4che3/img/prLUTs.dcm"
SECRET = "Weissderteufel"
EQUIPMENT: dict[str, Any] = {
    "series_instance_uid": f"{ROOT}.10.1",
    "series_number": 1,
    "sop_instance_uid": f"{ROOT}.10.2",
    "instance_number": 1,
    "manufacturer": "tests",
    "manufacturer_model_name": "tests",
    "software_versions": "1",
    "device_serial_number": "1",
    "content_label": "STATE",
}


def images() -> list[Dataset]:
    required = {"PatientBirthDate": "", "StudyTime": "", "StudyID": "", "AccessionNumber": ""}
    return [dataset(n, **required, ReferringPhysicianName="", Manufacturer="") for n in (1, 2)]


def grayscale(*, change: dict[str, Any] | None = None, **others: Any) -> PresentationState:
    """A state that highdicom makes; `change` are elements put in afterwards."""
    made = hd.pr.GrayscaleSoftcopyPresentationState(images(), **EQUIPMENT, **others)
    for keyword, value in (change or {}).items():
        setattr(made, keyword, value)
    return read_presentation(as_bytes(made))


def item(**values: Any) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def annotated(layer: hd.pr.GraphicLayer) -> Sequence[hd.pr.GraphicAnnotation]:
    circle = hd.pr.GraphicObject(
        "CIRCLE",
        np.array([[4.5, 6.0], [4.5, 8.0]]),
        "PIXEL",
        is_filled=True,
        tracking_id="a",
        tracking_uid="1.2.3",
    )
    line = hd.pr.GraphicObject("POLYLINE", np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.5]]), "DISPLAY")
    boxed = hd.pr.TextObject(SECRET, "PIXEL", bounding_box=(1, 2, 10, 4), text_justification="LEFT")
    anchored = hd.pr.TextObject("here", "DISPLAY", anchor_point=(0.5, 0.75), anchor_point_visible=False)
    first = images()[:1]
    return [
        hd.pr.GraphicAnnotation(first, layer, graphic_objects=[circle], text_objects=[boxed, anchored]),
        hd.pr.GraphicAnnotation(images(), layer, graphic_objects=[line]),
    ]


def test_the_tables_of_a_real_state_are_those_of_pydicom(real_data: Path) -> None:
    state = read_presentation((real_data / REAL).read_bytes())
    ds = pydicom.dcmread(real_data / REAL)
    assert state.kind == "Grayscale Softcopy Presentation State"
    assert [ref.sop_instance_uid for ref in state.images] == [
        ds.ReferencedSeriesSequence[0].ReferencedImageSequence[0].ReferencedSOPInstanceUID
    ]
    assert state.images[0].series_uid == ds.ReferencedSeriesSequence[0].SeriesInstanceUID
    assert state.modality is not None
    assert isinstance(state.modality.lut, Lut)
    assert isinstance(state.presentation_lut, Lut)
    for lut, theirs in (
        (state.modality.lut, ds.ModalityLUTSequence[0]),
        (state.voi[0].luts[0], ds.SoftcopyVOILUTSequence[0].VOILUTSequence[0]),
        (state.presentation_lut, ds.PresentationLUTSequence[0]),
    ):
        assert list(lut.values) == list(theirs.LUTData)
        assert (len(lut.values), lut.first, lut.bits) == (256, 0, 8)
    assert state.modality.type == "US"
    (area,) = state.displayed_areas
    assert (area.top_left, area.bottom_right, area.mode) == ((1, 1), (512, 512), "SCALE TO FIT")
    assert area.aspect == (1, 1)
    assert state.graphics().empty
    assert "points" in state.graphics().columns
    assert "text" in state.texts().columns


def test_graphics_and_texts_come_with_layer_units_and_images() -> None:
    layer = hd.pr.GraphicLayer("NODULES", 1, display_color=hd.color.CIELabColor(0.0, 0.0, 0.0))
    other = hd.pr.GraphicLayer("BELOW", 0)
    state = grayscale(graphic_layers=[layer, other], graphic_annotations=annotated(layer))
    drawn = state.graphics()
    assert drawn.kind.tolist() == ["CIRCLE", "POLYLINE"]
    assert drawn.points[0].tolist() == [[4.5, 6.0], [4.5, 8.0]]
    assert np.allclose(drawn.points[1], [[0.1, 0.2], [0.3, 0.4], [0.5, 0.5]])
    assert drawn.units.tolist() == ["PIXEL", "DISPLAY"]
    assert drawn.filled[0]
    assert drawn.layer.tolist() == ["NODULES", "NODULES"]
    assert [len(refs) for refs in drawn["images"]] == [1, 2]
    assert drawn["images"][0][0].sop_instance_uid == images()[0].SOPInstanceUID
    assert drawn.tracking_UID[0] == "1.2.3"
    written = state.texts()
    assert written.text.tolist() == [SECRET, "here"]
    assert (written.top_left[0], written.bottom_right[0]) == ((1, 2), (10, 4))
    assert (written.justification[0], written.units[0]) == ("LEFT", "PIXEL")
    assert (written.anchor[1], written.anchor_units[1]) == ((0.5, 0.75), "DISPLAY")
    assert not written.anchor_visible[1]
    assert [(one.name, one.order, one.rgb) for one in state.layers] == [
        ("BELOW", 0, None),
        ("NODULES", 1, (0, 0, 0)),
    ]
    assert SECRET not in repr(state)
    assert "2 annotations" in repr(state)


def test_windows_and_tables_say_which_images_they_are_for() -> None:
    table = hd.VOILUT(3, np.array([1, 5, 9], np.uint16))
    first = hd.content.ReferencedImageSequence(images()[:1])
    windows = hd.pr.SoftcopyVOILUTTransformation(
        [40.0, 300.5], [400.0, 1500.0], voi_lut_function="SIGMOID", referenced_images=first
    )
    state = grayscale(voi_lut_transformations=[windows])
    (voi,) = state.voi
    assert voi.windows == (Window(40.0, 400.0, "SIGMOID"), Window(300.5, 1500.0, "SIGMOID"))
    assert [ref.sop_instance_uid for ref in voi.images] == [images()[0].SOPInstanceUID]
    tabled = grayscale(voi_lut_transformations=[hd.pr.SoftcopyVOILUTTransformation(voi_luts=[table])])
    (lut,) = tabled.voi[0].luts
    assert lut.apply([-10, 3, 4, 5, 70]).tolist() == [1, 1, 5, 9, 9]


def test_rotation_flip_shutters_and_area_are_read() -> None:
    state = grayscale(
        change={
            "ImageRotation": 270,
            "ImageHorizontalFlip": "Y",
            "ShutterShape": ["RECTANGULAR", "CIRCULAR", "POLYGONAL"],
            "ShutterLeftVerticalEdge": 2,
            "ShutterRightVerticalEdge": 14,
            "ShutterUpperHorizontalEdge": 3,
            "ShutterLowerHorizontalEdge": 13,
            "CenterOfCircularShutter": [8, 6],
            "RadiusOfCircularShutter": 5,
            "VerticesOfThePolygonalShutter": [1, 2, 3, 4, 5, 7],
            "ShutterPresentationValue": 0,
            "DisplayedAreaSelectionSequence": [
                item(
                    DisplayedAreaTopLeftHandCorner=[-3, 1],
                    DisplayedAreaBottomRightHandCorner=[16, 20],
                    PresentationSizeMode="MAGNIFY",
                    PresentationPixelSpacing=[0.5, 0.25],
                    PresentationPixelMagnificationRatio=2.0,
                )
            ],
        }
    )
    assert (state.rotation, state.flipped) == (270, True)
    rectangle, circle, polygon = state.shutters
    assert rectangle.points.tolist() == [[2, 3], [14, 13]]
    assert (circle.points.tolist(), circle.radius) == ([[6, 8]], 5)
    assert polygon.points.tolist() == [[2, 1], [4, 3], [7, 5]]
    assert state.shutter_gray == 0
    (area,) = state.displayed_areas
    assert (area.top_left, area.bottom_right) == ((-3, 1), (16, 20))
    assert (area.spacing_mm, area.magnification) == ((0.5, 0.25), 2.0)


def test_a_plain_state_turns_nothing_and_hides_nothing() -> None:
    state = grayscale()
    assert (state.rotation, state.flipped, state.shutters) == (0, False, ())
    assert state.presentation_lut == "IDENTITY"
    assert state.modality is not None
    assert (state.modality.slope, state.modality.intercept) == (1, -1024)
    assert [ref.sop_instance_uid for ref in state.images] == [image.SOPInstanceUID for image in images()]
    assert repr(state) == (
        "<PresentationState: Grayscale Softcopy Presentation State, 2 images, 0 layers, 0 annotations>"
    )


def test_a_pseudo_colour_state_has_its_palette() -> None:
    colours = np.array([[0, 1, 2], [256, 257, 258], [65535, 3, 4]], np.uint16)
    tables = [
        hd.PaletteColorLUT(7, column, name)
        for column, name in zip(colours.T, ("red", "green", "blue"), strict=True)
    ]
    made = hd.pr.PseudoColorSoftcopyPresentationState(
        images(), palette_color_lut_transformation=hd.PaletteColorLUTTransformation(*tables), **EQUIPMENT
    )
    state = read_presentation(as_bytes(made))
    assert state.palette is not None
    assert state.palette.first == 7
    assert np.array_equal(state.palette.colours, colours)


def test_a_blending_state_names_both_inputs() -> None:
    def given(position: str, number: int, center: float) -> Dataset:
        image = item(
            ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2", ReferencedSOPInstanceUID=f"1.2.{number}"
        )
        return item(
            BlendingPosition=position,
            StudyInstanceUID="1.2.3",
            ReferencedSeriesSequence=[item(SeriesInstanceUID="1.2.4", ReferencedImageSequence=[image])],
            SoftcopyVOILUTSequence=[item(WindowCenter=center, WindowWidth=10)],
        )

    inputs = [given("UNDERLYING", 8, 40), given("SUPERIMPOSED", 9, 5)]
    ds = dataset(SOPClassUID="1.2.840.10008.5.1.4.1.1.11.4", BlendingSequence=inputs, RelativeOpacity=0.25)
    state = read_presentation(as_bytes(ds))
    assert [one.position for one in state.blended] == ["UNDERLYING", "SUPERIMPOSED"]
    assert [one.voi[0].windows[0].center for one in state.blended] == [40, 5]
    assert [ref.sop_instance_uid for ref in state.images] == ["1.2.8", "1.2.9"]
    assert state.opacity == 0.25


def test_a_table_for_negative_values_is_read_by_the_intercept_of_the_state() -> None:
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [3, 65533, 16])  # -3, written in an unsigned VR
    table.add_new("LUTData", "OW", np.array([1, 5, 9], "<u2").tobytes())
    state = grayscale(change={"SoftcopyVOILUTSequence": [item(VOILUTSequence=[table])]})
    (lut,) = state.voi[0].luts
    assert lut.first == -3
    broken = Dataset()
    broken.add_new("LUTDescriptor", "US", [5, 0, 16])
    broken.add_new("LUTData", "OW", bytes(8))
    with pytest.raises(BrokenObject, match="5 entries"):
        grayscale(change={"SoftcopyVOILUTSequence": [item(VOILUTSequence=[broken])]})


def test_an_object_of_another_class_is_refused() -> None:
    with pytest.raises(BrokenObject, match="not that of a presentation state"):
        read_presentation(as_bytes(dataset()))
