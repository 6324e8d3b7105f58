"""The viewer's state and answers, without a browser: asks, traits, what is given back as arrays."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
import xarray as xr
from PIL import Image
from traitlets import TraitError

from dicomlake.dicom.headers import read_header
from dicomlake.errors import GeometryError
from dicomlake.widgets.images.stack import Stack
from dicomlake.widgets.viewer.viewer import Viewer
from tests import objects
from tests.widgets.viewer_support import AFFINE, INTERCEPT, SHAPE, SLOPE, colours, course, numbers, volume


class _Heard:
    """What a viewer sends instead of to a page."""

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self.said: list[tuple[Any, list[Any]]] = []
        viewer.send = lambda content, buffers=None: self.said.append((content, buffers or []))  # type: ignore[method-assign]

    def ask(self, name: str, **args: Any) -> tuple[dict[str, Any], list[np.ndarray]]:
        self.viewer._handle_custom_msg({"ask": name, "id": 1, "args": args}, [])
        content, buffers = self.said[-1]
        return content, [np.frombuffer(bytes(b), np.uint8) for b in buffers]


@pytest.fixture
def viewer() -> Viewer:
    return Viewer(volume())


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_a_run_arrives_as_the_array_sliced_and_turned_by_hand(viewer: Viewer, plane: str) -> None:
    content, buffers = _Heard(viewer).ask("planes", plane=plane, start=3, count=4, encoding="raw")
    data = content["data"]
    by_hand = {
        "axial": [numbers()[k] for k in range(3, 7)],
        "coronal": [numbers()[::-1, k] for k in range(3, 7)],  # superior on top, patient right at the left
        "sagittal": [numbers()[::-1, :, k] for k in range(3, 7)],  # anterior at the left
    }[plane]
    assert (data["start"], data["count"], data["kind"]) == (3, 4, "int16")
    for buffer, expected in zip(buffers, by_hand, strict=True):
        found = buffer.view(np.int16).reshape(data["rows"], data["cols"])
        np.testing.assert_array_equal(found, expected)


def test_a_slab_is_the_maximum_of_the_planes_around(viewer: Viewer) -> None:
    content, (buffer,) = _Heard(viewer).ask(
        "planes", plane="axial", start=5, count=1, slab_mm=10.0, slab_mode="max", encoding="raw"
    )
    found = buffer.view(np.int16).reshape(content["data"]["rows"], content["data"]["cols"])
    np.testing.assert_array_equal(found, numbers()[3:8].max(axis=0))  # 10 mm are five planes, 2 mm apart


def test_a_run_may_go_along_time() -> None:
    content, buffers = _Heard(Viewer(course())).ask(
        "planes", plane="axial", start=2, count=3, extra=[1], along=0, encoding="raw"
    )
    assert content["data"]["count"] == 3
    for k, buffer in enumerate(buffers):
        np.testing.assert_array_equal(buffer.view(np.int16).reshape(16, 20), numbers()[2] + 1 + k)


def test_a_jpeg_is_windowed_and_near_to_the_exact_plane(viewer: Viewer) -> None:
    content, (buffer,) = _Heard(viewer).ask(
        "planes",
        plane="axial",
        start=5,
        count=1,
        encoding="jpeg",
        window=[9800, 1500],
        voi_shape="linear_exact",
    )
    assert content["data"]["kind"] == "uint8"
    found = np.asarray(Image.open(io.BytesIO(buffer.tobytes())), dtype=float)
    values = numbers()[5] * SLOPE + INTERCEPT
    expected = np.clip((values - 9800) / 1500 + 0.5, 0, 1) * 255
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 4


def test_the_oblique_plane_through_a_slice_is_the_slice(viewer: Viewer) -> None:
    stack = viewer.stack_source
    center = (AFFINE @ [4, 7, 9, 1])[:3].tolist()
    args = {"center_mm": center, "u": [1, 0, 0], "v": [0, 1, 0], "spacing_mm": 1.0, "rows": 3, "cols": 5}
    content, (buffer,) = _Heard(viewer).ask("oblique", **args)
    found = buffer.view(np.int16).reshape(3, 5)
    np.testing.assert_array_equal(found, numbers()[4, 6:9, 5:14:2])
    assert content["data"]["kind"] == stack.kind


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"plane": "diagonal", "start": 0, "count": 1},
        {"plane": ["axial"], "start": 0, "count": 1},
        {"plane": "axial", "start": None, "count": 1},
        {"plane": "axial", "start": float("nan"), "count": 1},
        {"plane": "axial", "start": 0, "count": 1, "slab_mode": "sum"},
        {"plane": "axial", "start": 0, "count": 1, "slab_mm": "thick"},
        {"plane": "axial", "start": 0, "count": 1, "extra": "0"},
        {"plane": "axial", "start": 0, "count": 1, "along": 0},
        {"plane": "axial", "start": 0, "count": 1, "encoding": "jpeg"},
        {"plane": "axial", "start": 0, "count": 1, "encoding": "jpeg", "window": [0, 0]},
    ],
)
def test_a_senseless_ask_is_refused_with_words(viewer: Viewer, args: dict[str, Any]) -> None:
    content, buffers = _Heard(viewer).ask("planes", **args)
    assert "last_exception" not in content["failed"]  # a message of ours, not the name of a foreign error
    assert buffers == []
    assert viewer.error == content["failed"]


def test_numbers_beyond_the_ends_are_brought_inside(viewer: Viewer) -> None:
    heard = _Heard(viewer)
    content, buffers = heard.ask("planes", plane="axial", start=9, count=10**9, extra=[7], encoding="raw")
    assert (content["data"]["count"], len(buffers)) == (3, 3)
    content, _ = heard.ask("planes", plane="axial", start=-4, count=1, encoding="raw")
    assert content["data"]["start"] == 0


def test_an_oblique_plane_is_bounded_in_size(viewer: Viewer) -> None:
    args = {"center_mm": [0, 0, 40], "u": [1, 0, 0], "v": [0, 1, 0], "spacing_mm": 1.0}
    content, (buffer,) = _Heard(viewer).ask("oblique", **args, rows=10**8, cols=2)
    assert content["data"]["rows"] * 2 * 2 == buffer.size <= 1024 * 2 * 2
    content, _ = _Heard(viewer).ask("oblique", **args | {"spacing_mm": 0}, rows=2, cols=2)
    assert "above 0" in content["failed"]


# ---- traits


def test_an_index_outside_is_brought_inside_and_moves_the_place_in_mm(viewer: Viewer) -> None:
    viewer.index = [99, -4, 3]
    assert viewer.index == [SHAPE[0] - 1, 0, 3]
    np.testing.assert_allclose(viewer.cursor_mm, (AFFINE @ [*viewer.index, 1])[:3])


def test_a_place_in_mm_moves_the_index_and_comes_back(viewer: Viewer) -> None:
    place = (AFFINE @ [4.2, 7.1, 9.3, 1])[:3]
    viewer.position_mm = place
    assert viewer.index == [4, 7, 9]
    np.testing.assert_allclose(viewer.position_mm, place)
    viewer.cursor_mm = (AFFINE @ [1, 2, 3, 1])[:3].tolist()
    assert viewer.index == [1, 2, 3]


def test_a_place_outside_is_an_error(viewer: Viewer) -> None:
    with pytest.raises(GeometryError, match="outside"):
        viewer.position_mm = (0, 0, 500)


@pytest.mark.parametrize(
    ("trait", "value", "said"),
    [
        ("index", [1, 2], r"\(z, y, x\)"),
        ("window", [40, 0], "above 0"),
        ("window", [float("nan"), 10], "finite"),
        ("plane", "diagonal", "axial"),
        ("arrangement", "five", "five"),
        ("preset", "moon", "soft tissue"),
        ("extra", [0], "extra"),
        ("cine_over", "echo", "plane"),
        ("tilt", [1], "angles"),
    ],
)
def test_a_wrong_trait_is_refused_and_changes_nothing(
    viewer: Viewer, trait: str, value: Any, said: str
) -> None:
    before = getattr(viewer, trait)
    with pytest.raises(TraitError, match=said):
        setattr(viewer, trait, value)
    assert getattr(viewer, trait) == before


def test_a_preset_sets_the_window_by_name_or_key_and_another_window_ends_it(viewer: Viewer) -> None:
    lung = next(p for p in viewer.stack_source.presets if p.name == "lung")
    viewer.preset = lung.key
    assert (viewer.preset, viewer.window) == ("lung", [-600, 1500])
    viewer.window = [0, 100]
    assert (viewer.preset, viewer.window) == ("", [0, 100])


def test_the_window_stays_when_layout_plane_and_slab_change(viewer: Viewer) -> None:
    viewer.preset = "lung"
    viewer.arrangement = "one"
    viewer.plane = "sagittal"
    viewer.slab_mm = 8
    viewer.arrangement = "oblique"
    assert (viewer.preset, viewer.window) == ("lung", [-600, 1500])


def test_traits_given_at_the_beginning_win_over_the_suggested_ones() -> None:
    viewer = Viewer(volume(), window=(40, 400), index=(1, 2, 3), layout="one", plane="coronal")
    assert (viewer.window, viewer.preset, viewer.index) == ([40, 400], "", [1, 2, 3])
    assert (viewer.arrangement, viewer.plane) == ("one", "coronal")
    np.testing.assert_allclose(viewer.cursor_mm, (AFFINE @ [1, 2, 3, 1])[:3])
    assert Viewer(volume(), preset="lung").window == [-600, 1500]


def test_the_state_from_a_page_is_taken_as_it_is(viewer: Viewer) -> None:
    place = (AFFINE @ [3.3, 2.2, 1.1, 1])[:3].round(3).tolist()
    viewer.set_state({"index": [3, 2, 1], "cursor_mm": place, "window": [10.0, 20.0], "preset": ""})
    assert (viewer.index, viewer.cursor_mm, viewer.window) == ([3, 2, 1], place, [10, 20])


def test_linked_planes_are_the_beginning_only_where_they_are_worth_looking_at() -> None:
    assert Viewer(volume()).arrangement == "mpr"
    assert Viewer(volume((1, 16, 20))).arrangement == "one"
    assert Viewer(colours()).arrangement == "one"
    with pytest.raises(TraitError, match="layout"):
        Viewer(colours(), layout="mpr")


def test_traits_are_small_and_hold_no_pixels(viewer: Viewer) -> None:
    state = {k: v for k, v in viewer.get_state().items() if k not in ("_esm", "_css", "layout", "tooltip")}
    assert len(json.dumps(state, default=str)) < 10_000


# ---- given to Python


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_the_slice_is_the_array_sliced_by_hand_in_units(plane: str) -> None:
    viewer = Viewer(course(), index=[3, 5, 7], extra=[4], plane=plane)
    values = (numbers().astype(float) + 4) * SLOPE + INTERCEPT
    expected = {"axial": values[3], "coronal": values[:, 5], "sagittal": values[:, :, 7]}[plane]
    found = viewer.slice
    np.testing.assert_array_equal(found.values, expected)
    assert found.attrs["units"] == "HU"
    assert float(found["time"]) == 6.0
    kept = [d for d, gone in zip("zyx", "acs", strict=True) if gone != plane[0]]
    assert found.dims == tuple(kept)
    for d in "zyx":
        np.testing.assert_array_equal(
            found[d].values, course().isel(z=3, y=5, x=7)[d] if d not in kept else course()[d]
        )


def test_the_value_at_the_crosshair_is_that_of_the_array(viewer: Viewer) -> None:
    viewer.index = [2, 3, 4]
    assert viewer.value == float(volume().dicom.rescaled()[2, 3, 4])
    assert Viewer(colours(), index=[1, 2, 3]).value == tuple(colours().values[1, 2, 3])


def test_a_crop_around_the_crosshair_has_the_size_in_mm(viewer: Viewer) -> None:
    viewer.index = [6, 8, 10]
    found = viewer.crop(mm=(8, 4, 4))
    expected = volume().dicom.rescaled()[4:9, 6:11, 6:15]
    xr.testing.assert_equal(found, expected)
    viewer.index = [0, 0, 0]
    assert viewer.crop(mm=4).shape == (2, 3, 5)
    with pytest.raises(GeometryError, match="edges"):
        viewer.crop(mm=0)


def test_a_crop_is_what_all_panes_show(viewer: Viewer) -> None:
    assert viewer.crop().shape == SHAPE
    # coronal rows run from superior to inferior: rows 2 to 5 are z 9 down to 6
    viewer.view = {"axial": {"zoom": 2, "seen": [3, 4, 12, 15]}, "coronal": {"zoom": 2, "seen": [2, 0, 5, 9]}}
    xr.testing.assert_equal(viewer.crop(), volume().dicom.rescaled()[6:10, 3:13, 4:10])


def test_colours_come_back_as_they_are() -> None:
    viewer = Viewer(colours(), index=[2, 0, 0])
    np.testing.assert_array_equal(viewer.slice.values, colours().values[2])


def test_a_screenshot_without_a_page_is_the_plane_through_the_window() -> None:
    viewer = Viewer(volume(), window=[9800, 1500], index=[5, 5, 5])
    found = np.asarray(Image.open(io.BytesIO(viewer.screenshot())), dtype=float)
    assert found.shape == (768, 480)  # 16 mm x 10 mm
    values = numbers()[5] * SLOPE + INTERCEPT
    expected = np.clip((values - 9800) / 1500 + 0.5, 0, 1) * 255
    corner = found[5, 5], found[-5, -5]
    np.testing.assert_allclose(corner, (expected[0, 0], expected[-1, -1]), atol=3)


def test_the_still_is_a_picture_or_words_where_text_may_be_burned_in() -> None:
    ct = read_header(objects.as_bytes(objects.dataset(1, Modality="CT"))).dataset
    assert "data:image/png" in (Viewer(Stack.of(volume(), objects=[ct])).still() or "")
    assert "<img" not in (Viewer(volume()).still() or "")
    assert "<img" not in (Viewer(colours()).still() or "")


def test_repr_says_what_and_where(viewer: Viewer) -> None:
    viewer.index = [1, 2, 3]
    assert "mpr" in repr(viewer)
    assert "[1, 2, 3]" in repr(viewer)
