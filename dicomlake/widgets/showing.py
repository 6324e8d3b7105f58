"""From what one has in hand to the viewer that shows it: an array, a series, an object drawn on one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, Protocol

from dicomlake.errors import DicomlakeError, VolumeError
from dicomlake.records import SeriesKey, Volume
from dicomlake.widgets.images.stack import Stack
from dicomlake.widgets.viewer.viewer import Viewer

if TYPE_CHECKING:
    import xarray as xr

    from dicomlake.catalog.blocks import SeriesHeaders
    from dicomlake.dicom.attributes import Attributes
    from dicomlake.widgets.compare.compare import Compare


class Opens(Protocol):
    """A lake, as far as its volumes go."""

    def open_volume(self, volume: Volume, *, chunks: Any, level: int) -> xr.Dataset:
        """A built volume as lazy xarray."""


class Holder(Opens, Protocol):
    """The lake that a series is of."""

    def open_objects(self, key: SeriesKey) -> Any:
        """What is in a series that holds no stack of frames; None when it holds nothing to open."""

    def headers(self, series_id: int) -> SeriesHeaders:
        """The full headers of a series."""

    def find(self, uid: str) -> Sequence[Viewable]:
        """The series that a UID names."""


class Viewable(Protocol):
    """A series, as far as a viewer needs it."""

    @property
    def uid(self) -> str:
        """SeriesInstanceUID."""

    @property
    def id(self) -> int:
        """The id of the catalog's row now."""

    @property
    def key(self) -> SeriesKey:
        """StudyInstanceUID and SeriesInstanceUID."""

    @property
    def facts(self) -> dict[str, Any]:
        """The catalog's columns of the series."""

    @property
    def source(self) -> Any:
        """Its lake, a Holder."""

    @property
    def volumes(self) -> Sequence[Volume]:
        """Its volumes, built or not."""


def view(
    what: Any, *, volume: int | None = None, overlays: bool = False, title: str = "", **traits: Any
) -> Viewer:
    """The viewer of a DataArray, a Dataset with `image`, or a series.

    what: a DataArray (…, z, y, x[, rgb]), with a geometry or without; a Dataset that holds one; a series. Of
        a segmentation, a structure set or a dose, the images that it was drawn on, with it laid over them.
    volume: the number of the volume of a series; the largest that is built unless told.
    overlays: lay over the images what refers to them: segmentations, structures, dose.
    title: instead of modality, number and shape; it is saved with the notebook, so name nobody in it.
    traits: what the viewer begins with, such as plane="coronal", window=(40, 400), layout="one".
    Raises VolumeError for what holds no image.
    """
    if hasattr(what, "volumes") and hasattr(what, "key"):
        return _of_series(what, volume, overlays, title, traits)
    if overlays:
        raise VolumeError("nothing refers to an array: view a series, or viewer.add() what you have")
    if not hasattr(what, "dims") or (hasattr(what, "data_vars") and "image" not in what.data_vars):
        raise VolumeError(_no_image(what))
    return Viewer(Stack.of(what, title=title), **traits)


def _no_image(what: Any) -> str:
    said = f"a {type(what).__name__} holds no image"
    if hasattr(what, "shape"):
        return f"{said} that says what its axes are: view xarray.DataArray(array, dims=('z', 'y', 'x'))"
    if hasattr(what, "__getitem__") and not hasattr(what, "data_vars"):
        return f"{said}: take one of its members, as [0], or pass them to compare() one by one"
    return f"{said}: view a DataArray, a Dataset or a series"


def _of_series(
    series: Viewable, volume: int | None, overlays: bool, title: str, traits: Mapping[str, Any]
) -> Viewer:
    wanted = shown_volume(series.volumes, volume)
    if volume is None and (series.facts.get("Modality") == "RTDOSE" or wanted is None):
        on = _drawn_on(series)
        if on is not None:
            viewer = _of_series(on, None, False, title, traits)
            for one in _laid_over(series, wanted):
                viewer.add(one)
            return viewer
    viewer = Viewer(stack_of(series, volume, title=title), subject=series, **traits)
    try:
        viewer.load_marks()
    except DicomlakeError as error:  # a damaged label must not keep images from being seen
        viewer.failed(error)
    if overlays:
        viewer.add_all()
    return viewer


