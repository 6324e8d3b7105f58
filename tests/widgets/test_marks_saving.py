"""What was drawn is found again: as labels of the lake, as SEG, as SR; and names nobody."""

from __future__ import annotations

import json
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

import dicomlake as dl
from dicomlake import datasets
from dicomlake.objects.reports import Report, read_report
from dicomlake.objects.segmentation import Segmentation
from dicomlake.widgets.base import Refusal
from dicomlake.widgets.viewer import saving
from tests.objects import series
from tests.widgets.marks_support import Marker, ct_on, noise

SECRET = "Weissderteufel"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("marks")
    with dl.open(folder / "lake", create=True) as opened:
        opened.ingest(datasets.make("chest-ct", folder / "ct", slices=8))
        opened.ingest(series(6, "1.2.826.0.1.3680043.8.498.5.1", PatientName=f"{SECRET}^Anna"))
        yield opened


@pytest.fixture
def ct(lake: Any) -> Any:
    return next(one for one in lake.query(Modality="CT") if one.facts["instances"] == 8)


@pytest.fixture
def small(lake: Any) -> Any:
    return next(one for one in lake.query(Modality="CT") if one.facts["instances"] == 6)


def viewer_of(subject: Any) -> Marker:
    return Marker(subject.open().image, subject)


def drawn(marker: Marker) -> Marker:
    """One mark of each kind."""
    plane = next(iter(marker.stack_source.planes))
    rows, cols = marker.stack_source.planes[plane].rows, marker.stack_source.planes[plane].cols
    at = np.array([rows, cols]) / 8
    marker.add_mark("length", [at, at * [5, 6]], plane=plane, index=2, name="short axis")
    marker.add_mark("angle", [at, at * [4, 4], at * [1, 6]], plane=plane, index=2)
    marker.add_mark("ellipse", [at * 2, at * [4, 6]], plane=plane, index=3, label="lesion")
    marker.add_mark("rectangle", [at, at * [2, 5]], plane=plane, index=3, through=(2, 4), name="several")
    marker.add_mark("polygon", [at, at * [1, 6], at * [6, 3]], plane=plane, index=1, name="größer")
    marker.add_mark("point", [at * 3], plane=plane, index=0)
    marker.add_mark("key", plane=plane, index=5)
    return marker


def test_marks_and_mask_come_back_in_the_next_viewer(ct: Any) -> None:
    first = drawn(viewer_of(ct))
    labels = np.zeros(first.stack_source.shape, np.uint8)
    labels[2:4, 30:60, 40:50], labels[5, 1, 1] = 1, 2
    first.mask = labels
    saved = first.save()
    assert (saved.marks, saved.voxels) == (7, int((labels > 0).sum()))
    second = viewer_of(ct)
    assert second.load_marks() == 7
    assert second.marks == first.marks
    np.testing.assert_array_equal(second.mask.values, labels)
    assert second.mask_labels == first.mask_labels
    assert second.undo() == ""  # it was so when the viewer opened
    assert viewer_of(ct).load_marks("somebody") == 0


def test_marks_that_replace_what_was_drawn_can_be_undone(small: Any) -> None:
    one, other = viewer_of(small), viewer_of(small)
    one.add_mark("point", [[3, 3]])
    one.save("undone")
    other.add_mark("length", [[1, 1], [5, 5]])
    other.load_marks("undone")
    assert [mark["tool"] for mark in other.marks] == ["point"]
    other.undo()
    assert [mark["tool"] for mark in other.marks] == ["length"]


def test_readers_keep_their_marks_apart(ct: Any) -> None:
    one, other = viewer_of(ct), viewer_of(ct)
    one.add_mark("length", [[1, 1], [9, 9]])
    other.add_mark("point", [[3, 3]])
    one.save("anna")
    other.save("ben")
    assert viewer_of(ct).load_marks("anna") == 1
    assert set(ct.source.labels(ct)["name"]) >= {"viewer_marks_anna", "viewer_marks_ben"}
    with pytest.raises(Refusal, match="letters"):
        one.save("anna lena")


def test_the_save_button_says_what_was_saved(small: Any) -> None:
    marker = viewer_of(small)
    marker.add_mark("point", [[3, 3]])
    assert marker.ask("save_marks")["saved"] == "1 mark saved with the series as viewer_marks"


