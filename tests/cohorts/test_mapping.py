"""A function over a cohort: values in order, failures as rows, results that stay with what made them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import dicomlake
from dicomlake.cohorts.computing import mapping
from dicomlake.cohorts.computing.derived import derived, open_derived
from dicomlake.cohorts.computing.mapping import map_cohort
from dicomlake.cohorts.computing.result import Result
from dicomlake.errors import VolumeError
from dicomlake.lake import Lake
from dicomlake.series import Series
from dicomlake.storage.local import LocalStorage
from tests import objects

COUNT = 5
MEANS = [100 * 2 + 7.5 - 1024 + 10 * n for n in range(COUNT)]  # of slices 1, 2, 3 and columns 0 … 15


def uid(number: int) -> str:
    return f"{objects.ROOT}.8.{number}.1"


def filled(root: Path, count: int = COUNT) -> Lake:
    """Series n of three slices has 10 * n added to every value."""
    lake = dicomlake.open(root / "l", create=True)
    for n in range(count):
        lake.ingest(*objects.series(3, uid(n), RescaleIntercept=-1024 + 10 * n), progress=False)
    return lake


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    with filled(tmp_path_factory.mktemp("lake")) as lake:
        lake.ingest(
            objects.dicom(1, series=uid(99), SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", Modality="SR"),
            progress=False,
        )
        yield lake


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with filled(tmp_path) as made:
        yield made


def of(lake: Lake) -> list[Series]:
    return [lake.find(uid(n))[0] for n in range(COUNT)]


def storage(lake: Lake) -> LocalStorage:
    return LocalStorage(lake.path)


def mean_hu(image: xr.DataArray) -> float:
    return float(image.dicom.hu().mean())


def fails_on_the_third(image: xr.DataArray) -> dict[str, float]:
    if image.attrs["rescale_intercept"] == -1004:
        raise ArithmeticError("third")
    return {"mean": mean_hu(image), "n": image.size}


# ---- values --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [{}, {"workers": 1}, {"processes": True, "workers": 2}])
def test_values_come_in_the_order_of_the_series(shared: Lake, how: dict[str, Any]) -> None:
    series = of(shared)[::-1]
    result = map_cohort(mean_hu, series, progress=False, **how)
    table = result.table()
    assert table.SeriesInstanceUID.tolist() == [one.uid for one in series]
    assert table.value.tolist() == pytest.approx(MEANS[::-1])
    assert table.error.isna().all()


def test_functions_without_a_module_reach_other_processes(shared: Lake) -> None:
    bound = 3.0
    result = map_cohort(lambda image, by: bound * by, of(shared), args=(2,), processes=True, workers=1)
    assert result.values == [6.0] * COUNT


def test_a_dask_client_computes_the_same(shared: Lake) -> None:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        result = map_cohort(mean_hu, of(shared), client=client, storage=storage(shared))
        plain = map_cohort(mean_hu, of(shared), client=client)
    assert result.values == pytest.approx(MEANS)
    assert plain.values == pytest.approx(MEANS)


def test_a_failure_is_a_row_and_stops_no_other(shared: Lake) -> None:
    (report,) = shared.find(uid(99))
    table = map_cohort(fails_on_the_third, [*of(shared), report]).table()
    assert table["mean"].tolist()[:2] == pytest.approx(MEANS[:2])
    assert table["n"].tolist()[3:5] == [768, 768]
    assert table.error.tolist()[2] == "ArithmeticError"
    assert table.message.tolist()[2] == "third"
    assert table.error.tolist()[5] == "VolumeError"
    assert np.isnan(table["mean"].tolist()[5])
    with pytest.raises(ArithmeticError, match="third"):
        map_cohort(fails_on_the_third, of(shared), errors="raise")


def test_units_selection_and_arguments_reach_the_function(shared: Lake) -> None:
    def quantile(image: xr.DataArray, q: float, *, add: float) -> float:
        assert image.attrs["units"] == "HU"
        return float(np.quantile(image.values, q)) + add

    result = map_cohort(quantile, of(shared), args=(1.0,), kwargs={"add": 0.5}, units="hu")
    assert result.values == pytest.approx([315 - 1024 + 10 * n + 0.5 for n in range(COUNT)])


def test_the_series_itself_may_be_passed(shared: Lake) -> None:
    result = map_cohort(lambda series: len(series.instances), of(shared), of="series")
    assert result.values == [3] * COUNT
    with pytest.raises(ValueError, match="threads"):
        map_cohort(len, of(shared), of="series", processes=True)


def test_frames_and_arrays_are_put_together(shared: Lake) -> None:
    rows = map_cohort(lambda image: pd.DataFrame({"z": [0, 1, 2], "m": image.mean(("y", "x"))}), of(shared))
    table = rows.table()
    assert len(table) == 3 * COUNT
    assert table.m.tolist()[:3] == [107.5, 207.5, 307.5]
    assert table.SeriesInstanceUID.tolist()[3:6] == [uid(1)] * 3
    arrays = map_cohort(lambda image: image.dicom.hu().mean("z", keep_attrs=True), of(shared), chunks="auto")
    dataset = arrays.dataset()
    assert dataset.image.dims == ("series", "y", "x")
    assert dataset.series.values.tolist() == [uid(n) for n in range(COUNT)]
    assert dataset.image.mean(("y", "x")).values.tolist() == pytest.approx(MEANS)
    unlike = map_cohort(
        lambda image: image[:, 0, : 1 + int(image.rescale_intercept + 1024) // 10].mean("z"), of(shared)
    )
    with pytest.raises(ValueError, match="join='outer'"):
        unlike.dataset()
    assert unlike.dataset("outer").sizes == {"series": COUNT, "x": COUNT}


def test_what_no_table_can_hold_is_a_failure_that_says_so(shared: Lake) -> None:
    one = of(shared)[:1]
    (listed,) = map_cohort(lambda image: [1, 2], one)
    assert listed.error == "TypeError"
    assert "return a number" in listed.message
    (named,) = map_cohort(lambda image: {"error": 1}, one)
    assert "another name" in named.message
    assert map_cohort(lambda image: image.max(), one).values == [315]
    assert map_cohort(lambda image: None, one).values == [None]


def test_an_interrupt_keeps_what_is_done(shared: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def interrupted(*given: Any, **named: Any) -> Any:
        if ended.is_set():
            raise KeyboardInterrupt
        ended.set()
        return wait(*given, **named)

    wait = mapping.wait
    monkeypatch.setattr(mapping, "wait", interrupted)
    result = map_cohort(mean_hu, of(shared), workers=1)
    assert result.interrupted
    done = [one for one in result if one.ok]
    assert 1 <= len(done) < COUNT
    assert [one.value for one in done] == pytest.approx(MEANS[: len(done)])
    assert {one.error for one in result.failures} == {"NotComputed"}


# ---- results that stay ---------------------------------------------------------------------------------


def kept(lake: Lake, func: Callable[..., Any], **how: Any) -> Result:
    return map_cohort(
        func, of(lake), name="mean", storage=storage(lake), change=7, who="tester", progress=False, **how
    )


def test_a_result_stays_with_what_made_it(lake: Lake) -> None:
    result = kept(lake, fails_on_the_third)
    (listed,) = derived(storage(lake))
    assert (listed.name, listed.number, listed.series, listed.failed) == ("mean", 1, COUNT, 1)
    folder = lake.path / listed.key
    told = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert "raise ArithmeticError" in told["function"]["code"]
    assert told["versions"]["numpy"] == np.__version__
    assert told["versions"]["dicomlake"] == dicomlake.__version__
    assert (told["change"], told["who"]) == (7, "tester")
    assert told["failures"] == {uid(2): "ArithmeticError"}  # whose text may hold anything
    lines = [json.loads(line) for line in (folder / "values.jsonl").read_text().splitlines()]
    assert "third" not in (folder / "values.jsonl").read_text() + (folder / "table.csv").read_text()
    hashes = [[[v.number, v.store_sha256] for v in one.volumes] for one in of(lake)]
    assert [line["volumes"] for line in lines] == hashes
    read = pd.read_csv(folder / "table.csv")
    assert read["mean"].tolist()[:2] == pytest.approx(MEANS[:2])
    again = open_derived(storage(lake), "mean")
    assert again.values == result.values
    assert [one.error for one in again] == [one.error for one in result]
    with pytest.raises(VolumeError, match="no such result"):
        open_derived(storage(lake), "mean", 2)
    for wrong in ("../x", "", "a b", ".hidden"):
        with pytest.raises(ValueError, match="name"):
            map_cohort(mean_hu, of(lake), name=wrong, storage=storage(lake))


def test_the_same_code_and_volumes_are_not_computed_again(lake: Lake) -> None:
    seen: list[str] = []

    def run(by: int) -> Result:
        def func(image: xr.DataArray, factor: int) -> float:
            note(image)
            return factor * float(image.max())

        return kept(lake, func, args=(by,))

    note = _Noting(seen)
    first = run(1)
    assert len(seen) == COUNT
    second = run(1)
    assert len(seen) == COUNT
    assert second.values == first.values
    assert "there already: derived/mean/1" in second.note
    run(2)
    assert len(seen) == 2 * COUNT
    assert [one.number for one in derived(storage(lake))] == [1, 2]


class _Noting:
    """Counts calls; the same code whatever it has counted."""

    def __init__(self, seen: list[str]) -> None:
        self._seen = seen

    def __call__(self, image: xr.DataArray) -> None:
        self._seen.append("seen")

    def __dask_tokenize__(self) -> str:
        return "noting"


def test_only_series_that_are_new_changed_or_failed_are_computed(lake: Lake) -> None:
    seen: list[float] = []

    def func(image: xr.DataArray) -> float:
        note.of(image)
        return float(image.mean())

    class Note:
        broken = True

        def of(self, image: xr.DataArray) -> None:
            seen.append(image.attrs["rescale_intercept"])
            if self.broken and image.attrs["rescale_intercept"] == -1014:
                raise OSError("for now")

        def __dask_tokenize__(self) -> str:
            return "note"

    note = Note()
    series = of(lake)
    how: dict[str, Any] = {"name": "m", "storage": storage(lake), "who": "tester"}
    map_cohort(func, series[:3], **how)
    assert sorted(seen) == [-1024, -1014, -1004]
    seen.clear()
    lake.ingest(objects.dicom(4, series=uid(0)), progress=False)  # a fourth slice: another volume
    note.broken = False
    result = map_cohort(func, of(lake)[:4], **how)
    assert sorted(seen) == [-1024, -1014, -994]
    assert result.values == pytest.approx([257.5, 207.5, 207.5, 207.5])
    assert result.facts["resumed_from"] == 1
    assert "1 series were taken from number 1" in result.note


def test_other_helper_functions_make_other_code() -> None:
    from dicomlake.cohorts.computing.fingerprint import fingerprint

    def made(by: int) -> Callable[[float], float]:
        def helper(value: float) -> float:
            return value * by

        return lambda value: helper(value)

    one, same, other = made(1), made(1), made(2)
    assert fingerprint(one).sha256 == fingerprint(same).sha256
    assert fingerprint(one).sha256 != fingerprint(other).sha256
    assert fingerprint(one, 1).sha256 != fingerprint(one, 2).sha256
    assert fingerprint(one, object()).sha256 is None  # nobody can tell whether it is the same
    assert fingerprint(np.mean).sha256 is not None


@pytest.mark.parametrize("alike", [True, False])
def test_arrays_and_frames_come_back_as_they_were(lake: Lake, alike: bool) -> None:
    def func(image: xr.DataArray) -> xr.Dataset:
        width = 3 if alike else 1 + int(image.rescale_intercept + 1024) // 10
        return xr.Dataset({"profile": image[:, 0, :width].mean("z"), "n": image.size})

    first = kept(lake, func)
    again = kept(lake, func)
    assert "there already" in again.note
    for old, new in zip(first.values, again.values, strict=True):
        xr.testing.assert_allclose(new.drop_vars("series", errors="ignore"), old)
    frames = map_cohort(
        lambda image: pd.DataFrame({"s": ["a", "b"], "v": [0.1, 1 / 3]}),
        of(lake),
        name="f",
        storage=storage(lake),
    )
    read = open_derived(storage(lake), "f")
    for old, new in zip(frames.values, read.values, strict=True):
        pd.testing.assert_frame_equal(new, old, rtol=1e-14)


def test_an_interrupted_result_is_kept_and_taken_up(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    wait = mapping.wait
    calls: list[int] = []

    def interrupted(*given: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return wait(*given, **named)

    monkeypatch.setattr(mapping, "wait", interrupted)
    first = kept(lake, mean_hu, workers=1)
    assert first.interrupted
    done = sum(one.ok for one in first)
    assert 1 <= done < COUNT
    assert not derived(storage(lake))[0].complete
    second = kept(lake, mean_hu, workers=1)
    assert second.values == pytest.approx(MEANS)
    assert f"{done} series were taken from number 1" in second.note
    assert [one.complete for one in derived(storage(lake))] == [False, True]


def test_a_claimed_number_is_never_given_twice(lake: Lake) -> None:
    assert storage(lake).put("derived/mean/.claims/1", b"")  # another process is computing it
    kept(lake, mean_hu)
    assert [one.number for one in derived(storage(lake))] == [2]
