"""Where every tensor lies: aliases for views, homes, and copies where a view will not do.

Every element that is written on the chip has an identity. A view is an array of identities of
other tensors' elements; nothing moves for it. If an operand needs another layout, the
tensors behind it are placed in the view's own layout (its *home*) when their producers can
write there and all other uses still hold; otherwise a MOVE copies the view.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from intformer.compiler.backend.allocate import Buffer, allocate
from intformer.compiler.backend.layout import (
    canonical,
    column_segments,
    contiguous,
    even,
    mem_of,
    row_words,
    rows_of,
    width_of,
)
from intformer.compiler.backend.lineage import ancestors, derive
from intformer.compiler.backend.uses import Need, Use, has_group_operands, uses_of
from intformer.compiler.integer_graph import (
    Gather,
    IntGraph,
    MatMul,
    Node,
    Pointwise,
    Softmax,
    View,
)
from intformer.config import CoreConfig
from intformer.isa import Mem

__all__ = ["Copy", "Storage"]

Ids = NDArray[np.int64]
_APART = 1 << 32
"""Words between buffers before addresses are known."""


@dataclass
class Copy:
    """Elements ``source`` are moved into the canonical layout of the view ``tensor``."""

    tensor: str
    source: Ids
    when: int


@dataclass
class _Root:
    """A tensor whose elements are written on the chip, or are candidates to be."""

    name: str
    first: int
    shape: tuple[int, ...]
    dtype: str
    producer: Node | None


class Storage:
    """Layout of the tensors of ``graph`` on a core.

    After construction, :meth:`positions` gives absolute positions; ``loads`` maps the names of
    inputs and constants that must be on the chip to the node that needs them first; ``copies``
    lists the moves; ``used`` holds the words used by memory.

    Raises
    ------
    DoesNotFit
        If a scratchpad is too small.
    """

    def __init__(self, graph: IntGraph, config: CoreConfig) -> None:
        self._graph, self._config = graph, config
        self._uses = list(uses_of(graph))
        self._roots: list[_Root] = []
        self._total = 0
        self.ids: dict[str, Ids] = {}
        self.copies: list[Copy] = []
        self._copied: set[str] = set()
        self._views = {n.output: n for n in graph.nodes if isinstance(n, View)}
        self._resolve()
        self._place_apart()
        self._find_homes()
        self._soften_in_place()
        self._copy_the_rest()
        self._allocate()

    def positions(self, name: str) -> Ids:
        """Absolute positions of the elements of a tensor."""
        return self._position[self.ids[name]]

    def positions_of(self, ids: Ids) -> Ids:
        """Absolute positions of elements."""
        return self._position[ids]

    def mem(self, name: str) -> Mem:
        """The scratchpad of a tensor."""
        return mem_of(self._graph.tensors[name].dtype)

    def width(self, name: str) -> int:
        """Elements per word of the scratchpad of a tensor."""
        return width_of(self._config, self.mem(name))

    # Identities

    def _resolve(self) -> None:
        wanted = {use.tensor for use in self._uses}
        for node in self._graph.nodes:
            wanted |= set(node.inputs) if isinstance(node, View) else set()
        for tensor in self._graph.tensors.values():
            on_chip = tensor.const is not None and tensor.name in wanted
            if on_chip or tensor.name in self._graph.inputs:
                self._add_root(tensor.name, None)
        for node in self._graph.nodes:
            if isinstance(node, View):
                ids = node.apply(*(self.ids[n] for n in node.inputs))
                self.ids[node.output] = np.ascontiguousarray(ids)
            else:
                for name in node.outputs:
                    self._add_root(name, node)

    def _add_root(self, name: str, producer: Node | None) -> _Root:
        tensor = self._graph.tensors[name]
        size = int(np.prod(tensor.shape, dtype=np.int64))
        root = _Root(name, self._total, tuple(tensor.shape), tensor.dtype, producer)
        self._roots.append(root)
        self.ids[name] = np.arange(self._total, self._total + size).reshape(tensor.shape)
        self._total += size
        return root

    def _roots_of(self, ids: Ids) -> list[_Root]:
        firsts = [r.first for r in self._roots]
        numbers = np.unique(np.searchsorted(firsts, ids.ravel(), side="right") - 1)
        return [self._roots[i] for i in numbers]

    # Places before addresses are known: buffer number * _APART words + position

    def _place_apart(self) -> None:
        self._place = np.zeros(self._total, np.int64)
        self._buffers: list[Buffer] = []
        for root in self._roots:
            self._own_buffer(root)

    def _own_buffer(self, root: _Root) -> None:
        mem = mem_of(root.dtype)
        width = width_of(self._config, mem)
        positions, words = canonical(root.shape, width)
        offset = len(self._buffers) * _APART * width
        size = positions.size
        self._place[root.first : root.first + size] = offset + positions.ravel()
        self._buffers.append(Buffer(root.name, mem, words))

    # Homes

    def _find_homes(self) -> None:
        for use in self._uses:
            ids = self.ids[use.tensor]
            apart = np.unique(self._place[ids] // (_APART * self.width(use.tensor))).size > 1
            if apart or not self._holds(use):
                self._try_home(use.tensor)

    def _try_home(self, view: str) -> bool:
        ids = self.ids[view]
        roots = self._roots_of(ids)
        members = sum(self.ids[r.name].size for r in roots)
        if ids.size != members or np.unique(ids).size != members:
            return False
        concerned = [u for u in self._uses if np.isin(self.ids[u.tensor], ids).any()]
        held = [u for u in concerned if self._holds(u)]
        before = self._place[ids]
        width = self.width(view)
        positions, words = canonical(ids.shape, width)
        self._place[ids] = len(self._buffers) * _APART * width + positions
        if all(self._writable(r) for r in roots) and all(self._holds(u) for u in held):
            self._buffers.append(Buffer(view, self.mem(view), words))
            return True
        self._place[ids] = before
        return False

    def _soften_in_place(self) -> None:
        """Probabilities over their scores, if nothing else reads those: rows are read before."""
        for when, node in enumerate(self._graph.nodes):
            if not isinstance(node, Softmax):
                continue
            scores, result = self.ids[node.inputs[0]], self.ids[node.output]
            readers = [u for u in self._uses if np.isin(self.ids[u.tensor], scores).any()]
            if [u.when for u in readers] != [when]:
                continue
            concerned = [u for u in self._uses if np.isin(self.ids[u.tensor], result).any()]
            held = [u for u in concerned if self._holds(u)]
            before = self._place[result]
            self._place[result] = self._place[scores]
            if not all(self._holds(u) for u in held):
                self._place[result] = before

    def _writable(self, root: _Root) -> bool:
        """Whether the producer of ``root`` can write where it is placed."""
        config, node = self._config, root.producer
        matrix = rows_of(self._place[self.ids[root.name]])
        if isinstance(node, MatMul | Pointwise):
            segments = column_segments([matrix], align=config.lanes)
            if segments is None:
                return False
            strict = has_group_operands(node)
            if strict and any(first % config.lanes for first, _ in segments):
                return False
            return not isinstance(node, MatMul) or self._affordable(node, matrix, segments)
        width = width_of(config, mem_of(root.dtype))
        if not contiguous(matrix, align=width):
            return False
        if isinstance(node, Gather):
            n = self.ids[node.inputs[0]].shape[-1]
            if not even(matrix, block=n, width=width):
                return False
        return not (node is None or isinstance(node, Gather)) or self._private(root, matrix, width)

    def _affordable(self, node: MatMul, matrix: Ids, segments: list[tuple[int, int]]) -> bool:
        """Whether the tiles lost to narrow segments cost less than a MOVE would."""
        cols = self._config.cols
        tiles = sum(row_words(end - first, cols) for first, end in segments)
        extra = tiles - row_words(matrix.shape[1], cols)
        k = self._graph.tensors[node.inputs[0]].shape[-1]
        return extra * row_words(k, self._config.rows) <= matrix.shape[1]

    def _private(self, root: _Root, matrix: Ids, width: int) -> bool:
        """Whether no other tensor shares the words of ``root``: DMA writes whole lane groups."""
        words = np.unique(matrix // width)
        first, size = root.first, matrix.size
        others = np.concatenate([self._place[:first], self._place[first + size :]])
        return not np.isin(words, others // width).any()

    # Needs

    def _holds(self, use: Use) -> bool:
        return self._layout_holds(use, self._place[self.ids[use.tensor]])

    def _layout_holds(self, use: Use, places: Ids) -> bool:
        matrix = rows_of(places)
        width = self.width(use.tensor)
        if use.need is Need.WORDS:
            return contiguous(matrix, align=width)
        if use.need is Need.EVEN:
            n = self.ids[use.tensor].shape[-2]
            return contiguous(matrix, align=width) and even(matrix, block=n, width=width)
        if use.need is Need.GROUPS:
            segments = column_segments([matrix], align=self._config.lanes)
            return segments is not None and not any(s % self._config.lanes for s, _ in segments)
        packed, _ = canonical(matrix.shape, width)
        return matrix[0, 0] % width == 0 and bool(np.all(matrix - matrix[0, 0] == packed))

    def _copy_the_rest(self) -> None:
        for use in self._uses:
            if self._holds(use):
                continue
            if not self._try_ancestor(use):
                self._copy(use.tensor, (use.tensor,))

    def _copy(self, name: str, readers: tuple[str, ...]) -> None:
        """Move ``name`` into its own layout, before the first use of any of ``readers``."""
        source = self.ids[name]
        first = min(u.when for u in self._uses if u.tensor in readers)
        self.copies.append(Copy(name, source, first))
        root = self._add_root(name, None)
        self._place = np.concatenate([self._place, np.zeros(source.size, np.int64)])
        self._own_buffer(root)

    def _try_ancestor(self, use: Use) -> bool:
        """Copy a smaller view that ``use.tensor`` is a view of, if its layout then will do.

        So the windows of a convolution overlap in memory: only the columns of pixels that they
        share are copied, once.
        """
        before = self.ids[use.tensor]
        for name in ancestors(self._views, use.tensor):
            derived = derive(self._views, use.tensor, name, self.ids[name])
            if name in self._copied:  # for another view of it
                self.ids[use.tensor] = derived
                if self._holds(use):
                    return True
                self.ids[use.tensor] = before
            elif self.ids[name].size < before.size and self._would_hold(use, name):
                self._copy(name, (name, use.tensor))
                self._copied.add(name)
                self.ids[use.tensor] = derive(self._views, use.tensor, name, self.ids[name])
                return True
        return False

    def _would_hold(self, use: Use, ancestor: str) -> bool:
        """Whether ``use`` holds once ``ancestor`` lies in its own layout."""
        packed, _ = canonical(self.ids[ancestor].shape, self.width(ancestor))
        return self._layout_holds(use, derive(self._views, use.tensor, ancestor, packed))

    # Addresses

    def _allocate(self) -> None:
        self.loads: dict[str, int] = {}
        by_tensor = {
            name: when for when, node in enumerate(self._graph.nodes) for name in node.outputs
        }
        copied = {c.tensor for c in self.copies}
        reads = [(self.ids[u.tensor], u.when) for u in self._uses]
        reads += [(c.source, c.when) for c in self.copies]
        for ids, when in reads:
            for root in self._roots_of(ids):
                if root.producer is None and root.name not in copied:
                    self.loads[root.name] = min(when, self.loads.get(root.name, when))
            self._live(ids, when)
        for root in self._roots:
            if root.producer is not None:
                self._live(self.ids[root.name], by_tensor[root.name])
        self.used = allocate(self._buffers, self._config)
        self._position = np.zeros(self._total, np.int64)
        for root in self._roots:
            span = slice(root.first, root.first + int(np.prod(root.shape, dtype=np.int64)))
            width = width_of(self._config, mem_of(root.dtype))
            number = self._place[span] // (_APART * width)
            bases = np.array([b.base for b in self._buffers], np.int64)
            self._position[span] = bases[number] * width + self._place[span] % (_APART * width)

    def _live(self, ids: Ids, when: int) -> None:
        mem_width = self._widths_of(ids)
        for number in np.unique(self._place[ids] // (_APART * mem_width)):
            self._buffers[int(number)].use(when)

    def _widths_of(self, ids: Ids) -> int:
        (root, *_) = self._roots_of(ids)
        return width_of(self._config, mem_of(root.dtype))
