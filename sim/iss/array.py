"""What FETCH_STREAM, FETCH_ACT and MATMUL do: weight columns, tiles and their products."""

from __future__ import annotations

import numpy as np

from intformer import reference
from intformer.config import CoreConfig
from intformer.isa import Instruction, Op
from intformer.sim.iss.machine import Array, Machine, SimulationError, Write

__all__ = ["activations", "column_beats", "fetch_columns", "products"]


def column_beats(config: CoreConfig, *, int4: bool) -> int:
    """Beats of one column of a weight stream."""
    return -(-config.rows // (config.bus_bytes * (2 if int4 else 1)))


def fetch_columns(machine: Machine, ins: Instruction) -> Array:
    """The columns ``[columns, rows]`` (int8) that a FETCH puts into the column FIFO, in order."""
    if ins.op == Op.FETCH_STREAM:
        return _stream_columns(machine, ins)
    return _act_columns(machine, ins)


def _stream_columns(machine: Machine, ins: Instruction) -> Array:
    config, int4 = machine.config, bool(ins["int4"])
    size = column_beats(config, int4=int4) * config.bus_bytes
    data = machine.read("ext", ins["ext"] + np.arange(ins["columns"] * size))
    data = data.reshape(-1, size)
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


def products(machine: Machine, ins: Instruction, words: Array, columns: Array) -> list[Write]:
    """Accumulator rows of a MATMUL: ``words`` times its tiles' ``columns``, in FIFO order."""
    config = machine.config
    least = int(columns.min(initial=0))
    if least < config.weight_min:
        raise SimulationError(
            f"weight {least}: an array of kind {config.array} takes {config.weight_min}..127"
        )
    tiles = columns.reshape(ins["k_tiles"], config.cols, config.rows)[:, ::-1, :]
    weights = tiles.transpose(1, 0, 2).reshape(config.cols, -1)
    start = ins["acc"] * config.cols
    sums = reference.matmul(words, weights)
    return [Write("acc", start + np.arange(sums.size), sums.ravel())]
