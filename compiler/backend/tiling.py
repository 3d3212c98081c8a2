"""How static products and row-wise nodes are cut, so that what follows can start early.

A LayerNorm needs whole rows, so it cannot begin before the last tile of outputs, and what reads it
cannot before it ends. Rows in blocks overcome that: while the product in front of a norm works on
its second block, the first is normalized; the product behind begins with the first block. Weights
stream again for each block, so blocks are made only where the memory is fast enough. A core that
does one thing after the other (``structure="serial"``) gains nothing: there nothing is cut. All
this holds for a RowScale, too: here it counts as a norm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from intformer.compiler.backend.layout import row_words
from intformer.compiler.backend.uses import is_static
from intformer.compiler.integer_graph import (
    IntGraph,
    LayerNorm,
    MatMul,
    Node,
    Pointwise,
    RowScale,
    View,
)
from intformer.config import CoreConfig

__all__ = [
    "RowBlocks",
    "comes_by_columns",
    "piece_columns",
    "piece_rows",
    "piece_tiles",
    "row_blocks",
]

PIECES = 4
"""Most parts that a row-wise node is cut into."""
PIECE_CYCLES = 1024
"""A part of a row-wise node should last this long: starting an instruction costs some 50 cycles."""
LATENCY = 1500
"""From the last product in front of a norm to the first one behind it, beside the norm itself."""
PRODUCT_CYCLES = 4096
"""A FETCH should feed the array at least this long."""


@dataclass(frozen=True)
class RowBlocks:
    """Norms around a product: elements per row of the one that reads it, and that feeds it.

    0: there is none (or, behind, another product reads the norm first). ``copies``: row-wise nodes
    between the norm in front and the product.
    """

    before_norm: int = 0
    after_norm: int = 0
    copies: int = 0

    def all_tiles(self, rows: int, stream: float, steps: int, config: CoreConfig) -> bool:
        """Whether two blocks of rows for all tiles cost less than the norm behind takes.

        ``stream``: cycles in which the weights of one step (``rows`` x ``cols``) arrive; ``steps``:
        of the whole product.
        """
        if not self.before_norm or rows < 2 * config.cols or not _overlaps(config):
            return False
        cost = 2 * steps * max(0.0, stream - rows / 2)
        return cost < rows * row_words(self.before_norm, config.lanes) / 2

    def first_tiles(self, rows: int, stream: float, k_tiles: int, config: CoreConfig) -> int:
        """How many tiles to compute by two blocks of rows, to fill the time of the norm in front.

        0 if the memory is too slow for that.
        """
        if not self.after_norm or rows < 2 * config.cols or not _overlaps(config):
            return 0
        norm = rows / 2 * row_words(self.after_norm, config.lanes)
        step = max(stream, rows / 2)
        wait = norm * (1 + self.copies / (PIECES / 2)) + LATENCY
        tiles = int(np.ceil(wait / (k_tiles * step)))
        cost = 2 * tiles * k_tiles * max(0.0, stream - rows / 2)
        return tiles if cost < norm else 0


def row_blocks(graph: IntGraph) -> dict[str, RowBlocks]:
    """For each static product, by node name, the norms around it."""
    makers = {node.output: node for node in graph.nodes}
    norms = {n.inputs[0]: graph.tensors[n.inputs[0]].shape[-1] for n in _norms(graph)}
    taken: set[str] = set()
    found = {}
    for node in graph.nodes:
        if not isinstance(node, MatMul) or not is_static(graph, node):
            continue
        before = norms.get(node.output, 0)
        norm, copies = _norm_of(node.inputs[0], makers)
        after = 0
        if norm is not None and norm.inputs[0] not in taken:
            taken.add(norm.inputs[0])
            after = graph.tensors[norm.output].shape[-1]
        found[node.name] = RowBlocks(before, after, copies)
    return found


Norm = LayerNorm | RowScale


def _norms(graph: IntGraph) -> list[Norm]:
    return [node for node in graph.nodes if isinstance(node, Norm)]


def _norm_of(name: str, makers: dict[str, Node]) -> tuple[Norm | None, int]:
    """The first norm that a tensor comes from, through views, and through how many other nodes."""
    found: tuple[Norm | None, int] = (None, 0)
    node, copies = makers.get(name), 0
    while isinstance(node, View | Pointwise | Norm):
        if isinstance(node, Norm):
            found = (node, copies)
        copies += not isinstance(node, View)
        node = makers.get(node.inputs[0])
    return found


def piece_rows(rows: int, n: int, config: CoreConfig) -> int:
    """Rows in each part of a row-wise node of ``rows`` rows of ``n`` elements."""
    return -(-rows // _pieces(rows * row_words(n, config.lanes), PIECES, config))


def _pieces(cycles: int, most: int, config: CoreConfig) -> int:
    return min(most, max(1, cycles // PIECE_CYCLES)) if _overlaps(config) else 1


def _overlaps(config: CoreConfig) -> bool:
    """Whether the core's units work at the same time."""
    return config.structure != "serial"


def comes_by_columns(graph: IntGraph, node: Pointwise) -> bool:
    """Whether the source of ``node`` is computed column by column, for all rows, by a product.

    What a norm reads counts as rows.
    """
    makers = {n.output: n for n in graph.nodes}
    readers = [n for n in graph.nodes if node.output in n.inputs]
    if any(isinstance(reader, Norm) for reader in readers):
        return False
    maker = makers.get(node.inputs[0])
    while isinstance(maker, Pointwise):
        maker = makers.get(maker.inputs[0])
    return isinstance(maker, MatMul)


def piece_columns(rows: int, n: int, config: CoreConfig) -> int:
    """Columns, whole tiles, in each part of an element-wise node of ``rows`` rows of ``n``."""
    pieces = _pieces(rows * row_words(n, config.lanes), 2 * PIECES, config)
    return row_words(-(-n // pieces), config.cols) * config.cols


def piece_tiles(cycles: int) -> int:
    """Tiles that one FETCH_STREAM serves, if the array takes ``cycles`` for each."""
    return -(-PRODUCT_CYCLES // cycles)
