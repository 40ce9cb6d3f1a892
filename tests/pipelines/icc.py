"""Small ICC profiles with known mathematics, made here: wide RGB, grey of a gamma, CMYK whose lightness is given."""

from __future__ import annotations

import struct

import numpy as np

GAMMA = 2.2
# Columns are the primaries of Display P3, and of sRGB, adapted to D50.
P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
SRGB = np.array(
    [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]]
)


def wide_rgb() -> bytes:
    """The primaries of Display P3 and a pure gamma."""
    primaries = {name: _xyz(*column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), P3.T, strict=True)}
    return _profile(b"RGB ", b"mntr", b"XYZ ", {**primaries, **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _gamma())})


def grey() -> bytes:
    return _profile(b"GRAY", b"mntr", b"XYZ ", {b"kTRC": _gamma()})


def cmyk() -> bytes:
    """Lightness L* is 100·(1−k)·(1−(c+m+y)/3), interpolated between the corners; all colours are neutral."""
    corners = [(1 - k) * (1 - (c + m + y) / 3) for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)]
    nodes = b"".join(bytes((round(255 * light), 128, 128)) for light in corners)
    line = bytes(range(256))
    identity = struct.pack(">9i", *[65536 * (row == column) for row in range(3) for column in range(3)])
    table = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + identity + 4 * line + nodes + 3 * line
    return _profile(b"CMYK", b"prtr", b"Lab ", {b"A2B0": table})


def without_curves(space: bytes, kind: bytes = b"mntr") -> bytes:
    """A header that can be read and nothing to convert by."""
    return _profile(space, kind, b"XYZ ", {})


def wide_to_srgb(pixels: np.ndarray) -> np.ndarray:
    """uint8 (…,3) of `wide_rgb` as sRGB in float64 of [0, 255], out-of-range colours clipped."""
    linear = (pixels / 255.0) ** GAMMA @ (np.linalg.inv(SRGB) @ P3).T
    return 255 * encoded(np.clip(linear, 0, 1))


def encoded(linear: np.ndarray) -> np.ndarray:
    """The curve of sRGB (IEC 61966-2-1)."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-12) ** (1 / 2.4) - 0.055)


def _xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(65536 * value) for value in values))


def _gamma() -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(256 * GAMMA))


def _profile(space: bytes, kind: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + b"\0" * 80,
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": _xyz(0.9642, 1.0, 0.8249),
        **tags,
    }
    body, table, offset = b"", b"", 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        padded = value + b"\0" * (-len(value) % 4)
        table += name + struct.pack(">II", offset + len(body), len(value))
        body += padded
    head = struct.pack(">I4xI", offset + len(body), 0x02400000) + kind + space + connection + b"\0" * 12
    head += b"acsp" + b"\0" * 28 + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body