def test_another_image_of_the_series_keeps_its_own_marks(small: Any) -> None:
    whole, part = viewer_of(small), Marker(small.open().image[1:4], small)
    whole.add_mark("point", [[3, 3]])
    part.add_mark("point", [[5, 5]])
    part.add_mark("point", [[6, 6]])
    whole.save("parts")
    part.save("parts")
    assert viewer_of(small).load_marks("parts") == 1
    assert Marker(small.open().image[1:4], small).load_marks("parts") == 2


def test_an_array_of_no_lake_cannot_be_saved_and_the_error_says_what_can() -> None:
    marker = Marker(ct_on(noise((3, 9, 9))))
    for deed in (marker.save, marker.load_marks, marker.to_seg, marker.to_sr):
        with pytest.raises(Refusal, match=r"open it with series\.view\(\)"):
            deed()


def test_a_mask_too_large_for_a_label_is_refused_and_nothing_is_saved(
    small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "_MOST_TEXT", 300)
    marker = viewer_of(small)
    marker.mask = noise(marker.stack_source.shape) > 1000
    with pytest.raises(Refusal, match=r"to_seg\(ingest=True\)"):
        marker.save("large")
    assert viewer_of(small).load_marks("large") == 0


@pytest.mark.parametrize(
    "text",
    [
        "good",
        '{"version":1}',
        '{"version":1,"images":[]}',
        '{"version":1,"images":{"KEY":{"marks":[],"labels":[],"mask":{"start":[0,0,0],"size":[9,9,9],"zlib":"x"}}}}',
        '{"version":1,"images":{"KEY":{"marks":[],"labels":[],"mask":{"start":[0,0,0],"size":[1,1,1],"zlib":"eA=="}}}}',
        '{"version":1,"images":{"KEY":{"marks":[{"tool":"hammer"}],"labels":[],"mask":null}}}',
        '{"version":9,"images":{}}',
    ],
)
def test_a_label_that_is_not_what_a_viewer_wrote_is_refused(small: Any, text: str) -> None:
    marker = viewer_of(small)
    small.source.set_label(
        small, "viewer_marks_odd", text.replace("KEY", saving._digest(marker.stack_source))
    )
    with pytest.raises(Refusal):
        marker.load_marks("odd")
    assert marker.marks == []


def test_a_segmentation_holds_each_label_where_it_was_painted(ct: Any, tmp_path: Path) -> None:
    marker = viewer_of(ct)
    shape = marker.stack_source.shape
    labels = np.zeros(shape, np.uint8)
    labels[1:4, 20:40, 30:70], labels[3:6, 50:60, 10:20] = 1, 2
    marker.mask = labels
    marker.mask_labels = [{"value": 1, "name": "liver", "color": "#aa3311"}, {"value": 2, "name": "Milz"}]
    data = marker.to_seg(tmp_path / "mask.dcm", ingest=True)
    assert (tmp_path / "mask.dcm").read_bytes() == data
    (found,) = ct.segmentations()
    assert isinstance(found, Segmentation)
    grid = ct.open().image.dicom.grid
    for name, value in (("liver", 1), ("Milz", 2)):
        np.testing.assert_array_equal(found.mask(name, grid).values, labels == value)
    read = pydicom.dcmread(BytesIO(data))
    assert [str(one.SegmentLabel) for one in read.SegmentSequence] == ["liver", "Milz"]
    assert read.SegmentSequence[0].SegmentAlgorithmType == "MANUAL"
    assert str(read.PatientID) == str(ct.header()["PatientID"][0])


def test_a_segmentation_without_a_voxel_is_refused(small: Any) -> None:
    with pytest.raises(Refusal, match="nothing is painted"):
        viewer_of(small).to_seg()


@pytest.fixture
def report(ct: Any) -> tuple[Marker, bytes, Report]:
    marker = drawn(viewer_of(ct))
    data = marker.to_sr()
    return marker, data, read_report(data)


