"""A cohort opened: nothing is read before it is asked for, what is missing says why, and little is held."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from sqlalchemy import event

import dicomlake
from dicomlake.catalog.reader import volumes_of_many
from dicomlake.cohorts.arrays.collection import Collection, open_cohort
from dicomlake.errors import VolumeError
from dicomlake.lake import Lake
from dicomlake.records import SeriesKey, Volume
from dicomlake.series import Series
from dicomlake.storage.arrays import LazyArray
from tests import objects


def uid(number: int) -> str:
    return f"{objects.ROOT}.7.{number}.1"


def echoes(number: int) -> list[bytes]:
    """Two echoes of three slices."""
    return [
        objects.dicom(
            10 * e + n,
            series=uid(number),
            Modality="MR",
            SOPClassUID="1.2.840.10008.5.1.4.1.1.4",
            ImagePositionPatient=[0, 0, n],
            EchoTime=20 * e,
            EchoNumbers=e,
            RescaleSlope=None,
            RescaleIntercept=None,
        )
        for e in (1, 2)
        for n in (1, 2, 3)
    ]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """0, 1: regular; 2: uneven; 3: two echoes; 4: two sizes; 5: a report; 6: pixels nobody can decode."""
    uneven = [
        objects.dicom(n, series=uid(2), ImagePositionPatient=[0, 0, z])
        for n, z in ((1, 0), (2, 1), (3, 3.3), (4, 4))
    ]
    sizes = [objects.dicom(n, series=uid(4), size=8) for n in (1, 2)]
    sizes += [objects.dicom(n, series=uid(4), ImagePositionPatient=[0, 0, 2 * n]) for n in (3, 4)]
    report = objects.dicom(1, series=uid(5), SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", Modality="SR")
    short = [objects.dicom(n, series=uid(6), PixelData=bytes(8)) for n in (1, 2)]
    with dicomlake.open(tmp_path_factory.mktemp("lake") / "l", create=True) as made:
        made.ingest(
            *objects.series(3, uid(0)), *objects.series(2, uid(1)), *uneven, *echoes(3), progress=False
        )
        made.ingest(*sizes, report, *short, progress=False)
        yield made


def of(lake: Lake, *numbers: int) -> list[Series]:
    return [lake.find(uid(number))[0] for number in numbers]


def bulk(lake: Lake) -> Any:
    def volumes_of(keys: Sequence[SeriesKey]) -> Mapping[SeriesKey, list[Volume]]:
        with lake._catalog.read() as view:
            return volumes_of_many(view, keys)

    return volumes_of


def opened(lake: Lake, *numbers: int, **how: Any) -> Collection:
    return open_cohort(of(lake, *numbers), volumes_of=bulk(lake), **how)


# ---- one of them ---------------------------------------------------------------------------------------


def test_a_series_is_found_by_uid_and_by_place(lake: Lake) -> None:
    collection = opened(lake, 0, 1, 2)
    assert len(collection) == 3
    assert list(collection) == [uid(0), uid(1), uid(2)]
    assert uid(1) in collection
    assert uid(3) not in collection
    expected = of(lake, 1)[0].open()
    for which in (uid(1), 1, -2):
        xr.testing.assert_identical(collection[which], expected)
    assert [len(ds.z) for ds in collection.values()] == [3, 2, 4]
    assert {key: len(ds.z) for key, ds in collection.items()} == {uid(0): 3, uid(1): 2, uid(2): 4}
    assert list(collection[1:]) == [uid(1), uid(2)]
    with pytest.raises(KeyError):
        collection["1.2.3"]
    with pytest.raises(IndexError):
        collection[3]


def test_one_uid_in_two_studies_is_refused_by_uid_and_there_by_place(tmp_path: Path) -> None:
    with dicomlake.open(tmp_path / "l", create=True) as lake:
        other = [
            objects.dicom(
                n, series=uid(0), StudyInstanceUID="1.2.9", SOPInstanceUID=f"1.2.9.{n}", PatientID="b"
            )
            for n in (1, 2)
        ]
        lake.ingest(*objects.series(3, uid(0)), *other, progress=False)
        collection = open_cohort(lake.find(uid(0)), volumes_of=bulk(lake))
        with pytest.raises(VolumeError, match="2 studies"):
            collection[uid(0)]
        assert sorted(len(ds.z) for ds in collection.values()) == [2, 3]
        assert sorted(len(image.z) for _, image in collection.images()) == [2, 3]


def test_units_and_selection_apply_to_what_is_opened(lake: Lake) -> None:
    stored = of(lake, 0)[0].open().image.values
    in_hu = opened(lake, 0, units="hu")[0].image
    np.testing.assert_array_equal(in_hu.values, stored.astype(int) - 1024)
    second = opened(lake, 3, sel={"echo": 40})[0].image
    assert second.dims == ("z", "y", "x")
    np.testing.assert_array_equal(second.values, of(lake, 3)[0].open().image.values[1])
    np.testing.assert_array_equal(opened(lake, 3, isel={"echo": -1})[0].image.values, second.values)
    for wrong, words in (({"sel": {"echo": 41}}, "no echo"), ({"isel": {"echo": 2}}, "2 places")):
        with pytest.raises(VolumeError, match=words):
            opened(lake, 3, **wrong)[0]
    with pytest.raises(VolumeError, match="no dimension echo"):
        opened(lake, 0, sel={"echo": 20})[0]
    for wrong in ({"units": "counts"}, {"sel": {"z": 0}}):
        with pytest.raises(ValueError, match=r"units is one of|not along z"):
            opened(lake, 0, **wrong)


def test_images_are_all_volumes_and_missing_says_what_is_not_among_them(lake: Lake) -> None:
    collection = opened(lake, 0, 4, 5, 6, 3, units="hu")
    found = [(series.uid, image.sizes["x"]) for series, image in collection.images()]
    assert found == [(uid(0), 16), (uid(4), 8), (uid(4), 16)]
    missing = collection.missing
    assert set(missing) == {uid(3), uid(5), uid(6)}
    assert "not HU" in missing[uid(3)]
    assert "no volume" in missing[uid(5)]
    with pytest.raises(VolumeError, match=r"no built volume|no volume"):
        collection[uid(6)]
    assert [image.sizes["x"] for _, image in opened(lake, 0, 4, volume=1).images()] == [16]
    assert uid(0) in opened(lake, 0, 4, volume=1).missing


def test_select_keeps_the_series_of_a_verdict(lake: Lake) -> None:
    collection = opened(lake, 0, 1, 2, 4, 5)
    assert list(collection.select(verdict="irregular")) == [uid(2)]
    regular = collection.select(verdict=("regular", "sheared"))
    assert list(regular) == [uid(0), uid(1), uid(4)]
    assert regular.missing == {}
    assert len(list(regular.images())) == 4
    assert list(regular.select(verdict="irregular")) == []


def test_what_is_shown_tells_size_and_shape_and_names_nobody(lake: Lake) -> None:
    collection = opened(lake, 0, 2, 5)
    assert collection.nbytes == (3 + 4) * 16 * 16 * 2
    for shown in (repr(collection), collection._repr_html_()):
        assert "3 series" in shown
        assert "3 × 16 × 16" in shown
        assert "irregular" in shown
        assert "1 cannot be opened" in shown
        assert not any(name in shown for name in ("phantom", "Phantom", "20240229"))


# ---- cost ----------------------------------------------------------------------------------------------


class Counting:
    """A lake of any number of series that counts what is asked of it."""

    def __init__(self, lake: Lake) -> None:
        self.asked = 0
        self._lake = lake
        self._id = of(lake, 0)[0].id
        self._row = lake.series_row(self._id)

    def __getattr__(self, name: str) -> Any:
        self.asked += 1
        return getattr(self._lake, name)

    def series(self, count: int) -> list[Series]:
        return [Series(self, self._id, self._row) for _ in range(count)]  # type: ignore[arg-type]  # stands in for a lake


def test_a_thousand_series_are_opened_without_asking_for_anything(lake: Lake) -> None:
    source = Counting(lake)
    series = source.series(1000)
    started = time.perf_counter()
    collection = open_cohort(series)
    assert time.perf_counter() - started < 0.1
    assert len(collection) == 1000
    assert source.asked == 0


def test_all_volumes_are_read_in_a_few_statements(lake: Lake) -> None:
    statements: list[str] = []
    keys = [one.key for one in of(lake, 0, 1, 2, 3, 4, 5)]
    many = keys + [SeriesKey("1.2", f"1.2.{n}") for n in range(1200)]

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        statements.append(statement)

    with lake._catalog.read() as view:
        event.listen(view.engine, "before_cursor_execute", note)
        try:
            found = volumes_of_many(view, many)
        finally:
            event.remove(view.engine, "before_cursor_execute", note)
    assert len(statements) == 3
    assert list(found) == many
    for key in keys:
        assert found[key] == lake.series_volumes(key)
    assert found[many[-1]] == []


def test_volumes_in_bulk_are_those_of_today_and_of_the_very_study(tmp_path: Path) -> None:
    with dicomlake.open(tmp_path / "l", create=True) as lake:
        other = [
            objects.dicom(
                n, series=uid(0), StudyInstanceUID="1.2.9", SOPInstanceUID=f"1.2.9.{n}", PatientID="b"
            )
            for n in (1, 2)
        ]
        lake.ingest(*objects.series(3, uid(0)), *other, progress=False)
        lake.build_volumes(rebuild=True, progress=False)
        two = [one.key for one in lake.find(uid(0))]
        lake.build_volumes(two, rebuild=True, progress=False)
        with lake._catalog.read() as view:
            for key in two:
                assert volumes_of_many(view, [key]) == {key: lake.series_volumes(key)}
                (volume,) = volumes_of_many(view, [key])[key]
                assert volume.version == 2


def test_going_through_all_holds_one_at_a_time_and_reads_no_voxel(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(self: LazyArray, key: Any) -> Any:
        raise AssertionError("a voxel was read")

    monkeypatch.setattr(LazyArray, "__getitem__", never)
    collection = open_cohort(of(lake, *[0, 1] * 10), volumes_of=bulk(lake))
    alive: list[weakref.ref[xr.Dataset]] = []
    for dataset in collection.values():
        alive.append(weakref.ref(dataset))
        del dataset
        gc.collect()
        assert sum(ref() is not None for ref in alive) <= 1
    alive.extend(weakref.ref(collection[position]) for position in range(20))
    gc.collect()
    assert 1 <= sum(ref() is not None for ref in alive) <= 4
    assert collection[19] is collection[19]
