"""What a viewer shows: one image array, its planes in the patient's axes, its values in their units."""

from __future__ import annotations

import uuid
import weakref
from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dicomlake.dicom.attributes import Attributes
from dicomlake.errors import GeometryError, VolumeError
from dicomlake.storage.arrays import layout_of
from dicomlake.widgets.images import describing, oblique, slabs, voi
from dicomlake.widgets.images.encode import Encoding, encoding_of, grey
from dicomlake.widgets.images.memory import MEMORY, Box, Given, Pixels, told
from dicomlake.widgets.images.planes import Plane
from dicomlake.widgets.images.voi import Preset

if TYPE_CHECKING:
    import xarray as xr

MOST_AT_ONCE = 8  # planes of a run: more would be one message that nobody waits for
_SAMPLE = 200_000
_SAMPLED_WHOLE = 4 << 20  # voxels: less are read as quickly as a few of their planes


class Stack:
    """One image array as planes; reads nothing until planes or a window are asked for.

    Safe to use from many threads. Numbers are what travels: value = number * slope + intercept in `units`;
    of float32, NaN is where nothing was measured.
    """

    def __init__(
        self,
        image: xr.DataArray,
        *,
        title: str,
        palette: xr.DataArray | None,
        header: Attributes | None,
        objects: Sequence[Attributes],
    ) -> None:
        self.image = image
        self._header = header
        self._objects = objects or ([] if header is None else [header])
        self._source = describing.ordered(image)
        self.encoding: Encoding = encoding_of(self._source, palette)
        self.kind, self.units = self.encoding.kind, self.encoding.units
        self.slope, self.intercept = self.encoding.slope, self.encoding.intercept
        self.colour = self.kind == "rgb8"
        dims = [str(d) for d in self._source.dims if d != "rgb"]
        sizes = [self._source.sizes[d] for d in dims]
        self.shape: tuple[int, int, int] = (sizes[-3], sizes[-2], sizes[-1])
        self.extras: dict[str, int] = dict(zip(dims[:-3], sizes[:-3], strict=True))
        self.modality = str(image.attrs.get("modality") or "")
        self.affine, self.planes, self.calibrated = describing.placed(image, self.shape)
        self.frame_of_reference = describing.digest(image.attrs.get("frame_of_reference_uid"))
        self.inverted = image.attrs.get("photometric_interpretation") == "MONOCHROME1"
        self.title = title or f"{self.modality or 'image'} {'×'.join(map(str, self.shape))}"
        self._key = describing.content_of(self._source) if self.encoding.as_stored else None
        if self._key is None:  # known by itself alone: nobody else will ask for it
            self._key = uuid.uuid4().hex
            weakref.finalize(self, MEMORY.release, self._key)
        self._sample: np.ndarray | None = None
        self._presets: list[Preset] | None = None

    @classmethod
    def of(
        cls,
        image: xr.DataArray | xr.Dataset,
        *,
        title: str = "",
        palette: xr.DataArray | None = None,
        header: Attributes | None = None,
        objects: Sequence[Attributes] = (),
    ) -> Stack:
        """The stack of an image (…, z or frame, y, x[, rgb]), with or without geometry; or of its Dataset.

        title: without identifying text, as it is saved with the notebook. palette: of a PALETTE COLOR image;
        a Dataset brings it along. header: of one of its objects, for all its windows and VOI LUTs.
        objects: the headers of all of them: only they can say that no text is burned in.
        Raises VolumeError for an array that is no image.
        """
        import xarray as xr

        if isinstance(image, xr.Dataset):
            palette = image["palette"] if palette is None and "palette" in image else palette
            image = image["image"]
        return cls(image, title=title, palette=palette, header=header, objects=objects)

    # ---- pixels ----

    def run(
        self,
        plane: str,
        start: int,
        count: int,
        extra: Sequence[int] = (),
        slab_mm: float = 0.0,
        slab_mode: str = "max",
    ) -> np.ndarray:
        """Planes start … start + count - 1 as displayed: (count, rows, cols[, 3]), C-contiguous numbers.

        slab_mm: above 0, each plane is the max, min or mean over a slab centred on it. A run that reaches
        beyond the last plane is shorter. Raises VolumeError, naming the planes, when they cannot be read.
        """
        wanted = self._plane(plane)
        start, count = int(start), int(count)
        if not 0 <= start < wanted.count or count < 1:
            raise VolumeError(f"{plane} planes go from 0 to {wanted.count - 1}: there is no {start}")
        count = min(count, wanted.count - start, MOST_AT_ONCE)
        around = slabs.reach(slab_mm, wanted.step_mm)
        _check_mode(slab_mode)
        low, high = max(start - around, 0), min(start + count + around, wanted.count)
        try:
            part = self._part(wanted.box(low, high), self._extra(extra), first=wanted.axes[0] == 0)
        except Exception as error:
            last = start + count - 1
            which = f"{plane} plane {start}" if count == 1 else f"{plane} planes {start} to {last}"
            raise told(f"{which} of {wanted.count}", error) from error
        shown = wanted.displayed(part)
        if around:
            shown = slabs.projected(shown, start - low, count, around, slab_mode, self.encoding.padding)
        return np.ascontiguousarray(shown)

    def oblique(
        self,
        center_mm: npt.ArrayLike,
        u: npt.ArrayLike,
        v: npt.ArrayLike,
        spacing_mm: float,
        shape: tuple[int, int],
        *,
        slab_mm: float = 0.0,
        slab_mode: str = "max",
        extra: Sequence[int] = (),
    ) -> np.ndarray:
        """A plane (rows, cols[, 3]) through `center_mm` (LPS) by linear interpolation; numbers as of `run`.

        u, v: directions along columns' numbers (to the right) and rows' numbers (down). spacing_mm: of the
        square pixels. Outside the volume are its lowest numbers.
        Raises GeometryError without geometry, or when the plane makes no sense.
        """
        if self.affine is None:
            raise GeometryError(
                "this image has no even geometry, so no plane can be laid through it: open the series with"
                " grid='resample' if its planes are uneven"
            )
        _check_mode(slab_mode)
        right, down = oblique.axes_of(u, v)
        size = (int(shape[0]), int(shape[1]))
        plane = oblique.to_lps(center_mm, right, down, float(spacing_mm), size)
        step = float(np.linalg.norm(self.affine[:3, :3], axis=0).min())
        where = self._extra(extra)
        try:
            found = oblique.sampled(
                self.affine,
                self.shape,
                plane,
                np.cross(right, down),
                size,
                oblique.offsets_mm(slab_mm, step),
                slab_mode,
                lambda box: self._part(box, where),
                self.lowest(),
                self.encoding.padding,
            )
        except GeometryError:
            raise
        except Exception as error:
            raise told("the oblique plane", error) from error
        return self._as_kind(found)

    def values(self, extra: Sequence[int] = ()) -> np.ndarray:
        """All numbers (z, y, x[, rgb]), in memory; not to be changed.

        Raises VolumeError when they cannot be read, or exceed what the viewer may keep.
        """
        where = self._extra(extra)
        try:
            return self._part(tuple(slice(0, n) for n in self.shape), where)
        except Exception as error:
            raise told("the volume", error) from error

    def part(self, z: slice, y: slice, x: slice, extra: Sequence[int] = ()) -> np.ndarray:
        """Numbers of a box, in the array's own axes; not to be changed. Slices have start and stop."""
        return self._part((z, y, x), self._extra(extra))

    # ---- what it is ----

    @property
    def presets(self) -> list[Preset]:
        """Windows of the header, of the modality, and one by the values; reads a sample."""
        if self._presets is None:
            self._presets = [] if self.colour else self._made_presets()
        return self._presets

    def value_range(self) -> tuple[float, float]:
        """Between which almost all values of a sample lie, in units."""
        if self.colour:
            return 0.0, 255.0
        sample = self.sample()
        if not sample.size:
            return 0.0, 1.0
        low, high = np.percentile(sample, [0.1, 99.9])
        return (float(low), float(high)) if high > low else (float(low), float(low) + 1.0)

    def sample(self) -> np.ndarray:
        """Some values in units, float64, without padding: of the middle of the volume; read once.

        Empty when they cannot be read: asking for the planes tells why.
        """
        if self._sample is None:
            self._sample = self._taken()
        return self._sample

    def lowest(self) -> float:
        """The number that stands for what lies outside: the lowest of the sample."""
        if self.colour:
            return 0.0
        sample = self.sample()
        return float((sample.min() - self.intercept) / self.slope) if sample.size else 0.0

    def shown(
        self,
        numbers: np.ndarray,
        window: tuple[float, float] | None = None,
        *,
        preset: Preset | None = None,
        invert: bool = False,
    ) -> np.ndarray:
        """uint8 of numbers of this stack, as a screen shows them; colours stay as they are.

        window: centre and width in units; without it, `preset`, the first unless told, decides. invert:
        beyond what MONOCHROME1 asks for.
        """
        if self.colour:
            return numbers
        chosen = preset or (self.presets[0] if window is None else None)
        if window is None and chosen is not None and chosen.lut is not None:
            bright = voi.looked_up(chosen.lut, numbers * self.slope + self.intercept)
        else:
            center, width = window or (chosen.center, chosen.width) if chosen else window or (0.5, 1.0)
            shape = chosen.shape if chosen else "linear"
            bright = grey(numbers, (center, width), shape, slope=self.slope, intercept=self.intercept)
        return 255 - bright if invert != self.inverted else bright

    def meta(self) -> dict[str, Any]:
        """What the browser needs to know; JSON types, nothing identifying."""
        return {
            "title": self.title,
            "modality": self.modality,
            "shape": list(self.shape),
            "colour": self.colour,
            "kind": self.kind,
            "slope": self.slope,
            "intercept": self.intercept,
            "units": self.units,
            "range": list(self.value_range()),
            "padding": None if self.encoding.padding is None else list(self.encoding.padding),
            "extras": [describing.axis(self.image, name, size) for name, size in self.extras.items()],
            "frame_of_reference": self.frame_of_reference,
            "planes": {name: plane.meta() for name, plane in self.planes.items()},
            "order": list(self.planes),
            "presets": [one.meta() for one in self.presets],
            "cine": describing.cine(self.image),
            "burned_in": self.burned_in,
            "inverted": self.inverted,
            "calibrated": self.calibrated,
            "sheared": self.sheared,
        }

    @property
    def burned_in(self) -> bool:
        """Whether the pixels may show text, perhaps a name: unless all headers say that they are measured."""
        return describing.may_show_text(self.image, self._objects, placed=self.placed, units=self.units)

    @property
    def placed(self) -> bool:
        """Whether its planes lie somewhere in the patient."""
        return self.affine is not None or any(p.letters["left"] for p in self.planes.values())

    @property
    def sheared(self) -> bool:
        """Whether the slices lean (gantry tilt): then only the acquired planes are drawn at right angles."""
        from dicomlake.dicom import geometry

        return self.affine is not None and geometry.is_sheared(self.affine, self.shape[0])

    def __repr__(self) -> str:
        return f"<Stack {'×'.join(map(str, self.shape))} {self.kind}, {', '.join(self.planes)}>"

    # ---- inside ----

    def _plane(self, name: str) -> Plane:
        if name not in self.planes:
            raise VolumeError(f"this image has no {str(name)[:20]!r} planes, but {', '.join(self.planes)}")
        return self.planes[name]

    def _extra(self, extra: Sequence[int]) -> tuple[int, ...]:
        """Indices of the further axes, those that are not given 0."""
        given = [int(i) for i in extra]
        found = [*given, *[0] * len(self.extras)][: len(self.extras)]
        if len(given) > len(self.extras) or any(
            not 0 <= i < n for i, n in zip(found, self.extras.values(), strict=True)
        ):
            raise VolumeError(f"the further axes of this image are {self.extras}: an index lies outside")
        return tuple(found)

    def _part(self, box: Box, extra: tuple[int, ...], *, first: bool = False) -> np.ndarray:
        """Numbers of a box (z, y, x); the rest of the volume follows on a thread."""
        pixels, whole = self._pixels(extra)
        inner = tuple(slice(i, i + 1) for i in extra) if whole else ()
        found = pixels.part((*inner, *box))
        place = extra if whole else ()
        MEMORY.fill(pixels, (*place, box[0].start) if first else place)
        return found[(0,) * len(inner)] if inner else found

    def _pixels(self, extra: tuple[int, ...]) -> tuple[Pixels, bool]:
        """Where numbers come from, and whether that has the further axes, too.

        Those that are small enough are kept whole: chunks hold several of their volumes, and a course over
        time reads them all.
        """
        sizes, colours = tuple(self.extras.values()), (3,) * self.colour
        dtype = self.encoding.dtype
        whole = bool(sizes) and prod((*sizes, *self.shape, *colours)) * dtype.itemsize <= MEMORY.budget // 2
        if self._in_memory():
            return Given(self._source.values), bool(sizes)
        blocks = self._blocks()
        shape = (*(sizes if whole else ()), *self.shape, *colours)
        if not whole:
            blocks = blocks[len(sizes) :]
        key = (self._key, self.kind, self.slope, None if whole else extra)
        read = self._reader(None if whole else extra)
        return MEMORY.pixels(key, shape, dtype, blocks, read), whole

    def _in_memory(self) -> bool:
        data = self._source.variable._data
        return isinstance(data, np.ndarray) and data.dtype == self.encoding.dtype and self.kind != "float32"

    def _blocks(self) -> tuple[int, ...]:
        """The chunks of a volume store of this shape."""
        dims = [*self.extras, "z", "y", "x", *(["rgb"] if "rgb" in self._source.dims else [])]
        shape = (*self.extras.values(), *self.shape, *((3,) if "rgb" in self._source.dims else ()))
        chunk = layout_of(shape, dims, self._source.dtype).chunk
        return tuple(chunk[: len(self.extras) + 3])

    def _reader(self, extra: tuple[int, ...] | None) -> Callable[[Box], np.ndarray]:
        source, convert = self._source, self.encoding.convert
        dims = [str(d) for d in source.dims if d != "rgb"]

        def read(box: Box) -> np.ndarray:
            given: tuple[Any, ...] = box if extra is None else (*extra, *box)
            return convert(source.isel(dict(zip(dims, given, strict=True))))

        return read

    def _as_kind(self, values: np.ndarray) -> np.ndarray:
        """Floating-point numbers as what travels, rounded to the nearest."""
        dtype = self.encoding.dtype
        if dtype.kind == "f":
            return np.ascontiguousarray(values, dtype)
        info = np.iinfo(dtype)
        return np.ascontiguousarray(np.clip(np.rint(values), info.min, info.max).astype(dtype))

    def _taken(self) -> np.ndarray:
        middle, depth = self.shape[0] // 2, self._blocks()[len(self.extras)]
        low, high = middle // depth * depth, min(middle // depth * depth + depth, self.shape[0])
        if prod(self.shape) <= _SAMPLED_WHOLE:
            low, high = 0, self.shape[0]
        try:
            part = self.part(slice(low, high), slice(0, self.shape[1]), slice(0, self.shape[2]))
        except Exception:  # whoever asks for planes is told
            return np.zeros(0)
        step = max(1, int((part.size / _SAMPLE) ** (1 / 2)))
        numbers = part[:, ::step, ::step].ravel()
        if self.encoding.padding is not None:
            gap = self.encoding.padding
            numbers = numbers[(numbers < gap[0]) | (numbers > gap[1])]
        numbers = numbers[np.isfinite(numbers)]
        return np.asarray(numbers.astype(np.float64) * self.slope + self.intercept)

    def _made_presets(self) -> list[Preset]:
        factor, sample = self.encoding.factor, self.sample()
        own: list[Preset] = []
        if self._header is not None:
            signed = self.kind != "uint8" and (self.intercept < 0 or self._source.dtype.kind == "i")
            own = voi.of_header(self._header, signed=signed, factor=factor)
        own = own or voi.of_window(self.image.attrs.get("window"), factor)
        usual, auto = voi.of_modality(self.modality, self.units, sample), voi.automatic(sample)
        if self.units == "SUV":  # the window of the header is for what a camera showed of one slice
            return voi.numbered([*usual, *own], auto)
        return voi.numbered([*own, *usual], auto)


def _check_mode(mode: str) -> None:
    if mode not in slabs.MODES:
        raise VolumeError(f"a slab shows max, min or mean, not {str(mode)[:20]!r}")
