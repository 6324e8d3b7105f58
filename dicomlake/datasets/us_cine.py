"""us-cine: an echocardiogram of a computed heart, a colour cine loop in one multi-frame object, RGB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dicomlake.datasets import _headers as h
from dicomlake.datasets._font import stamp
from dicomlake.datasets._noise import Floats, bell, blurred, hashed, wave
from dicomlake.datasets._truth import Truth, uid

NAME = "us-cine"
SLICES = 30  # frames
ROWS, COLUMNS = 240, 320
SOP_CLASS = "1.2.840.10008.5.1.4.1.1.3.1"
FRAME_TIME_MS = 40
BEAT_FRAMES = 20
PIXEL_CM = 0.0625

_APEX = (24.0, 160.0)  # (row, column) where the beams meet
_NEAR, _REACH = 14.0, 208.0  # the beams begin and end here, in pixels from the apex
_SPREAD = 0.78  # tangent of half the opening angle
_Pixels = NDArray[np.uint8]


def us_cine_rgb(frame: ArrayLike, y: ArrayLike, x: ArrayLike, *, seed: int = 0) -> _Pixels:
    """The stored colours at the index lists; shape (len(frame), len(y), len(x), 3)."""
    block = np.ix_(np.atleast_1d(y), np.atleast_1d(x))
    return np.stack([frame_rgb(int(f), seed)[block] for f in np.atleast_1d(frame)])


def frame_rgb(frame: int, seed: int = 0) -> _Pixels:
    """One frame of the loop, shape (240, 320, 3): red, green, blue."""
    y = np.arange(ROWS, dtype=np.float64)[:, None] - _APEX[0]
    x = np.arange(COLUMNS, dtype=np.float64)[None, :] - _APEX[1]
    sector = _sector(y, x)
    grey = np.where(sector, _echo(y, x, frame, seed), 0).astype(np.uint8)
    rgb = np.repeat(grey[:, :, None], 3, axis=2)
    _paint_flow(rgb, y, x, frame, sector)
    _paint_furniture(rgb, frame, seed)
    return rgb


def squeeze(frame: int) -> float:
    """How far the ventricles have emptied, 0 to 1; one beat lasts BEAT_FRAMES frames."""
    return float(0.5 - 0.5 * wave(np.asarray(frame / BEAT_FRAMES + 0.25)))


def _sector(y: Floats, x: Floats) -> NDArray[np.bool_]:
    r2 = x * x + y * y
    return np.asarray((np.abs(x) <= _SPREAD * y) & (r2 >= _NEAR * _NEAR) & (r2 <= _REACH * _REACH))


def _oval(y: Floats, x: Floats, centre: tuple[float, float], radii: tuple[float, float]) -> Floats:
    """Below 1 inside; centre and radii are (x, y) in pixels from the apex."""
    u, v = (x - centre[0]) / radii[0], (y - centre[1]) / radii[1]
    return np.asarray(u * u + v * v)


def _reflectivity(y: Floats, x: Floats, frame: int) -> NDArray[np.int64]:
    """Mean brightness of the tissue, 0 to 255: a four-chamber view from the apex."""
    s = squeeze(frame)
    mean = np.full(np.broadcast_shapes(y.shape, x.shape), 46, np.int64)
    mean[_oval(y, x, (-2.0, 112.0), (86.0, 100.0)) < 1] = 150  # pericardium
    mean[_oval(y, x, (-2.0, 112.0), (82.0, 96.0)) < 1] = 74  # muscle
    mean[_oval(y, x, (-2.0, 168.0), (74.0, 44.0)) < 1] = 80  # walls of the atria
    chambers = (
        ((29.0, 88.0 + 2.0 * s), (30.0 - 9.0 * s, 56.0 - 7.0 * s)),  # left ventricle
        ((-37.0, 98.0 + 2.0 * s), (25.0 - 7.0 * s, 45.0 - 6.0 * s)),  # right ventricle
        ((30.0, 170.0), (27.0 + 4.0 * s, 23.0 + 3.0 * s)),  # left atrium
        ((-36.0, 168.0), (25.0 + 3.0 * s, 22.0 + 3.0 * s)),  # right atrium
    )
    for centre, radii in chambers:
        wall = _oval(y, x, centre, radii)
        mean[wall < 1.13] = 124
        mean[wall < 1] = 9
    for middle, half in ((30.0, 23.0), (-36.0, 20.0)):
        _paint_valve(mean, y, x, middle, half, opening=1.0 - s)
    return mean


def _paint_valve(
    mean: NDArray[np.int64], y: Floats, x: Floats, middle: float, half: float, *, opening: float
) -> None:
    """Two leaflets from the ring to the middle; they swing towards the apex when the valve opens."""
    away = np.abs(x - middle)
    ring = 146.0
    hang = ring - (half - away) * (0.25 + 0.95 * opening)
    leaf = (np.abs(y - hang) < 2.2) & (away <= half) & (away >= 0.55 * half * opening)
    mean[leaf] = 190


def _echo(y: Floats, x: Floats, frame: int, seed: int) -> NDArray[np.int64]:
    """Brightness with speckle and loss in depth, 0 to 255."""
    rows, columns = np.arange(ROWS)[:, None], np.arange(COLUMNS)
    mean = blurred(_reflectivity(y, x, frame), times=1)
    still = blurred(np.abs(bell(seed, 0, rows, columns, spread=1000)).astype(np.int64), times=1)
    moving = blurred(np.abs(bell(seed, frame + 1, rows, columns, spread=1000)).astype(np.int64), times=1)
    speckle = 3 * still + moving - 2200  # about 1000 in the mean, wide
    gain = 1150 - (2 * np.abs(y.astype(np.int64) - 90))
    grain = (hashed(seed, frame, rows, columns) & np.uint32(7)).astype(np.int64)
    return np.asarray(np.clip(mean * np.maximum(speckle, 60) * gain // 1_000_000 + grain, 0, 255))


def _paint_flow(rgb: _Pixels, y: Floats, x: Floats, frame: int, sector: NDArray[np.bool_]) -> None:
    """Colour Doppler: red towards the probe while the left ventricle fills, blue while it empties."""
    pace = float(wave(np.asarray(frame / BEAT_FRAMES)))
    filling = pace < 0
    centre, radii = ((30.0, 122.0), (11.0, 38.0)) if filling else ((18.0, 116.0), (7.0, 36.0))
    q = _oval(y, x, centre, radii)
    speed = np.clip((1.0 - q) * abs(pace) * 1.6, 0.0, 1.0)
    moving = (speed > 0.12) & sector
    strong, fast = np.rint(120 + 135 * speed), np.rint(200 * speed * speed)
    zero = np.zeros_like(strong)
    colour = np.stack([strong, fast, zero] if filling else [zero, fast, strong], axis=-1)
    rgb[moving] = colour[moving].astype(np.uint8)


def _paint_furniture(rgb: _Pixels, frame: int, seed: int) -> None:
    """What a machine writes around the image: name and number, a depth scale, a colour bar, an ECG."""
    stamp(rgb, subject(seed).name.upper(), top=3, left=4, scale=2, grey=230)
    stamp(rgb, subject(seed).number, top=20, left=4, scale=1, grey=200)
    for tick in range(14):
        row = int(_APEX[0]) + tick * 16  # one centimetre
        if row < ROWS - 6:
            rgb[row, 312 if tick % 5 else 308 : 318] = 170
    for step in range(20):
        rgb[60 + step, 298:304] = (250 - 5 * step, 160 - 8 * step, 0)
        rgb[80 + step, 298:304] = (0, 8 * step, 150 + 5 * step)
    for column in range(min(frame % (2 * BEAT_FRAMES) * 64 // BEAT_FRAMES, 128)):
        beat = column % 64
        height = 14 if beat == 20 else 2 if 36 < beat < 46 else 0
        rgb[ROWS - 12 - height : ROWS - 11, 4 + column] = (60, 220, 90)


def subject(seed: int) -> h.Subject:
    """The patient; name and number are burned into the pixels as well."""
    return h.Subject("Phantom^Echo", f"DL-ECHO-{seed:04d}", "19491130", "F", "074Y", "1.62", "58")


def visit(slices: int, seed: int) -> h.Visit:
    """The study and the series in it."""
    return h.Visit(
        key=(NAME, seed, slices),
        modality="US",
        description="US Heart",
        protocol="Four chambers, colour flow",
        body_part="HEART",
        region=("80891009", "Heart"),
        procedure=("USHEART", "Ultrasound of heart"),
        time="140500",
    )


def truth(slices: int = SLICES, seed: int = 0) -> Truth:
    """What the object must read back as; it has no place in patient space."""
    this = visit(slices, seed)
    return Truth(
        name=NAME,
        dims=("frame", "y", "x", "rgb"),
        shape=(slices, ROWS, COLUMNS, 3),
        spacing_mm=None,
        affine_lps=None,
        units="1",
        study_uid=this.study_uid,
        series_uid=this.series_uid,
        frame_of_reference_uid=None,
        instance_uids=(uid(NAME, seed, slices, "cine"),),
    )


def write(folder: Path, *, slices: int, seed: int) -> None:
    """Write one multi-frame file."""
    made = h.dataset(_elements(slices, seed))
    h.add_private(made, (NAME, seed))
    h.write(made, folder / "US0001.dcm")


def _elements(slices: int, seed: int) -> h.Elements:
    """Ultrasound Multi-frame Image IOD (PS3.3 A.7)."""
    this = visit(slices, seed)
    return {
        **h.patient(subject(seed)),
        **h.study(this),
        **h.series(this),
        **h.equipment("Phantom US"),
        **h.instance(SOP_CLASS, truth(slices, seed).instance_uids[0], number=1, time="140501"),
        "ImageType": ["ORIGINAL", "PRIMARY", "CHEST", "0011"],
        "PatientOrientation": "",
        "AcquisitionNumber": 1,
        "AcquisitionDate": h.DATE,
        "AcquisitionTime": "140501",
        "AcquisitionDateTime": f"{h.DATE}140501",
        "ContentDate": h.DATE,
        "ContentTime": "140501",
        "SamplesPerPixel": 3,
        "PhotometricInterpretation": "RGB",
        "PlanarConfiguration": 0,
        "Rows": ROWS,
        "Columns": COLUMNS,
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        "NumberOfFrames": slices,
        "FrameTime": str(FRAME_TIME_MS),
        "FrameIncrementPointer": 0x00181063,
        "StartTrim": 1,
        "StopTrim": slices,
        "RecommendedDisplayFrameRate": 25,
        "CineRate": 25,
        "EffectiveDuration": str(slices * FRAME_TIME_MS / 1000),
        "HeartRate": 60_000 // (BEAT_FRAMES * FRAME_TIME_MS),
        "UltrasoundColorDataPresent": 1,
        "TransducerData": ["PHANTOM", "", ""],
        "TransducerType": "SECTOR_PHASED",
        "ProcessingFunction": "CLOSED FORM",
        "MechanicalIndex": "0.9",
        "BoneThermalIndex": "1.1",
        "SoftTissueThermalIndex": "0.7",
        "DepthOfScanField": 130,
        "BurnedInAnnotation": "YES",
        "LossyImageCompression": "00",
        "SequenceOfUltrasoundRegions": [_region(data_type=1), _region(data_type=2)],
        "ImageComments": "Closed-form phantom",
        "PixelData": b"".join(frame_rgb(frame, seed).tobytes() for frame in range(slices)),
    }


def _region(*, data_type: int) -> h.Elements:
    """The sector as a calibrated region: 1 tissue, 2 colour flow (PS3.3 C.8.5.5.1.2)."""
    return {
        "RegionSpatialFormat": 1,
        "RegionDataType": data_type,
        "RegionFlags": 2,
        "RegionLocationMinX0": 24,
        "RegionLocationMinY0": 34,
        "RegionLocationMaxX1": 296,
        "RegionLocationMaxY1": 233,
        "ReferencePixelX0": 136,
        "ReferencePixelY0": 0,
        "ReferencePixelPhysicalValueX": 0.0,
        "ReferencePixelPhysicalValueY": 0.0,
        "PhysicalUnitsXDirection": 3,
        "PhysicalUnitsYDirection": 3,
        "PhysicalDeltaX": PIXEL_CM,
        "PhysicalDeltaY": PIXEL_CM,
        "TransducerFrequency": 2500,
        "PulseRepetitionFrequency": 4000,
    }
