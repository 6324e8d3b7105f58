"""Reports: every item of the tree, every measurement with what it belongs to, and nothing of it in a repr."""

from __future__ import annotations

import re
import shutil
import subprocess
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComprehensiveSRStorage, ExplicitVRLittleEndian

from dicomlake import datasets
from dicomlake.dicom import standard
from dicomlake.errors import BrokenObject
from dicomlake.objects.content import Region
from dicomlake.objects.reports import Report, read_report
from tests.objects import ROOT, as_bytes, dataset

REAL = [
    "dcmqi/sr-example/sr.dcm",
    "op-sr-dcmjs/sample-sr.dcm",
    "cornerstone/no-pixel-data.dcm",
    "dicomparser/deflate/report_dfl",
    "highdicom/sr_document.dcm",
    "highdicom/sr_document_with_multiple_groups.dcm",
]
WHEEL = ["test-SR.dcm"]
SECRET = "Weissderteufel"


def wheel(name: str) -> Path:
    return next(path for path in datasets.pydicom_samples() if path.name == name)


def real(folder: Path, name: str) -> Report:
    return read_report((folder / name).read_bytes())


def code(meaning: str, value: str | None = None, scheme: str = "99TEST") -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = value or meaning[:16], scheme
    item.CodeMeaning = meaning
    return item


def item(
    kind: str, name: Dataset | None, *children: Dataset, link: str = "CONTAINS", **values: Any
) -> Dataset:
    """A content item; values are keywords."""
    made = Dataset()
    made.RelationshipType, made.ValueType = link, kind
    if name is not None:
        made.ConceptNameCodeSequence = [name]
    if children:
        made.ContentSequence = list(children)
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def num(name: Dataset, value: str, unit: str, *children: Dataset, **values: Any) -> Dataset:
    measured = Dataset()
    measured.NumericValue, measured.MeasurementUnitsCodeSequence = value, [code(unit, unit, "UCUM")]
    return item("NUM", name, *children, MeasuredValueSequence=[measured], **values)


def document(*children: Dataset) -> bytes:
    root = item("CONTAINER", code("Some Report"), *children, ContinuityOfContent="SEPARATE")
    del root.RelationshipType
    root.file_meta = FileMetaDataset()
    root.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    root.SOPClassUID, root.SOPInstanceUID = ComprehensiveSRStorage, f"{ROOT}.9.1"
    root.file_meta.MediaStorageSOPClassUID = root.SOPClassUID
    root.file_meta.MediaStorageSOPInstanceUID = root.SOPInstanceUID
    return as_bytes(root)


