"""Documents beside images: a PDF, a document of scripts, key objects and a presentation state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from pydicom.sr.codedict import codes
from pydicom.uid import EncapsulatedPDFStorage

import dicomlake
from dicomlake.widgets.browser.browser import Browser
from tests.objects import ROOT, as_bytes, dataset
from tests.widgets.stage import Stage
from tests.widgets.test_browser_asks import asker

SCRIPT = b"<html><script>window.hacked = 1</script>Seen</html>"
_EQUIPMENT: dict[str, Any] = {
    "series_number": 1,
    "instance_number": 1,
    "manufacturer": "tests",
    "manufacturer_model_name": "tests",
    "software_versions": "1",
    "device_serial_number": "1",
}


def pdf(words: str) -> bytes:
    """A PDF of one page with a line of text."""
    stream = f"BT /F1 12 Tf 20 100 Td ({words}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] /Contents 5 0 R"
        b" /Resources << /Font << /F1 4 0 R >> >> >>",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
    ]
    out, places = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    begins = len(out)
    out += b"xref\n0 6\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % place for place in places)
    return bytes(out + b"trailer << /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % begins)


def _attached(number: int, data: bytes, mime: str) -> bytes:
    made = dataset(number, series=f"{ROOT}.1.{number + 40}", SOPClassUID=EncapsulatedPDFStorage)
    del made.PixelData
    made.Modality, made.MIMETypeOfEncapsulatedDocument = "DOC", mime
    made.EncapsulatedDocument, made.EncapsulatedDocumentLength = data, len(data)
    return as_bytes(made)


def _referring() -> list[bytes]:
    """A key object selection and a presentation state of two slices."""
    required: dict[str, Any] = {"PatientBirthDate": "", "StudyTime": "", "StudyID": "", "AccessionNumber": ""}
    images = [dataset(n, **required, ReferringPhysicianName="", Manufacturer="") for n in (1, 2)]
    content = hd.ko.KeyObjectSelection(
        document_title=codes.DCM.OfInterest, referenced_objects=images[:1], description="look here"
    )
    keys: dict[str, Any] = {"series_instance_uid": f"{ROOT}.1.61", "sop_instance_uid": f"{ROOT}.1.61.1"}
    naming = {k: v for k, v in _EQUIPMENT.items() if k not in ("software_versions", "device_serial_number")}
    key = hd.ko.KeyObjectSelectionDocument(evidence=images, content=content, **naming, **keys)
    layer = hd.pr.GraphicLayer("LAYER", order=1)
    text = hd.pr.TextObject("a remark", "PIXEL", bounding_box=(1, 2, 10, 4), text_justification="LEFT")
    circle = hd.pr.GraphicObject("POINT", np.array([[4.5, 6.0]]), "PIXEL")
    drawn = hd.pr.GraphicAnnotation(images[:1], layer, graphic_objects=[circle], text_objects=[text])
    state = hd.pr.GrayscaleSoftcopyPresentationState(
        images,
        **_EQUIPMENT,
        series_instance_uid=f"{ROOT}.1.62",
        sop_instance_uid=f"{ROOT}.1.62.1",
        content_label="STATE",
        graphic_layers=[layer],
        graphic_annotations=[drawn],
    )
    return [*map(as_bytes, images), as_bytes(key), as_bytes(state)]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dicomlake.Lake]:
    made = dicomlake.open(tmp_path_factory.mktemp("documents"), create=True)
    attached = [
        _attached(1, pdf("Findings are normal"), "application/pdf"),
        _attached(2, SCRIPT, "text/html"),
    ]
    made.ingest(*_referring(), *attached, progress=False)
    yield made
    made.close()


def _read(lake: dicomlake.Lake, modality: str, number: int = 0) -> tuple[dict[str, Any], list[Any]]:
    return asker(Browser(lake))("document", id=lake.query(Modality=modality)[number].id, number=0)


def test_all_of_them_are_listed_beside_the_images(lake: dicomlake.Lake) -> None:
    image = lake.query(Modality="CT")[0]
    data, _ = asker(Browser(lake))("details", id=image.id)
    assert sorted(one["Modality"] for one in data["documents"]) == ["DOC", "DOC", "KO", "PR"]


def test_a_pdf_comes_whole_and_its_words_are_read(lake: dicomlake.Lake) -> None:
    found, buffers = _read(lake, "DOC", 0)
    assert bytes(buffers[0]) == pdf("Findings are normal")
    assert (found["kind"], found["mime"], found["suffix"]) == ("document", "application/pdf", ".pdf")
    pytest.importorskip("pypdf")
    assert found["words"] == "Findings are normal"


def test_key_objects_are_read_with_their_reason(lake: dicomlake.Lake) -> None:
    found, _ = _read(lake, "KO")
    assert (found["kind"], found["title"]) == ("report", "Of Interest")
    text = "\n".join(item["text"] for item in found["items"])
    assert "look here" in text
    assert f"{ROOT}.1.1.1" in text


def test_a_presentation_state_is_read_with_its_words(lake: dicomlake.Lake) -> None:
    found, _ = _read(lake, "PR")
    assert found["kind"] == "presentation"
    assert found["lines"] == ["2 images, 1 graphic, 1 text", "a remark"]


def test_a_pdf_opens_and_a_document_with_scripts_can_only_be_saved(
    stage: Stage, lake: dicomlake.Lake
) -> None:
    stage.draw(Browser(lake, "Modality=CT"))
    page = stage.page
    page.wait_for_selector("[aria-level='3']")
    page.click("[aria-level='3']")
    page.click("[data-tab=documents]")
    page.locator(".dl-br-document-line:has-text('DOC')").nth(0).click()
    page.wait_for_selector(".dl-br-words:has-text('Findings are normal')")
    kind = "async () => (await (await fetch(document.querySelector('.dl-br-link').href)).blob()).type"
    assert page.inner_text(".dl-br-link >> nth=0") == "Open"
    assert page.evaluate(kind) == "application/pdf"
    page.locator(".dl-br-document-line:has-text('DOC')").nth(1).click()
    page.wait_for_selector(".dl-br-document :text('text/html')")
    assert page.locator(".dl-br-link").all_inner_texts() == ["Save"]
    assert page.evaluate(kind) == "application/octet-stream"
    assert page.evaluate("window.hacked") is None
