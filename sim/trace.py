"""Reads the record of scratchpad writes that ``core_tb.sv`` leaves behind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from intformer.config import CoreConfig
from intformer.isa import Unit
from intformer.program import Step, WriteLog

__all__ = ["read_trace"]

# Hexadecimal digits of a record before its data, in order; then the data.
_FIELDS = {
    "sample": 4,
    "cycle": 8,
    "unit": 1,
    "count": 6,
    "mem": 1,
    "word": 5,
    "sub": 1,
    "mask": 4,
}
_DIGIT = np.zeros(256, dtype=np.uint8)
for _i, _c in enumerate(b"0123456789abcdef"):
    _DIGIT[_c] = _i

_CHUNK = 1 << 18  # records parsed at once


def read_trace(
    path: Path, *, config: CoreConfig, steps: Sequence[Step], samples: int
) -> list[WriteLog]:
    """Return one log per sample of the trace in ``path``.

    The bench numbers the instructions of each unit from 0; ``steps`` of the program that ran gives
    their place in the whole program.

    Raises
    ------
    ValueError
        If a write belongs to an instruction that the program does not have, or holds an undefined
        value; the message names the record.
    """
    of_unit = {
        unit: np.array(
            [i for i, step in enumerate(steps) if step.instruction.op.unit == unit], dtype=np.int64
        )
        for unit in Unit
    }
    width = sum(_FIELDS.values()) + 4 * config.lanes + 1  # and a newline
    lines = np.fromfile(path, dtype=np.uint8)
    if len(lines) % width:
        raise ValueError(f"{path}: {len(lines)} bytes are not whole records of {width}")
    lines = lines.reshape(-1, width)[:, :-1]
    parts: list[list[tuple[NDArray[np.int64], ...]]] = [[] for _ in range(samples)]
    for first in range(0, len(lines), _CHUNK):
        chunk = lines[first : first + _CHUNK]
        sample, columns = _parse(chunk, config=config, of_unit=of_unit)
        for i in np.unique(sample):
            parts[i].append(tuple(column[sample == i] for column in columns))
    empty = tuple(np.zeros(0, dtype=np.int64) for _ in range(5))
    return [
        WriteLog(*(np.concatenate(columns) for columns in zip(empty, *chunks, strict=True)))
        for chunks in parts
    ]


def _parse(
    lines: NDArray[np.uint8], *, config: CoreConfig, of_unit: dict[Unit, NDArray[np.int64]]
) -> tuple[NDArray[np.int64], tuple[NDArray[np.int64], ...]]:
    """Sample of every written element, and the columns of :class:`WriteLog`."""
    undefined = np.flatnonzero(((lines == ord("x")) | (lines == ord("X"))).any(axis=1))
    if len(undefined):
        record = bytes(lines[undefined[0]]).decode()
        raise ValueError(f"the core wrote an undefined value; trace record {record}")
    digits = _DIGIT[lines]
    fields = {}
    at = 0
    for name, count in _FIELDS.items():
        fields[name] = _number(digits[:, at : at + count])
        at += count
    lanes = np.arange(config.lanes)
    wide = fields["mem"] == 1
    # The last lane comes first in the text; codes of `act` have two digits each, at the end.
    values = _number(digits[:, at:].reshape(len(digits), -1, 4))[:, ::-1]
    narrow = digits[~wide, at + 2 * config.lanes :]
    values[~wide] = _number(narrow.reshape(len(narrow), config.lanes, 2))[:, ::-1]
    width = np.where(wide, config.lanes, config.rows)
    base = fields["word"] * width + fields["sub"] * config.lanes
    written = (fields["mask"][:, None] >> lanes) & 1 == 1
    entry, lane = np.nonzero(written)
    step = _global_steps(fields["unit"], fields["count"], of_unit=of_unit)
    return fields["sample"][entry], (
        step[entry],
        fields["mem"][entry],
        base[entry] + lane,
        values[entry, lane],
        fields["cycle"][entry],
    )


def _number(digits: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Value of the hexadecimal digits along the last axis."""
    total = np.zeros(digits.shape[:-1], dtype=np.int64)
    for i in range(digits.shape[-1]):
        total = (total << 4) | digits[..., i]
    return total


def _global_steps(
    unit: NDArray[np.int64],
    count: NDArray[np.int64],
    *,
    of_unit: dict[Unit, NDArray[np.int64]],
) -> NDArray[np.int64]:
    """Index into the program of instruction number ``count`` of ``unit``."""
    step = np.zeros(len(unit), dtype=np.int64)
    for number in np.unique(unit):
        here = unit == number
        of_this = of_unit.get(number, np.zeros(0, dtype=np.int64))
        if count[here].max() >= len(of_this):
            name = Unit(number).name if number in of_unit else f"unit {number}"
            raise ValueError(
                f"{name} wrote in its instruction {count[here].max()}, "
                f"the program has {len(of_this)} for it"
            )
        step[here] = of_this[count[here]]
    return step
