"""Matrix products: FETCH, MATMUL and POST_ACC over row chunks and tiles of outputs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from intformer.compiler.backend.emit import AccRegion, Draft, Lowering
from intformer.compiler.backend.image import weight_bytes
from intformer.compiler.backend.layout import RowRun, row_runs, row_words, rows_of
from intformer.compiler.backend.lower_post import Epilogue, Params
from intformer.compiler.backend.sweeps import sweeps
from intformer.compiler.backend.tiling import RowBlocks, piece_tiles
from intformer.compiler.backend.uses import is_static
from intformer.compiler.integer_graph import MatMul, check_groups
from intformer.errors import DoesNotFit, UserError
from intformer.isa import Op

__all__ = ["lower_matmul"]

Matrix = NDArray[np.int64]
Tile = tuple[int, int]
GROUP_TILES_MAX = 255
"""Most words of the contraction that one scale serves."""


def lower_matmul(low: Lowering, node: MatMul) -> None:
    """Both kinds: static weights stream from external memory, others come from ``act``."""
    _MatMulLowering(low, node).run()


class _MatMulLowering:
    def __init__(self, low: Lowering, node: MatMul) -> None:
        self.low, self.node = low, node
        a, b = node.inputs
        self.a, self.b = a, b
        self.k = low.graph.tensors[a].shape[-1]
        self.k_tiles = row_words(self.k, low.config.rows)
        self.unsigned = int(low.graph.tensors[a].dtype == "uint8")
        if low.graph.tensors[b].dtype != "int8":
            raise UserError(f"{node.name}: operand {b!r} must be int8")
        if self.k_tiles > 4095:
            raise DoesNotFit(f"{node.name}: contraction of {self.k}; raise rows")
        self.group_tiles = self._group_tiles()
        self.epilogue = Epilogue(low, node.name, node.post, node.output)
        self.segments = self.epilogue.segments()
        self.source = rows_of(low.storage.positions(a))
        self.chunk = max(1, low.config.acc_depth // 2)

    def _group_tiles(self) -> int:
        """Words of the contraction that share a scale; 0 without groups."""
        low, node, rows = self.low, self.node, self.low.config.rows
        if node.group == 0 and node.group_scales is None:
            return 0
        if not is_static(low.graph, node):
            raise UserError(f"{node.name}: only constant weights can have groups")
        try:
            check_groups(node, low.graph.tensors[self.b].shape)
        except ValueError as error:
            raise UserError(str(error)) from None
        if not low.config.group_scales:
            raise UserError(
                f"{node.name}: weights in groups of {node.group}, but the core "
                f"{low.config.name!r} has no scales for groups; set group_scales"
            )
        if node.group % rows or node.group // rows > GROUP_TILES_MAX:
            raise UserError(
                f"{node.name}: groups must be a multiple of the array's rows ({rows}), at most "
                f"{GROUP_TILES_MAX} times, not {node.group}"
            )
        return node.group // rows

    def run(self) -> None:
        """Parameters once if they fit; else by blocks of tiles, weights by block too."""
        low = self.low
        cols = low.config.cols
        tiles = [
            (a, min(a + cols, end)) for first, end in self.segments for a in range(first, end, cols)
        ]
        blocks = [tiles] if self.epilogue.scalar else self._blocks(tiles)
        for tiles in blocks:
            params = self.epilogue.load_params(tiles)
            if is_static(low.graph, self.node):
                self._static(tiles, params)
            else:
                self._dynamic(tiles, params)

    def _blocks(self, tiles: list[Tile]) -> list[list[Tile]]:
        """All tiles, or parts whose parameters take at most half of the memory."""
        groups = [row_words(end - first, self.low.config.lanes) for first, end in tiles]
        have = self.low.config.param_groups
        if sum(groups) <= have:
            return [tiles]
        blocks: list[list[Tile]] = []
        room = 0
        for tile, need in zip(tiles, groups, strict=True):
            if need > room:
                blocks.append([])
                room = max(need, have // 2)
            blocks[-1].append(tile)
            room -= need
        return blocks

    def _static(self, tiles: list[Tile], params: Params) -> None:
        low, node = self.low, self.node
        const = np.asarray(low.graph.tensors[self.b].const)
        int4 = node.weight_bits == 4
        scales = None if node.group_scales is None else np.asarray(node.group_scales)
        data = weight_bytes(const, tiles, low.config, int4=int4, scales=scales)
        ext = low.image.add(f"{self.b}.weights", data)
        columns = len(tiles) * self.k_tiles * low.config.cols
        per_beat = low.config.bus_bytes * (2 if int4 else 1)
        beats = columns * row_words(low.config.rows, per_beat)
        groups = len(tiles) * self.k_tiles // self.group_tiles if self.group_tiles else 0
        beats += groups * row_words(low.config.cols, low.config.bus_bytes)
        count = len(tiles)
        for run, first, end in self._pieces(tiles, stream=beats / (count * self.k_tiles)):
            share = end - first
            fields = {
                "ext": ext + first * len(data) // count,
                "columns": columns * share // count,
                "int4": int(int4),
            }
            if groups:
                fields |= {"group_tiles": self.group_tiles, "scales": groups * share // count}
            self._fetch(Draft(Op.FETCH_STREAM, fields, node.name, cycles=beats * share // count))
            self._tiles(run, tiles[first:end], params, column_cycles=beats / columns)

    def _pieces(self, tiles: list[Tile], *, stream: float) -> Iterator[tuple[RowRun, int, int]]:
        """What each FETCH_STREAM and its products are for: rows, and a range of ``tiles``.

        Short ones, so that what reads their results can start early and other products can come
        between; see :mod:`intformer.compiler.backend.tiling` for the blocks of rows.
        """
        config, count, rows = self.low.config, len(tiles), len(self.source)
        around = self.low.row_blocks.get(self.node.name, RowBlocks())
        blocked = 0  # tiles that are computed by blocks of rows
        if around.all_tiles(rows, stream, count * self.k_tiles, config):
            blocked = count
        elif tiles[0][0] == 0:
            blocked = min(count, around.first_tiles(rows, stream, self.k_tiles, config))
        for first, end, parts in ((0, blocked, 2), (blocked, count, 1)):
            if first == end:
                continue
            for run in self._runs(self.source, parts=parts):
                step = piece_tiles(run.count * self.k_tiles)
                for a in range(first, end, step):
                    yield run, a, min(a + step, end)

    def _dynamic(self, tiles: list[Tile], params: Params) -> None:
        low = self.low
        m = self.low.graph.tensors[self.a].shape[-2]
        stationary = low.storage.positions(self.b)
        lead = self.low.graph.tensors[self.a].shape[:-2]
        stationary = np.broadcast_to(stationary, (*lead, *stationary.shape[-2:]))
        stationary = np.ascontiguousarray(stationary).reshape(-1, *stationary.shape[-2:])
        for batch, matrix in enumerate(stationary):
            for run in self._row_runs(self.source[batch * m : (batch + 1) * m]):
                shifted = RowRun(run.first + batch * m, run.end + batch * m, run.strides)
                for part, words in self._stationary_runs(matrix, tiles, run.count):
                    self._fetch_act(matrix, part, words)
                    self._tiles(shifted, part, params)

    def _runs(self, matrix: Matrix, *, parts: int) -> list[RowRun]:
        """Row runs, several in one sweep where that takes less time than another FETCH.

        A run that is to have more than one of the ``parts`` stays cut.
        """
        low = self.low
        runs = self._row_runs(matrix, parts=parts)
        if parts > 1:
            return runs
        per_beat = low.config.bus_bytes * (2 if self.node.weight_bits == 4 else 1)
        column = row_words(low.config.rows, per_beat)
        return sweeps(
            runs,
            matrix[:, 0] // low.config.rows,
            limit=self.chunk,
            least=column * low.config.cols + 2,
        )

    def _row_runs(self, matrix: Matrix, *, parts: int = 1) -> list[RowRun]:
        """Row runs of the moving operand, cut into even chunks that fit the accumulators.

        Each run has at least ``parts`` chunks.
        """
        runs = []
        for run in row_runs([matrix[:, 0]], [self.low.config.rows]):
            parts = min(max(parts, row_words(run.count, self.chunk)), run.count)
            edges = np.linspace(run.first, run.end, parts + 1).astype(int).tolist()
            runs += [RowRun(a, b, run.strides) for a, b in pairwise(edges)]
        return runs

    def _stationary_runs(
        self, matrix: Matrix, tiles: list[Tile], rows: int
    ) -> list[tuple[list[Tile], int]]:
        """Tiles that one FETCH_ACT serves, with the stride of the rows between them.

        No more than fill the accumulators: then other products can come between.
        """
        most = max(1, self.low.config.acc_depth // rows)
        cols = self.low.config.cols
        height = self.low.config.rows
        found: list[tuple[list[Tile], int]] = []
        for a, b in tiles:
            (inner,) = row_runs([matrix[a:b, 0]], [height])
            stride = inner.strides[0]
            if found:
                last, _ = found[-1]
                start = last[0][0]
                full = all(q - p == cols for p, q in last) and len(last) < most
                whole = list(row_runs([matrix[start:b, 0]], [height]))
                if full and last[-1][1] == a and len(whole) == 1:
                    found[-1] = ([*last, (a, b)], whole[0].strides[0])
                    continue
            found.append(([(a, b)], stride))
        return found

    def _fetch_act(self, matrix: Matrix, tiles: list[Tile], stride: int) -> None:
        first, end = tiles[0][0], tiles[-1][1]
        config = self.low.config
        fields = {
            "base": int(matrix[first, 0]) // config.rows,
            "stride": stride,
            "n": end - first,
            "n_tiles": len(tiles),
            "k_tiles": self.k_tiles,
            "k_last": self.k - (self.k_tiles - 1) * config.rows,
        }
        reads = [self.low.words(self.b, matrix[first:end])]
        cycles = len(tiles) * self.k_tiles * config.cols
        self._fetch(Draft(Op.FETCH_ACT, fields, self.node.name, reads=reads, cycles=cycles))

    def _fetch(self, draft: Draft) -> None:
        draft.job = self.low.jobs
        self.low.jobs += 1
        self.low.add(draft)

    def _tiles(
        self, run: RowRun, tiles: list[Tile], params: Params, *, column_cycles: float = 1
    ) -> None:
        low = self.low
        words = self.source[run.first : run.end]
        per_tile = max(run.count, round(column_cycles * low.config.cols) + 2)
        reads = [low.words(self.a, words)]
        for tile in tiles:
            region = AccRegion(run.count)
            fields = {
                "base": int(words[0, 0]) // low.config.rows,
                "stride": run.strides[0],
                "rows": run.count,
                "k_tiles": self.k_tiles,
                "unsigned": self.unsigned,
            }
            low.add(
                Draft(
                    Op.MATMUL,
                    fields,
                    self.node.name,
                    reads=reads,
                    acc=region,
                    job=low.jobs - 1,
                    cycles=self.k_tiles * per_tile,
                )
            )
            param = params.first[tile[0]]
            for rows, place in run.pieces:
                self.epilogue.emit(rows, tile, param, params.step, acc=region, place=place)
