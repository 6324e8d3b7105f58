"""Colours of the standard: device independent CIELab as DICOM encodes it, to what a screen shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RGB = tuple[int, int, int]

# CIELab is relative to the D50 white point (PS3.3 C.10.7.1.1); sRGB is relative to D65. The matrix goes
# from D50 XYZ to linear sRGB and contains the Bradford adaptation between the two (ICC.1:2022, annex E).
_D50 = np.array([0.96422, 1.0, 0.82521])
_TO_LINEAR = np.array(
    [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
)


def rgb_of(values: Sequence[float]) -> RGB | None:
    """The sRGB colour, 0 to 255, of a CIELab value as stored; None unless it is three 16-bit numbers.

    Stored 0 to 65535 mean L* 0 to 100, a* and b* -128 to 127 (PS3.3 C.10.7.1.1). Colours outside sRGB
    are moved to its border.
    """
    if len(values) != 3 or min(values) < 0 or max(values) > 0xFFFF:
        return None
    lightness = values[0] / 0xFFFF * 100
    a, b = (value / 0xFFFF * 255 - 128 for value in values[1:])
    y = (lightness + 16) / 116
    f = np.array([y + a / 500, y, y - b / 200])
    xyz = _D50 * np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))
    linear = np.clip(_TO_LINEAR @ xyz, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    red, green, blue = (int(value) for value in np.rint(srgb * 255))
    return red, green, blue


def hex_of(rgb: RGB) -> str:
    """As CSS writes it: #rrggbb."""
    return "#{:02x}{:02x}{:02x}".format(*rgb)


def lab_of(rgb: RGB) -> tuple[int, int, int]:
    """The CIELab value, as stored, of an sRGB colour: the inverse of `rgb_of`."""
    srgb = np.array(rgb) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    xyz = np.linalg.solve(_TO_LINEAR, linear) / _D50
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    lab = (116 * f[1] - 16) / 100, (500 * (f[0] - f[1]) + 128) / 255, (200 * (f[1] - f[2]) + 128) / 255
    stored = np.rint(np.clip(lab, 0, 1) * 0xFFFF)
    return int(stored[0]), int(stored[1]), int(stored[2])
