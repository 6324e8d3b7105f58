"""Strokes in Python and in the browser's own code cover the same pixels; masks are kept, undone and told."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import numpy as np
import pytest

from dicomlake.widgets.base import Refusal
from dicomlake.widgets.base.assets import STATIC
from dicomlake.widgets.viewer.masks import stroke
from tests.widgets.marks_support import OBLIQUE, Marker, affine, ct_on, noise

SHAPE = (6, 40, 50)
_NODE = """
import { brushSegment } from %s;
let text = "";
for await (const part of process.stdin) text += part;
const found = JSON.parse(text).map(({ meta, points, radius }) => {
  const data = new Uint8Array(meta.rows * meta.cols);
  points.forEach((point, i) => brushSegment(data, meta, points[Math.max(i - 1, 0)], point, radius, 1));
  return Array.from(data).join("");
});
console.log(JSON.stringify(found));
"""


def strokes(count: int) -> list[dict[str, Any]]:
    """Random strokes on planes of random size and spacing, some on the edge of a rounding."""
    rng = np.random.default_rng(7)
    found = []
    for number in range(count):
        rows, cols = (int(n) for n in rng.integers(8, 60, 2))
        row_mm, col_mm = ((0.5, 0.5), (0.7, 0.7), (2.5, 0.68359375), (1 / 3, 3.1))[number % 4]
        points = np.round(rng.uniform([-2, -2], [rows + 1, cols + 1], (int(rng.integers(1, 9)), 2)) * 16) / 16
        radius = float(rng.choice([0.25, 0.5, 1.0, 1.4, rng.uniform(0.1, 9)]))
        meta = {"rows": rows, "cols": cols, "row_mm": row_mm, "col_mm": col_mm}
        found.append({"meta": meta, "points": points.tolist(), "radius": radius})
    return found


def test_the_browsers_brush_covers_the_same_pixels_as_pythons() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node: the same is tested in chromium, on fewer strokes")
    given = strokes(400)
    script = _NODE % json.dumps((STATIC / "viewer" / "brush.js").as_uri())
    command = [
        node,
        "--no-warnings",
        "--experimental-default-type=module",
        "--input-type=module",
        "-e",
        script,
    ]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    for one, bits in zip(given, json.loads(done.stdout), strict=True):
        shape = one["meta"]["rows"], one["meta"]["cols"]
        here = stroke(one["points"], one["radius"], one["meta"]["row_mm"], one["meta"]["col_mm"], shape)
        there = np.frombuffer(bits.encode(), np.uint8).reshape(shape) == ord("1")
        np.testing.assert_array_equal(here.on(shape), there)


@pytest.mark.parametrize("number", range(0, 60, 4))
def test_a_stroke_is_every_pixel_within_the_radius_of_its_line(number: int) -> None:
    one = strokes(60)[number]
    meta, points = one["meta"], np.array(one["points"])
    shape = meta["rows"], meta["cols"]
    spacing = np.array([meta["row_mm"], meta["col_mm"]])
    centres = np.stack(np.mgrid[: shape[0], : shape[1]], axis=-1) * spacing
    ends = points * spacing
    near = np.full(shape, np.inf)
    for a, b in zip(ends, ends[1:] if len(ends) > 1 else ends, strict=False):
        length2 = max(float((b - a) @ (b - a)), 1e-300)
        along = np.clip(((centres - a) @ (b - a)) / length2, 0, 1)
        near = np.minimum(near, np.linalg.norm(centres - a - along[..., None] * (b - a), axis=-1))
    found = stroke(one["points"], one["radius"], *spacing, shape).on(shape)
    off = np.abs(near - one["radius"]) > 1e-9  # a centre on the very circle may fall either way here
    np.testing.assert_array_equal(found[off], (near <= one["radius"])[off])


@pytest.fixture
def marker() -> Marker:
    return Marker(ct_on(noise(SHAPE)))


def paint(marker: Marker, plane: str, index: int, points: Any, **more: Any) -> dict[str, Any]:
    args = {"plane": plane, "index": index, "points": points, "label": 1, "radius_mm": 2.0} | more
    return marker.ask("stroke", **args)


@pytest.mark.parametrize("turned", [False, True])
def test_strokes_on_any_plane_lie_where_they_were_shown(turned: bool) -> None:
    marker = Marker(ct_on(noise(SHAPE), affine(turn=OBLIQUE if turned else None)))
    stack = marker.stack_source
    for name, plane in stack.planes.items():
        marker.mask = np.zeros(SHAPE, bool)
        at = [plane.rows // 3, plane.cols // 2]
        paint(marker, name, 2, [at], radius_mm=0.05)
        z, y, x = (int(v) for v in np.rint(plane.to_index @ [2, *at, 1])[:3])
        assert np.argwhere(marker.mask.values).tolist() == [[z, y, x]]


def test_planes_of_the_mask_come_as_they_are_displayed(marker: Marker) -> None:
    marker.mask = np.random.default_rng(0).integers(0, 2, SHAPE).astype(bool)
    marker.ask("mask", planes=[{"plane": "axial", "index": 2}, {"plane": "coronal", "index": 7}])
    content, buffers = marker.said[-1]
    assert content["data"]["version"] == 1
    axial, coronal = (np.frombuffer(b, np.uint8) for b in buffers)
    np.testing.assert_array_equal(axial.reshape(40, 50), marker.mask.values[2])
    np.testing.assert_array_equal(coronal.reshape(6, 50), marker.mask.values[::-1, 7])


def test_painting_erasing_undoing_and_redoing_end_where_they_should(marker: Marker) -> None:
    states = [marker.mask.values]
    for points, label in (([[10, 10], [20, 30]], 1), ([[15, 15]], 0), ([[12, 12], [5, 40]], 1)):
        paint(marker, "axial", 3, points, label=label)
        states.append(marker.mask.values)
    marker.add_mark("length", [[0, 0], [5, 5]])
    assert marker.undo() == "Length 1 added"
    for state in states[-2::-1]:
        assert marker.undo() in ("Brush", "Erase")
        np.testing.assert_array_equal(marker.mask.values, state)
        assert marker.mask_labels[0]["voxels"] == state.astype(bool).sum()
    assert marker.undo() == ""
    for state in states[1:]:
        marker.redo()
        np.testing.assert_array_equal(marker.mask.values, state)
    marker.undo()
    paint(marker, "axial", 0, [[1, 1]])
    assert marker.redo() == ""


def test_the_mask_has_the_coordinates_and_the_place_of_the_image(marker: Marker) -> None:
    marker.mask = noise(SHAPE) > 1000
    image = marker.stack_source.image
    assert marker.mask.dtype == np.uint8
    np.testing.assert_array_equal(marker.mask.dicom.affine, image.dicom.affine)
    part = marker.mask[2:4, 5:9]
    np.testing.assert_array_equal(part.dicom.affine, image[2:4, 5:9].dicom.affine)
    hu = image.values.astype(float) * 2 - 1000
    row = marker.mask_statistics().iloc[0]
    painted = hu[marker.mask.values > 0]
    for name, value in (("mean", painted.mean()), ("sd", painted.std()), ("median", np.median(painted))):
        assert row[name] == pytest.approx(value)
    assert row["volume_mm3"] == pytest.approx(painted.size * 2.5 * 0.75 * 0.5)
    assert row["volume_ml"] == row["volume_mm3"] / 1000


def test_a_mask_of_numbers_brings_its_labels_along(marker: Marker) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[1, :4], labels[2, :5] = 3, 7
    marker.mask = labels
    assert [one["value"] for one in marker.mask_labels] == [1, 3, 7]
    assert [one["voxels"] for one in marker.mask_labels] == [0, 200, 250]
    with pytest.raises(Refusal, match="painted with cannot go"):
        marker.mask_labels = [{"value": 1}]
    assert list(marker.mask_statistics()["value"]) == [3, 7]


def test_a_region_is_filled_as_it_is_measured(marker: Marker) -> None:
    made = marker.add_mark("ellipse", [[3.2, 4.1], [30.3, 44]], plane="axial", index=2, through=(1, 3))
    marker.fill_mark(made)
    count = marker.marks[0]["stats"]["count"]
    assert marker.mask.values.sum() == count
    assert marker.mask_statistics().loc[0, "mean"] == pytest.approx(marker.marks[0]["stats"]["mean"])


BAD = {
    "a plane that is none": {"plane": "oblique"},
    "a plane beyond the last": {"index": 6},
    "a fraction of a plane": {"index": 1.5},
    "no radius": {"radius_mm": None},
    "an endless radius": {"radius_mm": float("inf")},
    "a huge radius": {"radius_mm": 1e9},
    "no points": {"points": []},
    "too many points": {"points": [[1, 1]] * 5001},
    "points that are none": {"points": [[1]]},
    "points of text": {"points": [["1", "2"]]},
    "a point nowhere": {"points": [[float("nan"), 1]]},
    "a label that is none": {"label": 9},
    "a label of text": {"label": "1"},
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_stroke_is_refused_in_words_and_changes_nothing(marker: Marker, what: str) -> None:
    args = {"plane": "axial", "index": 1, "points": [[5, 5]], "label": 1, "radius_mm": 2.0} | BAD[what]
    said = marker.refused("stroke", **args)
    assert isinstance(marker.last_exception, Refusal), said
    assert marker.mask_version == 0


def test_the_history_does_not_grow_without_end(marker: Marker) -> None:
    for number in range(250):
        paint(marker, "axial", number % 6, [[number % 40, number % 50]], label=1 if number % 3 else 0)
    assert len(marker._history.done) <= 200
    while marker.undo():
        pass
    assert marker.marking_state["undo"] == ""
