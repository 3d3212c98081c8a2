"""POST instructions: the epilogue of matrix products, and element-wise nodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from intformer.compiler.backend.emit import AccRegion, Draft, Lowering, Span
from intformer.compiler.backend.image import parameter_bytes
from intformer.compiler.backend.layout import column_segments, row_runs, row_words, rows_of
from intformer.compiler.backend.tiling import comes_by_columns, piece_columns, piece_rows
from intformer.compiler.integer_graph import Pointwise, PostParams
from intformer.errors import UserError
from intformer.function_layout import pack_function
from intformer.isa import Mem, Op
from intformer.reference import LIMITS, QuadraticTable, check_function

__all__ = ["Epilogue", "lower_pointwise"]

Matrix = NDArray[np.int64]
POST_LATENCY = 25
GROUPS_MAX = 1023


@dataclass
class Params:
    """Where a node's parameters are: for column ``c`` of a segment, group ``first + c / lanes``.

    ``step`` 0: one group serves all channels.
    """

    first: dict[int, int]
    step: int


class Epilogue:
    """The POST side of one node: operand positions as matrices ``[rows, channels]``."""

    def __init__(self, low: Lowering, node: str, post: PostParams, output: str) -> None:
        self.low, self.node, self.post, self.output = low, node, post, output
        shape = low.graph.tensors[output].shape
        self.dst = rows_of(low.storage.positions(output))
        self.res: Matrix | None = None
        if post.residual is not None:
            low_res = low.storage.positions(post.residual)
            self.res = rows_of(np.ascontiguousarray(np.broadcast_to(low_res, shape)))
            self._require_signed(post.residual)
        if post.function is not None:
            self._require_function(post.function)
        self.factor: Matrix | None = None
        if post.factor is not None:
            self._require_factors(post.factor, (*shape[:-1], 1))
            self.factor = rows_of(low.storage.positions(post.factor))

    def _require_function(self, function: QuadraticTable) -> None:
        config, post = self.low.config, self.post
        if not config.functions:
            raise UserError(
                f"{self.node}: a function of int16 codes, but the core {config.name!r} holds no "
                "functions; set functions to 1 or more"
            )
        dtype = self.low.graph.tensors[self.output].dtype
        low, high = LIMITS[dtype]
        if post.table is not None:
            raise UserError(f"{self.node}: a table and a function")
        if function.lo < low or function.hi > high:
            raise UserError(
                f"{self.node}: a function with results {function.lo}..{function.hi} for a tensor "
                f"of {dtype}"
            )
        try:
            check_function(function)
        except ValueError as error:
            raise UserError(f"{self.node}: {error}") from None

    def _require_factors(self, name: str, shape: tuple[int, ...]) -> None:
        config, tensor = self.low.config, self.low.graph.tensors[name]
        if not config.row_scales:
            raise UserError(
                f"{self.node}: rows with factors, but the core {config.name!r} cannot multiply by "
                "them; set row_scales"
            )
        if tensor.dtype != "int16" or tuple(tensor.shape) != shape:
            raise UserError(
                f"{self.node}: factors {name!r} must be int16 {shape}, not {tensor.dtype} "
                f"{tuple(tensor.shape)}"
            )

    def _require_signed(self, tensor: str) -> None:
        if self.low.graph.tensors[tensor].dtype == "uint8":
            raise UserError(f"{self.node}: element-wise operand {tensor!r} must not be uint8")

    @property
    def scalar(self) -> bool:
        """Whether one group of parameters serves all channels."""
        post = self.post
        return all(np.asarray(a).size == 1 for a in (post.bias, post.mult, post.shift))

    def segments(self, src: Matrix | None = None) -> list[tuple[int, int]]:
        """Column ranges in which every operand is contiguous."""
        operands = [m for m in (self.dst, self.res, src) if m is not None]
        segments = column_segments(operands, align=self.low.config.lanes)
        assert segments is not None, f"{self.node}: operands are not aligned to lane groups"
        return segments

    def load_params(self, segments: list[tuple[int, int]]) -> Params:
        """LOAD bias, multiplier and shift of the channels of ``segments``."""
        post, lanes = self.post, self.low.config.lanes
        n = self.dst.shape[1]
        arrays = [np.asarray(a).reshape(-1) for a in (post.bias, post.mult, post.shift)]
        if self.scalar:
            arrays = [np.broadcast_to(a, lanes) for a in arrays]
            data = parameter_bytes(*arrays, segments=[(0, lanes)], lanes=lanes)
            first = self.low.load_params(data, self.node)
            return Params({a: first for a, _ in segments}, 0)
        arrays = [np.broadcast_to(a, n) for a in arrays]
        data = parameter_bytes(*arrays, segments=segments, lanes=lanes)
        group = self.low.load_params(data, self.node)
        firsts = {}
        for a, b in segments:
            firsts[a] = group
            group += row_words(b - a, lanes)
        return Params(firsts, 1)

    def emit(
        self,
        rows: slice,
        columns: tuple[int, int],
        param: int,
        step: int,
        *,
        acc: AccRegion | None = None,
        place: int = 0,
        src: tuple[str, Matrix] | None = None,
    ) -> None:
        """POST for a block of rows and columns, from sums or from a stored tensor.

        ``place``: where the sums of the rows begin in ``acc``.
        """
        low, (a, b) = self.low, columns
        lanes = low.config.lanes
        named: dict[str, tuple[str, Matrix]] = {"dst": (self.output, self.dst[rows, a:b])}
        if self.res is not None:
            assert self.post.residual is not None
            named["res"] = (self.post.residual, self.res[rows, a:b])
        if src is not None:
            named["src"] = (src[0], src[1][rows, a:b])
        elif self.factor is not None:
            assert self.post.factor is not None
            named["src"] = (self.post.factor, self.factor[rows])
        starts = [matrix[:, 0] for _, matrix in named.values()]
        units = [low.storage.width(tensor) for tensor, _ in named.values()]
        groups = row_words(b - a, lanes)
        params = ("param", np.arange(param, param + (groups if step else 1)))
        for run in row_runs(starts, units):
            fields, reads = self._common(groups, b - a, param, step)
            fields["rows"] = run.count
            reads.append(params)
            for (role, (tensor, matrix)), stride in zip(named.items(), run.strides, strict=True):
                fields |= self._place(role, tensor, int(matrix[run.first, 0]), stride)
                if role != "dst":
                    reads.append(low.words(tensor, matrix[run.first : run.end]))
            if acc is not None:
                fields["src" if self.factor is None else "acc"] = place + run.first
            draft = Draft(
                Op.POST_MEM if acc is None else Op.POST_ACC,
                fields,
                self.node,
                self.output,
                reads=reads,
                writes=[low.words(self.output, self.dst[rows, a:b][run.first : run.end])],
                acc=acc,
                cycles=run.count * groups + POST_LATENCY,
            )
            low.add(draft)

    def _common(
        self, groups: int, columns: int, param: int, step: int
    ) -> tuple[dict[str, int], list[Span]]:
        post, reads = self.post, []
        fields = {
            "groups": groups,
            "tail": columns - (groups - 1) * self.low.config.lanes,
            "param": param,
            "param_step": step,
            "lo": int(post.lo),
            "hi": int(post.hi),
            "zero_point": int(post.zero_point),
        }
        if post.residual is not None:
            fields |= {
                "res_en": 1,
                "res_mult": int(post.res_mult),
                "res_shift": int(post.res_shift),
            }
        if post.table is not None:
            data = np.asarray(post.table).astype(np.int16).astype(np.uint8).tobytes()
            slot = self.low.load_table(Mem.TABLE, data, self.node)
            fields |= {"table_en": 1, "table": slot}
            reads.append(("table", np.array([slot])))
        if post.function is not None:
            slot = self.low.load_table(Mem.FUNCTION, pack_function(post.function), self.node)
            fields |= {"function_en": 1, "table": slot}
            reads.append(("function", np.array([slot])))
        return fields, reads

    def _place(self, role: str, tensor: str, position: int, stride: int) -> dict[str, int]:
        width = self.low.storage.width(tensor)
        word, lane = divmod(position, width)
        return {
            f"{role}_mem": int(self.low.storage.mem(tensor)),
            role: word,
            f"{role}_sub": lane // self.low.config.lanes,
            f"{role}_stride": stride,
        }


def lower_pointwise(low: Lowering, node: Pointwise) -> None:
    """POST_MEM over row runs and column segments, in pieces that come as their source does."""
    epilogue = Epilogue(low, node.name, node.post, node.output)
    (source,) = node.inputs
    if node.post.factor is not None:
        raise UserError(f"{node.name}: only the rows of a product can have factors")
    epilogue._require_signed(source)
    shape = low.graph.tensors[node.output].shape
    src = rows_of(np.ascontiguousarray(np.broadcast_to(low.storage.positions(source), shape)))
    lanes = low.config.lanes
    piece = piece_rows(len(src), src.shape[1], low.config)
    limit = min(GROUPS_MAX, low.config.param_groups) * lanes
    if comes_by_columns(low.graph, node):
        width = piece_columns(len(src), src.shape[1], low.config)
        piece = len(src)
        segments = [
            (a, min(a + width, end))
            for first, end in epilogue.segments(src)
            for a in range(first, end, width)
        ]
    else:
        segments = epilogue.segments(src)
    for block in _blocks(segments, limit):
        params = epilogue.load_params(block)
        for start in range(0, len(src), piece):
            for segment in block:
                epilogue.emit(
                    slice(start, start + piece),
                    segment,
                    params.first[segment[0]],
                    params.step,
                    src=(source, src),
                )


def _blocks(segments: list[tuple[int, int]], limit: int) -> list[list[tuple[int, int]]]:
    """Segments in blocks whose parameters fit, each segment at most ``limit`` channels."""
    blocks: list[list[tuple[int, int]]] = []
    room = 0
    for first, end in segments:
        for a in range(first, end, limit):
            b = min(a + limit, end)
            if b - a > room:
                blocks.append([])
                room = limit
            blocks[-1].append((a, b))
            room -= b - a
    return blocks