@pytest.mark.skipif(shutil.which("dsrdump") is None, reason="DCMTK is not installed")
@pytest.mark.parametrize("name", REAL + WHEEL)
def test_the_tree_has_the_items_that_dcmtk_prints(real_data: Path, name: str) -> None:
    file = wheel(name) if name in WHEEL else real_data / name
    done = subprocess.run(["dsrdump", str(file)], capture_output=True, check=True)
    lines = [line for line in done.stdout.decode("latin-1").splitlines() if line.lstrip().startswith("<")]
    theirs = []
    for line in lines:
        found = re.match(r"( *)<((?:[a-z]+ )*)(?:([A-Z0-9]+):|[\d.]+>)", line)
        assert found is not None, "a line that this test does not understand"
        theirs.append((len(found[1]) // 2, found[3] or ""))
    mine = [(len(one.position) - 1, one.value_type) for one in read_report(file.read_bytes()).root.walk()]
    assert mine == theirs


@pytest.mark.parametrize("name", REAL[4:] + REAL[:1])
def test_measurements_are_those_that_highdicom_finds(real_data: Path, name: str) -> None:
    import highdicom as hd

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # header values of old files
        content = hd.sr.srread(real_data / name).content
        groups = [
            *content.get_planar_roi_measurement_groups(),
            *content.get_volumetric_roi_measurement_groups(),
            *content.get_image_measurement_groups(),
        ]
        theirs = {
            (str(group.tracking_uid), one.name.meaning, one.value, one.unit.value)
            for group in groups
            for one in group.get_measurements()
        }
    table = real(real_data, name).measurements()
    mine = set(zip(table.tracking_UID, table.quantity, table.value, table.unit, strict=True))
    assert theirs
    assert mine == theirs


def test_regions_and_images_of_the_groups_are_read(real_data: Path) -> None:
    table = real(real_data, REAL[5]).measurements().set_index("tracking_id")
    nodule = table.loc["LungNodule0001"]
    assert (nodule.finding, nodule.finding_site, nodule.quantity, nodule.value, nodule.unit) == (
        "Nodule",
        "Lung",
        "Diameter",
        10.0,
        "mm",
    )
    (region,) = nodule.regions
    assert (region.kind, region.points.tolist()) == ("CIRCLE", [[45.0, 55.0], [45.0, 65.0]])
    assert region.images[0].sop_instance_uid == nodule.image_UID
    vertebra = table.loc["Vertebra0001"].regions[0]
    assert np.allclose(vertebra.points, [[123.5, 234.1, -23.7]])
    assert vertebra.frame_of_reference_uid
    assert table.loc["Image0001"].regions == ()


def test_evaluations_are_those_of_the_groups_and_not_their_findings(real_data: Path) -> None:
    table = real(real_data, REAL[5]).evaluations()
    assert list(zip(table.tracking_id, table.concept, table.value, strict=True)) == [
        ("Image0001", "Anatomical position (finding)", "Level of T4/T5 intervertebral disc"),
        ("LungNodule0001", "Level of Significance", "Not significant"),
    ]


def test_measurements_of_a_segmentation_name_it_and_its_segment(real_data: Path) -> None:
    table = real(real_data, REAL[0]).measurements()
    segmentation = pydicom.dcmread(real_data / "dcmqi/sr-example/seg.dcm", stop_before_pixels=True)
    assert set(table.segmentation_UID) == {segmentation.SOPInstanceUID}
    assert set(table.segment) == {1}
    assert set(table.finding) == {"Neoplasm, Primary"}
    assert set(table.finding_site) == {"pharyngeal tonsil (adenoid)"}
    suv = table[(table.quantity == "SUVbw") & (table.derivation == "Mean")]
    assert (suv.value.item(), suv.unit.item()) == (6.01529, "{SUVbw}g/ml")


def test_a_number_has_the_region_that_it_was_inferred_from(real_data: Path) -> None:
    table = real(real_data, REAL[1]).measurements().set_index("quantity")
    assert table.loc["Long Axis"].value == pytest.approx(64.4505437946691, abs=1e-12)
    first = table.loc["Long Axis"].regions[0].points[0]
    assert first == pytest.approx([580.719177, 1090.83582], abs=1e-5)
    assert table.loc["Short Axis"].regions[0].points[0] == pytest.approx([599.401794, 1028.23132], abs=1e-5)
    assert table.loc["Short Axis"].image_UID
    assert (table.loc["Short Axis"].unit, table.loc["Short Axis"].unit_meaning) == ("1", "px")


def test_references_have_their_series_from_the_evidence(real_data: Path) -> None:
    report = real(real_data, REAL[0])
    table = report.references()
    assert Counter(table.value_type) == {"IMAGE": 192, "COMPOSITE": 1}
    ds = pydicom.dcmread(real_data / REAL[0])
    listed = {
        str(instance.ReferencedSOPInstanceUID): str(series.SeriesInstanceUID)
        for study in ds.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    assert len(listed) > 190
    for uid, series in zip(table.SOPInstanceUID, table.SeriesInstanceUID, strict=True):
        assert listed.get(uid) == series


def test_an_item_by_reference_says_which_one_it_stands_for() -> None:
    report = read_report(wheel("test-SR.dcm").read_bytes())
    by_reference = [one for one in report.root.walk() if one.target]
    assert [one.target for one in by_reference] == [(1, 3, 2), (1, 2, 2, 1)]
    assert report.item((1, 3, 2)).value_type == "SCOORD"
    assert "→ item 1.3.2" in str(report.tree())
    with pytest.raises(KeyError, match=r"no item at 1\.3\.9"):
        report.item((1, 3, 9))
    cited = report.references()
    states = cited[cited.sop_class == "Grayscale Softcopy Presentation State Storage"]
    assert len(states) == 1  # what an image is to be shown with
    assert cited.frames.iloc[1][0] == 5


def test_a_number_inferred_by_reference_gets_the_region_it_points_to() -> None:
    source = Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3.4"
    image = item("IMAGE", None, link="SELECTED FROM", ReferencedSOPSequence=[source])
    other = item("SCOORD", code("Outline"), image, GraphicType="POINT", GraphicData=[9, 9])
    region = item("SCOORD", code("Outline"), image, GraphicType="POLYLINE", GraphicData=[1, 2, 3, 4])
    pointer = Dataset()
    pointer.RelationshipType, pointer.ReferencedContentItemIdentifier = "INFERRED FROM", [1, 1, 2]
    group = item(
        "CONTAINER",
        code("Measurement Group", "125007", "DCM"),
        other,
        region,
        num(code("Length"), "2.5", "mm", pointer),
    )
    table = read_report(document(group)).measurements()
    assert [region.points.tolist() for region in table.regions[0]] == [[[1, 2], [3, 4]]]
    assert table.image_UID[0] == "1.2.3.4"


def test_numbers_of_any_template_come_with_their_path_and_modifiers() -> None:
    site = item(
        "CODE", code("Finding Site"), link="HAS CONCEPT MOD", ConceptCodeSequence=[code("Left Ventricle")]
    )
    mode = item("CODE", code("Image Mode"), link="HAS CONCEPT MOD", ConceptCodeSequence=[code("2D mode")])
    diameter = num(code("Internal Dimension"), "4.81", "cm", mode)
    missing = item(
        "NUM",
        code("Ejection Fraction"),
        MeasuredValueSequence=[],
        NumericValueQualifierCodeSequence=[code("Not a number")],
    )
    exact = num(code("Volume"), "0.3333333333333", "ml")
    exact.MeasuredValueSequence[0].FloatingPointValue = 1 / 3
    section = item("CONTAINER", code("Findings"), site, diameter, missing, exact)
    table = read_report(document(section)).numbers()
    assert table.path.tolist() == ["Some Report / Findings [Left Ventricle]"] * 3
    assert table.modifiers[0] == "Image Mode = 2D mode"
    assert (table.value[0], table.unit[0], table.quantity[0]) == (4.81, "cm", "Internal Dimension")
    assert np.isnan(table.value[1])
    assert table.qualifier[1] == "Not a number"
    assert table.value[2] == 1 / 3
    assert table.position.tolist() == ["1.1.2", "1.1.3", "1.1.4"]


def test_own_method_and_site_of_a_measurement_come_before_those_of_its_group() -> None:
    def mod(value: str, scheme: str, meaning: str) -> Dataset:
        name = code("concept", value, scheme)
        return item("CODE", name, link="HAS CONCEPT MOD", ConceptCodeSequence=[code(meaning)])

    group = item(
        "CONTAINER",
        code("Measurement Group", "125007", "DCM"),
        mod("G-C0E3", "SRT", "Lung"),
        mod("370129005", "SCT", "RECIST"),
        num(code("A"), "1", "mm"),
        num(code("B"), "2", "mm", mod("363698007", "SCT", "Liver"), mod("121401", "DCM", "Maximum")),
    )
    table = read_report(document(group)).measurements().set_index("quantity")
    assert table.loc["A", ["finding_site", "method"]].tolist() == ["Lung", "RECIST"]
    assert table.loc["B", ["finding_site", "method", "derivation"]].tolist() == ["Liver", "RECIST", "Maximum"]
    assert table.derivation.isna().tolist() == [True, False]


def test_a_key_object_selection_says_why_and_which() -> None:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    images = [
        dataset(n, PatientBirthDate="", StudyTime="", StudyID="", AccessionNumber="", Manufacturer="")
        for n in (1, 2)
    ]
    selection = hd.ko.KeyObjectSelection(codes.DCM.ForTeaching, images)
    made = hd.ko.KeyObjectSelectionDocument(images, selection, f"{ROOT}.9.2", 1, f"{ROOT}.9.3", 1)
    report = read_report(as_bytes(made))
    assert report.title is not None
    assert report.title.meaning == "For Teaching"
    table = report.references()
    assert table.SOPInstanceUID.tolist() == [image.SOPInstanceUID for image in images]
    assert set(table.SeriesInstanceUID) == {images[0].SeriesInstanceUID}
    assert set(table.sop_class) == {standard.uid_name(images[0].SOPClassUID)}


def test_the_reprs_hold_counts_and_the_tree_holds_the_content() -> None:
    text = item("TEXT", code("Finding"), TextValue=f"{SECRET}\nsecond <line>")
    person = item("PNAME", code("Observer"), PersonName=SECRET, link="HAS OBS CONTEXT")
    report = read_report(document(person, text))
    shown = [repr(one) for one in (report, report.root, *report.root.children)]
    assert not [one for one in shown if SECRET in one]
    assert repr(report) == "<Report: 1 CONTAINER, 1 PNAME, 1 TEXT>"
    assert str(report.tree()).splitlines() == [
        "Some Report",
        f"  (has obs context) Observer: {SECRET}",
        f"  Finding: {SECRET}",
        "    second <line>",
    ]
    assert "second &lt;line&gt;" in report.tree()._repr_html_()
    assert "<details open" in report.tree()._repr_html_()


def test_tables_of_a_report_without_measurements_are_empty_and_have_their_columns(real_data: Path) -> None:
    report = real(real_data, REAL[2])
    for table in (report.measurements(), report.evaluations(), report.numbers(), report.references()):
        assert table.empty
        assert "position" in table.columns


def test_graphic_data_that_are_no_points_are_no_region() -> None:
    report = read_report(document(item("SCOORD", code("R"), GraphicType="POINT", GraphicData=[1, 2, 3])))
    assert report.root.children[0].value is None
    assert not isinstance(report.root.children[0].value, Region)


def test_an_object_without_content_and_one_nested_without_end_are_refused() -> None:
    with pytest.raises(BrokenObject, match="no content tree"):
        read_report(as_bytes(dataset()))
    deep = item("CONTAINER", code("x"))
    for _ in range(120):
        deep = item("CONTAINER", code("x"), deep)
    with pytest.raises(BrokenObject, match="levels deep"):
        read_report(document(deep))
