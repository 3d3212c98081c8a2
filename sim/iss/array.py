"""What FETCH_STREAM, FETCH_ACT and MATMUL do: weight columns, tiles and their products."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from intformer import reference
from intformer.config import CoreConfig
from intformer.isa import Instruction, Op
from intformer.reference.integers import check_width
from intformer.sim.iss.machine import Array, Machine, SimulationError, Write

__all__ = [
    "Columns",
    "activations",
    "column_beats",
    "fetch_columns",
    "products",
    "scale_beats",
    "stream_beats",
]


class Columns(NamedTuple):
    """Weights ``[columns, rows]`` (int8) in the order of the column FIFO, each with the ``scales``
    ``[columns]`` (uint8) of its sums; ``marks``: for each tile, whether scales come before it.
    """

    weights: Array
    scales: Array
    marks: Array

    @classmethod
    def plain(cls, weights: Array, *, cols: int) -> Columns:
        """Without scales: all are 1."""
        count = len(weights)
        return cls(weights, np.ones(count, np.uint8), np.zeros(count // cols, bool))


def column_beats(config: CoreConfig, *, int4: bool) -> int:
    """Beats of one column of a weight stream."""
    return -(-config.rows // (config.bus_bytes * (2 if int4 else 1)))


def scale_beats(config: CoreConfig) -> int:
    """Beats of the scales of a group: a byte for each column of the array."""
    return -(-config.cols // config.bus_bytes)


def stream_beats(config: CoreConfig, ins: Instruction) -> int:
    """Beats of a FETCH_STREAM."""
    weights = ins["columns"] * column_beats(config, int4=bool(ins["int4"]))
    return weights + ins["scales"] * scale_beats(config)


def fetch_columns(machine: Machine, ins: Instruction) -> Columns:
    """The columns that a FETCH puts into the column FIFO, in order."""
    cols = machine.config.cols
    if ins.op != Op.FETCH_STREAM:
        return Columns.plain(_act_columns(machine, ins), cols=cols)
    data = machine.read(
        "ext",
        ins["ext"] + np.arange(stream_beats(machine.config, ins) * machine.config.bus_bytes),
    )
    if not ins["scales"]:
        return Columns.plain(_stream_columns(machine, ins, data), cols=cols)
    return _grouped_columns(machine, ins, data)


def _grouped_columns(machine: Machine, ins: Instruction, data: Array) -> Columns:
    """Take scales and weights apart."""
    config, groups, tiles = machine.config, ins["scales"], ins["group_tiles"]
    if not config.group_scales:
        raise SimulationError("scales in a stream, but the core has no group_scales")
    if ins["columns"] != groups * tiles * config.cols:
        raise SimulationError(f"{groups} groups of {tiles} tiles are not {ins['columns']} columns")
    data = data.reshape(groups, -1)
    first = scale_beats(config) * config.bus_bytes
    weights = _stream_columns(machine, ins, np.ascontiguousarray(data[:, first:]))
    # As the columns: the last one of the array first.
    scales = np.repeat(data[:, None, : config.cols][:, :, ::-1], tiles, axis=1).ravel()
    return Columns(weights, scales, np.arange(groups * tiles) % tiles == 0)


def _stream_columns(machine: Machine, ins: Instruction, data: Array) -> Array:
    config, int4 = machine.config, bool(ins["int4"])
    data = data.reshape(-1, column_beats(config, int4=int4) * config.bus_bytes)
    if int4:
        nibbles = np.stack((data & 15, data >> 4), axis=-1).reshape(len(data), -1)
        data = ((nibbles ^ 8) - np.uint8(8)).astype(np.uint8)
    return data[:, : config.rows].view(np.int8)


def _act_columns(machine: Machine, ins: Instruction) -> Array:
    rows, cols = machine.config.rows, machine.config.cols
    nt, kt, c = np.meshgrid(
        np.arange(ins["n_tiles"]),
        np.arange(ins["k_tiles"]),
        np.arange(cols)[::-1],
        indexing="ij",
    )
    channel, tile = (nt * cols + c).ravel(), kt.ravel()
    real = channel < ins["n"]
    word = ins["base"] + channel[real] * ins["stride"] + tile[real]
    columns = np.zeros((channel.size, rows), np.int8)
    columns[real] = machine.read("act", word[:, None] * rows + np.arange(rows)).view(np.int8)
    last = tile == ins["k_tiles"] - 1
    columns[last, ins["k_last"] :] = 0
    return columns


def activations(machine: Machine, ins: Instruction) -> Array:
    """The words ``[rows, k_tiles * array rows]`` that a MATMUL feeds to the array."""
    height = machine.config.rows
    word = ins["base"] + np.arange(ins["rows"])[:, None] * ins["stride"]
    index = word * height + np.arange(ins["k_tiles"] * height)
    codes = machine.read("act", index)
    return codes if ins["unsigned"] else codes.view(np.int8)


def products(machine: Machine, ins: Instruction, words: Array, columns: Columns) -> list[Write]:
    """Accumulator rows of a MATMUL: ``words`` times its tiles' ``columns``, in FIFO order."""
    config = machine.config
    least = int(columns.weights.min(initial=0))
    if least < config.weight_min:
        raise SimulationError(
            f"weight {least}: an array of kind {config.array} takes {config.weight_min}..127"
        )
    tiles = columns.weights.reshape(ins["k_tiles"], config.cols, config.rows)[:, ::-1, :]
    weights = tiles.transpose(1, 0, 2).reshape(config.cols, -1)
    start = ins["acc"] * config.cols
    scales = columns.scales.reshape(ins["k_tiles"], config.cols)[:, ::-1]
    if (scales == 1).all():
        sums = reference.matmul(words, weights)
    else:
        sums = reference.grouped_matmul(words, weights, scales.T)
        check_width(sums, reference.ACC_BITS, "accumulator")
    return [Write("acc", start + np.arange(sums.size), sums.ravel())]
