"""External memory: weights in the order of use, parameters, tables, constants."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer.config import CoreConfig
from intformer.program import Region

__all__ = ["ALIGNMENT", "Image", "aligned", "parameter_bytes", "weight_bytes"]

ALIGNMENT = 16
"""Every region starts at a multiple of this many bytes, the widest bus."""


def aligned(size: int) -> int:
    """``size`` rounded up to :data:`ALIGNMENT`."""
    return -(-size // ALIGNMENT) * ALIGNMENT


class Image:
    """Grows region by region; equal contents are stored once."""

    def __init__(self) -> None:
        self.regions: list[Region] = []
        self._parts: list[bytes] = []
        self._known: dict[bytes, int] = {}
        self.size = 0

    def add(self, name: str, data: bytes) -> int:
        """Byte address of ``data``."""
        if data in self._known:
            return self._known[data]
        address = self.size
        self.regions.append(Region(name, address, len(data)))
        self._parts.append(data + bytes(aligned(len(data)) - len(data)))
        self.size += aligned(len(data))
        self._known[data] = address
        return address

    def to_array(self) -> NDArray[np.uint8]:
        """The bytes of all regions."""
        return np.frombuffer(b"".join(self._parts), np.uint8).copy()


def weight_bytes(
    codes: NDArray[Any],
    tiles: list[tuple[int, int]],
    config: CoreConfig,
    *,
    int4: bool,
    scales: NDArray[Any] | None = None,
) -> bytes:
    """Weights ``[N, K]`` as FETCH_STREAM reads them.

    By tile (output channels ``first <= n < end``), by contraction word, the tile's last column
    first; each column is ``rows`` weights, padded to whole beats. With ``scales`` ``[N, groups]``
    (groups of whole words) the scales of the tile's columns come before each group of words, one
    byte each, the first column's first, padded to whole beats.
    """
    height, cols = config.rows, config.cols
    k_tiles = -(-codes.shape[1] // height)
    padded = np.zeros((len(tiles), cols, k_tiles * height), np.int8)
    for tile, (first, end) in zip(padded, tiles, strict=True):
        tile[: end - first, : codes.shape[1]] = codes[first:end]
    columns = padded.reshape(len(tiles), cols, k_tiles, height)[:, ::-1].transpose(0, 2, 1, 3)
    columns = np.ascontiguousarray(columns).reshape(-1, height).view(np.uint8)
    if int4:
        even = np.zeros((len(columns), height + height % 2), np.uint8)
        even[:, :height] = columns & 15
        columns = even[:, 0::2] | (even[:, 1::2] << 4)
    size = _whole_beats(columns.shape[1], config)
    beats = np.zeros((len(columns), size), np.uint8)
    beats[:, : columns.shape[1]] = columns
    if scales is None:
        return beats.tobytes()
    groups = scales.shape[1]
    blocks = np.zeros((len(tiles), groups, _whole_beats(cols, config)), np.uint8)
    for block, (first, end) in zip(blocks, tiles, strict=True):
        block[:, : end - first] = scales[first:end].T
    weights = beats.reshape(len(tiles), groups, -1)
    return np.concatenate([blocks, weights], axis=2).tobytes()


def _whole_beats(size: int, config: CoreConfig) -> int:
    return -(-size // config.bus_bytes) * config.bus_bytes


def parameter_bytes(
    bias: NDArray[Any],
    mult: NDArray[Any],
    shift: NDArray[Any],
    *,
    segments: list[tuple[int, int]],
    lanes: int,
) -> bytes:
    """Parameter groups of channels, each of ``segments`` from a group boundary on.

    Channels past a segment's end get shift 2 and zeros.
    """
    entry = np.dtype([("bias", "<i4"), ("mult", "<i2"), ("shift", "u1"), ("zero", "u1")])
    parts = []
    for first, end in segments:
        groups = np.zeros(-(-(end - first) // lanes) * lanes, entry)
        groups["shift"] = 2
        n = end - first
        groups["bias"][:n] = bias[first:end]
        groups["mult"][:n] = mult[first:end]
        groups["shift"][:n] = shift[first:end]
        parts.append(groups.tobytes())
    return b"".join(parts)