def test_a_report_holds_every_number_that_was_measured(report: tuple[Marker, bytes, Report]) -> None:
    marker, _, read = report
    table = read.measurements()
    unit = {"length_mm": ("Length", "mm"), "angle_deg": ("Angle", "deg"), "area_mm2": ("Area", "mm2")}
    unit |= {"volume_mm3": ("Volume", "mm3"), "value": ("Attenuation Coefficient", "[hnsf'U]")}
    derived = {
        "mean": "Mean",
        "sd": "Standard Deviation",
        "min": "Minimum",
        "max": "Maximum",
        "median": "Median",
    }
    expected = 0
    for mark in marker.marks:
        rows = table[table["tracking_id"] == mark["name"]]
        for key, value in (mark["stats"] or {}).items():
            if key in derived:
                found = rows[rows["derivation"] == derived[key]]
                assert set(found["quantity"]) == {"Attenuation Coefficient"}
                assert set(found["unit"]) == {"[hnsf'U]"}
            elif key in unit:
                found = rows[(rows["quantity"] == unit[key][0]) & rows["derivation"].isna()]
                assert set(found["unit"]) == {unit[key][1]}
            else:
                continue
            assert found["value"].tolist() == [value]  # to the last bit
            expected += 1
    assert len(table) == expected == 1 + 1 + 6 + 7 + 6 + 1
    assert set(table[table["tracking_id"] == "Ellipse 1"]["finding"]) == {"lesion"}


def test_regions_of_a_report_lie_where_they_were_drawn(ct: Any, report: tuple[Marker, bytes, Report]) -> None:
    marker, _, read = report
    image = ct.open().image
    table = read.measurements().drop_duplicates("tracking_id").set_index("tracking_id")
    for mark in marker.marks:
        if mark["tool"] == "key":
            continue
        regions = table.loc[mark["name"], "regions"]
        first, last = mark.get("through") or (mark["index"], mark["index"])
        assert len(regions) == last + 1 - first
        for index, region in zip(range(first, last + 1), regions, strict=True):
            assert region.images[0].sop_instance_uid == str(image.instance_uid.values[index])
        plane = marker.stack_source.planes[mark["plane"]]
        points = regions[0].points
        middle = points[:-1] if mark["tool"] in ("rectangle", "polygon") else points
        here = [plane.to_index @ [first, *point, 1] for point in mark["points"]]
        wanted = np.mean([[x + 0.5, y + 0.5] for _z, y, x, _ in here], axis=0)
        np.testing.assert_allclose(middle.mean(axis=0), wanted, atol=1e-3)


def test_planes_that_were_not_acquired_are_reported_in_the_patient(ct: Any) -> None:
    marker = viewer_of(ct)
    marker.add_mark("ellipse", [[1, 20], [5, 60]], plane="coronal", index=40, name="ellipse")
    marker.add_mark("length", [[1, 20], [5, 60]], plane="sagittal", index=50, name="length")
    marker.add_mark("polygon", [[1, 20], [5, 60], [6, 9]], plane="coronal", index=40, through=(40, 42))
    table = read_report(marker.to_sr()).measurements().drop_duplicates("tracking_id").set_index("tracking_id")
    (region,) = table.loc["length", "regions"]
    np.testing.assert_allclose(region.points, marker.marks[1]["points_mm"], atol=2e-3)
    assert region.frame_of_reference_uid == ct.open().image.attrs["frame_of_reference_uid"]
    ends = table.loc["ellipse", "regions"][0].points
    np.testing.assert_allclose(ends.mean(axis=0), np.mean(marker.marks[0]["points_mm"], axis=0), atol=2e-3)
    assert np.linalg.norm(ends[0] - ends[1]) >= np.linalg.norm(ends[2] - ends[3])  # the long axis first
    assert table.loc["Polygon 1", "value"] == marker.marks[2]["stats"]["mean"]


def test_highdicom_reads_the_report_by_its_template(report: tuple[Marker, bytes, Report]) -> None:
    from highdicom.sr import srread

    marker, data, _ = report
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = srread(BytesIO(data)).content
        planar = content.get_planar_roi_measurement_groups()
        volumetric = content.get_volumetric_roi_measurement_groups()
        others = content.get_image_measurement_groups()
    assert [group.tracking_identifier for group in planar] == ["Ellipse 1", "größer"]
    assert [group.tracking_identifier for group in volumetric] == ["several"]
    assert {group.tracking_identifier for group in others} == {"short axis", "Angle 1", "Point 1"}
    areas = [m.value for m in planar[0].get_measurements() if m.name.meaning == "Area"]
    assert areas == [marker.marks[2]["stats"]["area_mm2"]]


def test_a_report_taken_in_is_one_of_the_series(lake: Any, ct: Any) -> None:
    marker = viewer_of(ct)
    marker.add_mark("length", [[1, 1], [30, 40]], name="taken in")
    marker.to_sr(ingest=True)
    (found,) = ct.reports()
    assert found.measurements().loc[0, "tracking_id"] == "taken in"
    assert lake.query(Modality="SR")[0].facts["StudyInstanceUID"] == ct.facts["StudyInstanceUID"]