def stack_of(series: Viewable, volume: int | None = None, *, title: str = "") -> Stack:
    """The planes of a series; volume and title as in `view`. Raises VolumeError when none is built."""
    wanted = shown_volume(series.volumes, volume)
    if wanted is None:
        raise VolumeError(_nothing_to_view(series, volume))
    dataset = series.source.open_volume(wanted, chunks=None, level=0)
    objects = _objects(series, dataset)
    middle = objects[len(objects) // 2] if objects else None
    return Stack.of(dataset, title=title or _title(series, wanted), header=middle, objects=objects)


def _objects(series: Viewable, dataset: xr.Dataset) -> list[Attributes]:
    """The headers of the objects that hold a volume, in its order: windows, VOI LUTs, burned-in text."""
    headers = dict(series.source.headers(series.id))
    uids = dict.fromkeys(str(uid) for uid in dataset.image.instance_uid.values.flat)
    return [headers[uid] for uid in uids if uid in headers]


def small_image(series: Viewable) -> xr.Dataset:
    """A series at its smallest size, for a thumbnail. Raises VolumeError when none is built."""
    wanted = shown_volume(series.volumes)
    if wanted is None:
        raise VolumeError(_nothing_to_view(series, None))
    return coarsest(series.source, wanted)


def coarsest(lake: Opens, volume: Volume) -> xr.Dataset:
    """The smallest copy of a volume."""
    level = max(int(volume.info.get("levels") or 1) - 1, 0)
    return lake.open_volume(volume, chunks=None, level=level)


def compare(*what: Any, link: str = "auto", titles: Sequence[str] | None = None, **traits: Any) -> Compare:
    """Two to four images beside each other, linked in patient millimetres where their geometry allows.

    what: viewers, or anything that `view` takes.
    link: "auto" links by patient position within one frame of reference, else by place in the stack;
        "register" finds the rigid motion between them first; "mm", "index", "none".
    titles: saved with the notebook, so name nobody in them. traits: what each viewer begins with.
    Raises DicomlakeError for another number of images.
    """
    from dicomlake.widgets.compare.compare import compare as beside

    viewers = [one if isinstance(one, Viewer) else view(one, **traits) for one in what]
    return beside(viewers, link=link, titles=titles)


def shown_volume(volumes: Iterable[Volume], number: int | None = None) -> Volume | None:
    """The volume of a series that is shown: of this number, else the largest that is built; or None."""
    built = [v for v in volumes if v.key is not None and number in (None, v.number)]
    return max(built, key=lambda v: (prod(v.shape), -v.number), default=None)


def _drawn_on(series: Viewable) -> Viewable | None:
    """The images that the object of a series refers to, or a dose lies in the frame of reference of."""
    from dicomlake.objects.opening import named_series

    if series.facts.get("Modality") == "RTDOSE":
        frame = series.facts.get("FrameOfReferenceUID")
        found = series.source.query(Modality=["CT", "MR", "PT"], FrameOfReferenceUID=frame) if frame else []
        return max(found, key=_size, default=None)
    opened = series.source.open_objects(series.key)
    uids = {uid for one in _listed(opened) for uid in named_series(one)}
    named = [one for uid in sorted(uids) for one in series.source.find(uid)]
    return max((one for one in named if shown_volume(one.volumes)), key=_size, default=None)


def _laid_over(series: Viewable, volume: Volume | None) -> list[Any]:
    if volume is not None:
        return [series.source.open_volume(volume, chunks="auto", level=0).image.dicom.dose()]
    return [one for one in _listed(series.source.open_objects(series.key)) if hasattr(one, "mask")]


def _listed(opened: Any) -> list[Any]:
    return opened if isinstance(opened, list) else [] if opened is None else [opened]


def _size(series: Viewable) -> int:
    volume = shown_volume(series.volumes)
    return prod(volume.shape) if volume else 0


def _title(series: Viewable, volume: Volume) -> str:
    number = series.facts.get("SeriesNumber")
    which = f" series {int(number)}" if isinstance(number, int | float) else ""
    return f"{series.facts.get('Modality') or 'Image'}{which}, {' × '.join(map(str, volume.shape))}"


def _nothing_to_view(series: Viewable, number: int | None) -> str:
    volumes = list(series.volumes)
    if number is not None and number not in {v.number for v in volumes}:
        return f"series {series.uid} has no volume {number}: see series.volumes"
    if volumes:
        reasons = "; ".join(f"volume {v.number}: {v.reason}" for v in volumes if number in (None, v.number))
        return f"no volume of series {series.uid} is built ({reasons}): run lake.build_volumes()"
    return f"series {series.uid} holds no images: see what it is with series.open()"
