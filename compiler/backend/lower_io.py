"""Data movement: LOAD, STORE, GATHER and MOVE."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from intformer.compiler.backend.affine import loop_nests
from intformer.compiler.backend.emit import Draft, Lowering
from intformer.compiler.backend.image import aligned
from intformer.compiler.backend.layout import ROWS_MAX, canonical, row_runs, row_words, rows_of
from intformer.compiler.backend.storage import Copy
from intformer.compiler.backend.tiling import piece_rows
from intformer.compiler.integer_graph import Gather
from intformer.errors import DoesNotFit
from intformer.isa import Op
from intformer.program import ExternalTensor

__all__ = ["InputOutput", "lower_copy", "lower_gather"]

Matrix = NDArray[np.int64]
COUNT_MAX = (1 << 22) - 1
MOVE_SPLIT = 1024
"""Copies of more elements are split along the first axis, so that consumers can start early."""
LATENCY = 20


class InputOutput:
    """Addresses and LOAD, STORE instructions of inputs, outputs and constants."""

    def __init__(self, low: Lowering) -> None:
        self.low = low
        self.size = 0
        self.inputs: list[ExternalTensor] = []
        self.outputs: list[ExternalTensor] = []

    def load(self, name: str) -> None:
        """LOAD an input or a constant into its scratchpad, whole words."""
        low = self.low
        matrix = rows_of(low.storage.positions(name))
        width = low.storage.width(name)
        itemsize = np.dtype(low.graph.tensors[name].dtype).itemsize
        words = row_words(matrix.shape[1], width)
        packed = self._packed(matrix, width)
        elements = words * width
        if not packed:
            elements = aligned(elements * itemsize) // itemsize
        external = self._external(name, elements)
        const = low.graph.tensors[name].const
        if const is None:
            self.inputs.append(external)
            self.size += aligned(external.size)
            base = external.address
        else:
            base = low.image.add(f"{name}.const", external.pack(np.asarray(const)))
        if packed:
            piece = self._piece(matrix, elements * itemsize)
            for i in range(0, len(matrix), piece):
                part = matrix[i : i + piece]
                address = base + i * elements * itemsize
                self._load_words(name, part, address, len(part) * words, io=const is None)
            return
        for i, row in enumerate(matrix):
            address = base + i * elements * itemsize
            self._load_words(name, row[None], address, words, io=const is None)

    def _load_words(self, name: str, matrix: Matrix, ext: int, words: int, *, io: bool) -> None:
        low = self.low
        width = low.storage.width(name)
        word = int(matrix[0, 0]) // width
        mem = low.storage.mem(name)
        per_word = width // low.config.lanes
        itemsize = np.dtype(low.graph.tensors[name].dtype).itemsize
        fields = {"mem": int(mem), "addr": word, "count": words * per_word, "ext": ext}
        low.add(
            Draft(
                Op.LOAD,
                fields,
                f"load {name}",
                name,
                writes=[(mem.name.lower(), np.arange(word, word + words))],
                io=io,
                cycles=words * width * itemsize // low.config.bus_bytes + LATENCY,
            )
        )

    def store(self, name: str) -> None:
        """STORE an output."""
        low = self.low
        matrix = rows_of(low.storage.positions(name))
        width, mem = low.storage.width(name), low.storage.mem(name)
        words = row_words(matrix.shape[1], width)
        external = self._external(name, words * width)
        self.outputs.append(external)
        self.size += aligned(external.size)
        row_bytes = external.size // external.rows
        piece = self._piece(matrix, row_bytes)
        for i in range(0, len(matrix), piece):
            count = min(piece, len(matrix) - i)
            word = int(matrix[i, 0]) // width
            fields = {
                "mem": int(mem),
                "addr": word,
                "count": count * words * (width // low.config.lanes),
                "ext": external.address + i * row_bytes,
            }
            low.add(
                Draft(
                    Op.STORE,
                    fields,
                    f"store {name}",
                    reads=[(mem.name.lower(), np.arange(word, word + count * words))],
                    io=True,
                    cycles=count * row_bytes // low.config.bus_bytes + LATENCY,
                )
            )

    def _piece(self, matrix: Matrix, row_bytes: int) -> int:
        """Rows for each LOAD or STORE; all, if they do not begin with a beat."""
        if row_bytes % self.low.config.bus_bytes:
            return len(matrix)
        return piece_rows(len(matrix), matrix.shape[1], self.low.config)

    def declare(self, name: str) -> None:
        """Room for an input that no instruction reads."""
        shape = self.low.graph.tensors[name].shape
        width = self.low.storage.width(name)
        external = self._external(name, row_words(shape[-1], width) * width)
        self.inputs.append(external)
        self.size += aligned(external.size)

    def _external(self, name: str, row_elements: int) -> ExternalTensor:
        t = self.low.graph.tensors[name]
        return ExternalTensor(
            name, self.size, tuple(t.shape), t.dtype, row_elements, t.scale, t.zero_point
        )

    @staticmethod
    def _packed(matrix: Matrix, width: int) -> bool:
        expected, _ = canonical(matrix.shape, width)
        return bool(np.all(matrix - matrix[0, 0] == expected))


def lower_gather(low: Lowering, node: Gather) -> None:
    """One GATHER per run of ids that are neighbours, rows at a constant distance."""
    ids, table = node.inputs
    codes = np.asarray(low.graph.tensors[table].const)
    n = codes.shape[1]
    lanes, width = low.config.lanes, low.storage.width(node.output)
    groups = row_words(n, lanes)
    stride = aligned(groups * lanes * codes.dtype.itemsize)
    if stride >= 1 << 16:
        raise DoesNotFit(f"{node.name}: a row of the table takes {stride} bytes, at most 65535")
    rows = np.zeros((len(codes), stride // codes.dtype.itemsize), codes.dtype.newbyteorder("<"))
    rows[:, :n] = codes
    ext = low.image.add(f"{table}.table", rows.tobytes())
    id_rows = rows_of(low.storage.positions(ids))
    dst = rows_of(low.storage.positions(node.output))
    mem = low.storage.mem(node.output)
    per_row = id_rows.shape[1]
    for i, places in enumerate(id_rows):
        block = dst[i * per_row : (i + 1) * per_row]
        # The ids of an instruction begin at a word.
        piece = piece_rows(per_row, n, low.config)
        for a, b, step in _id_blocks(block, places, width, lanes, piece):
            fields = {
                "mem": int(mem),
                "addr": int(block[a, 0]) // width,
                "stride": step,
                "idx": int(places[a]) // lanes,
                "n": b - a,
                "row_groups": groups,
                "ext_stride": stride,
                "ext": ext,
            }
            low.add(
                Draft(
                    Op.GATHER,
                    fields,
                    node.name,
                    node.output,
                    reads=[low.words(ids, places[a:b])],
                    writes=[low.words(node.output, block[a:b])],
                    cycles=(b - a) * (stride // low.config.bus_bytes + LATENCY),
                )
            )


def _id_blocks(
    block: Matrix, places: Matrix, width: int, lanes: int, piece: int
) -> list[tuple[int, int, int]]:
    """Ranges of about ``piece`` ids and the stride of their rows; each begins at a word of ids."""
    limit = min(ROWS_MAX - ROWS_MAX % lanes, -(-piece // lanes) * lanes)
    runs = list(row_runs([block[:, 0]], [width], limit=limit))
    if all(int(places[run.first]) % lanes == 0 for run in runs):
        return [(run.first, run.end, run.strides[0]) for run in runs]
    raise AssertionError("the rows of an embedding lie at irregular distances")


def lower_copy(low: Lowering, copy: Copy, when: str) -> None:
    """MOVE a view into its own layout."""
    src = low.storage.positions_of(copy.source)
    dst = low.storage.positions(copy.tensor)
    width, mem = low.storage.width(copy.tensor), low.storage.mem(copy.tensor)
    parts = [(src, dst)]
    lead = next((i for i, n in enumerate(src.shape) if n > 1), 0)
    src, dst = src.reshape(src.shape[lead:]), dst.reshape(dst.shape[lead:])
    if src.ndim > 2 and src.size > MOVE_SPLIT:
        outer: list[int] = list(src.shape[:-2])
        first = next((size for size in outer if size > 1), 1)
        shape = (first, -1, *src.shape[-2:])
        parts = list(zip(src.reshape(shape), dst.reshape(shape), strict=True))
    for part_src, part_dst in parts:
        for nest in loop_nests(part_src, part_dst, width=width):
            fields = {"mem": int(mem)}
            fields["src"], fields["src_lane"] = divmod(nest.src, width)
            fields["dst"], fields["dst_lane"] = divmod(nest.dst, width)
            for i in range(3):
                fields[f"n{i}"] = nest.counts[i]
                fields[f"s{i}"], fields[f"s{i}_lane"] = divmod(nest.src_strides[i], width)
                fields[f"d{i}"], fields[f"d{i}_lane"] = divmod(nest.dst_strides[i], width)
            low.add(
                Draft(
                    Op.MOVE,
                    fields,
                    when,
                    copy.tensor,
                    reads=[
                        (mem.name.lower(), _words(nest.src, nest.counts, nest.src_strides, width))
                    ],
                    writes=[
                        (mem.name.lower(), _words(nest.dst, nest.counts, nest.dst_strides, width))
                    ],
                    cycles=int(np.prod(nest.counts)) + LATENCY,
                )
            )


def _words(start: int, counts: tuple[int, ...], strides: tuple[int, ...], width: int) -> Matrix:
    index = np.asarray(start)
    for count, stride in zip(counts, strides, strict=True):
        index = index[..., None] + np.arange(count) * stride
    return np.unique(index // width)