def test_a_report_without_a_measurement_is_refused(small: Any) -> None:
    marker = viewer_of(small)
    marker.add_mark("key", index=1)
    with pytest.raises(Refusal, match="nothing is measured"):
        marker.to_sr()


def test_the_table_names_the_instance_of_each_acquired_slice(ct: Any) -> None:
    marker = drawn(viewer_of(ct))
    marker.add_mark("length", [[1, 1], [3, 30]], plane="coronal", index=9, name="across")
    table = marker.rois.set_index("name")
    uids = [str(uid) for uid in ct.open().image.instance_uid.values]
    assert table.loc["short axis", "SOPInstanceUID"] == uids[2]
    assert table.loc["größer", "SOPInstanceUID"] == uids[1]
    assert (
        table.loc["across", "SOPInstanceUID"] is None
        or table.loc["across", "SOPInstanceUID"] != table.loc["across", "SOPInstanceUID"]
    )
    assert marker.key_images.loc[0, "SOPInstanceUID"] == uids[5]


def test_nothing_that_is_saved_with_a_notebook_names_the_patient(small: Any) -> None:
    marker = drawn(viewer_of(small))
    marker.mask = np.ones(marker.stack_source.shape, bool)
    marker.save("private")
    seg, sr = marker.to_seg(), marker.to_sr()
    state = json.dumps(marker.get_state(), default=str)
    assert SECRET not in state + repr(marker) + repr(marker.rois) + str(marker.said)
    assert small.uid not in state
    assert "phantom" not in json.dumps([marker.marks, marker.mask_labels])
    for data in (seg, sr):  # the objects themselves belong to the patient
        assert str(pydicom.dcmread(BytesIO(data)).PatientName) == f"{SECRET}^Anna"


def test_an_ellipse_of_a_leaning_plane_is_reported_as_a_polygon_of_its_area() -> None:
    from dicomlake.widgets.viewer import marking_sr
    from tests.widgets.marks_support import affine

    leaning = affine()
    leaning[:3, 0] += [0, 1.2, 0]
    marker = Marker(ct_on(noise((9, 40, 50)), leaning, verdict="sheared"))
    marker.add_mark("ellipse", [[1, 5], [7, 30]], plane="sagittal", index=4)
    (graphic,) = marking_sr._graphics(marker.stack_source, marker.marks[0], {"1.2.3": pydicom.Dataset()})
    assert graphic.kind == "POLYGON"
    a, b = graphic.points[:-1] - graphic.points[0], graphic.points[1:] - graphic.points[0]
    area = np.linalg.norm(np.cross(a, b).sum(axis=0)) / 2
    assert area == pytest.approx(marker.marks[0]["stats"]["area_mm2"], rel=3e-3)


def test_values_are_reported_in_the_units_they_were_measured_in(tmp_path: Path) -> None:
    with dl.open(tmp_path / "lake", create=True) as lake:
        for name in ("dynamic-pet", "brain-mr", "us-cine"):
            lake.ingest(datasets.make(name, tmp_path / name, slices=4))
        wanted = {
            "PT": ("Standardized Uptake Value", "g/ml{SUVbw}"),
            "MR": ("MR signal intensity", "1"),
            "US": ("Area", "mm2"),
        }
        for subject in lake.query():
            marker = viewer_of(subject)
            marker.add_mark("ellipse", [[5, 5], [20, 30]])
            row = read_report(marker.to_sr()).measurements().iloc[0]
            assert (row["quantity"], row["unit"]) == wanted.pop(subject.facts["Modality"])
            if subject.facts["Modality"] == "US":  # frames that lie nowhere
                marker.fill_mark(marker.marks[0]["id"])
                with pytest.raises(Refusal, match=r"viewer\.save\(\)"):
                    marker.to_seg()
        assert wanted == {}


def test_volumes_of_one_object_keep_their_marks_apart() -> None:
    """Magnitude and phase of one enhanced object differ in nothing but their frames."""
    image = ct_on(noise((5, 20, 20)))
    uids = ("z", ["1.2.3"] * 5)
    first, second = (
        Marker(image.assign_coords(instance_uid=uids, frame_index=("z", list(range(n, n + 5)))))
        for n in (0, 5)
    )
    assert saving._digest(first.stack_source) != saving._digest(second.stack_source)
    assert saving._digest(first.stack_source) == saving._digest(first.stack_source)
