"""The weight-stationary systolic array."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from amaranth.hdl import Cat, Module, Shape, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from intformer.hw.matmul.element import Foot, ProcessingElement
from intformer.hw.matmul.formats import Format, array_format
from intformer.hw.parts.streams import delay

__all__ = ["ArrayShape", "SystolicArray"]


@dataclass(frozen=True)
class ArrayShape:
    """Size and format of an array, and the timing that follows.

    The properties are those of :class:`SystolicArray`.
    """

    rows: int
    cols: int
    format: Format

    @property
    def segments(self) -> list[int]:
        """Rows of every segment, as equal as can be, the longest first."""
        parts = -(-self.rows // self.format.segment)
        return [self.rows // parts + (index < self.rows % parts) for index in range(parts)]

    @property
    def elements(self) -> int:
        """Processing elements in a row."""
        return self.cols // self.format.columns

    @property
    def latency(self) -> int:
        segments = self.segments
        chain = 1 + self.format.product_latency + max(segments)
        return chain + self.format.foot_latency(len(segments))

    @property
    def load_latency(self) -> int:
        return self.format.columns

    def delay(self, column: int) -> int:
        return column // self.format.columns


class SystolicArray(wiring.Component):
    """``rows`` x ``cols`` products per cycle: vectors times a stationary tile of weights.

    Parameters
    ----------
    rows: elements of a vector (contraction), 1 to 64.
    cols: outputs, 1 to 64; even if an element serves two columns.
    format: ``"int8"``: one product per DSP block, weights -128..127; ``"int8_packed"``: two
        per 18 x 18 block, weights -127..127; ``"w4a8_packed"``: two per 18 x 18 block, weights
        -7..7; ``"w4a4_packed"``: four per 18 x 18 block, activations -8..7 of two vectors at a
        time, weights -7..7; ``"int8_luts"`` and ``"int4_luts"``: no DSP block.
    activation_bits: 9 for int8 and uint8 activations (-128..255), 8 for int8 alone; 4 for
        ``w4a4_packed``.
    target: ``"ecp5"``, ``"ice40"`` or ``"gowin"`` for the family's multipliers; ``None`` for
        their behavioural twin. Both have the same function and timing.

    Members
    -------
    a: ``In``; one activation vector per cycle, all rows at once: ``a[row]``, or ``a[row][v]`` if
        two vectors enter side by side.
    switch: ``In(1)``; this vector is the first one of the tile in the shadow registers.
    w, shift: ``In``; in a cycle with ``shift``, a column of weights enters at column 0 and
        those before it move on. After ``cols`` of them the first is at the last column.
        The tile is complete for a ``switch`` :attr:`load_latency` cycles after the last. The
        next tile's first column may come with the ``switch``.
    psum: ``Out``; column ``c`` holds the dot product of the vector of ``latency + delay(c)``
        cycles before with column ``c`` of its tile; ``psum[c][v]`` if there are two.

    Notes
    -----
    A vector per cycle, tile after tile; nothing stalls. A segment of up to 8 rows (4 or 9 for
    ``w4a8_packed``) is a chain of partial sums; the segments work at the same time, and a tree adds
    their sums. Weights outside the format's range give wrong sums. Reset does not reach what is on
    its way: after it, ``switch`` and ``shift`` must stay 0 for ``rows + cols`` cycles.
    """

    def __init__(
        self,
        *,
        rows: int,
        cols: int,
        format: str = "int8",
        activation_bits: int | None = None,
        target: str | None = None,
    ) -> None:
        form = array_format(format, activation_bits=activation_bits, target=target)
        for name, value in (("rows", rows), ("cols", cols)):
            if not 1 <= value <= 64:
                raise ValueError(f"{name} must be from 1 to 64, not {value!r}")
        if cols % form.columns:
            raise ValueError(f"cols must be even for format {format}, not {cols!r}")
        self.shape = ArrayShape(rows, cols, form)
        super().__init__(
            {
                "a": In(data.ArrayLayout(self._of_vectors(signed(form.activation_bits)), rows)),
                "switch": In(1),
                "w": In(data.ArrayLayout(signed(form.weight_bits), rows)),
                "shift": In(1),
                "psum": Out(data.ArrayLayout(self._of_vectors(self.psum_shape), cols)),
            }
        )

    def _of_vectors(self, shape: Shape) -> Shape | data.ArrayLayout:
        """``shape``, or as many of them as vectors enter side by side."""
        vectors = self.shape.format.vectors
        return shape if vectors == 1 else data.ArrayLayout(shape, vectors)

    @property
    def psum_shape(self) -> Shape:
        """Shape of the sum of a column."""
        return self.shape.format.sum_shape(self.shape.rows)

    @property
    def latency(self) -> int:
        """Cycles from a vector in ``a`` to its sum in column 0 of ``psum``."""
        return self.shape.latency

    @property
    def throughput(self) -> int:
        """Multiply-accumulates per cycle."""
        return self.shape.rows * self.shape.cols * self.shape.format.vectors

    @property
    def load_latency(self) -> int:
        """Least number of cycles from a tile's last ``shift`` to its ``switch``."""
        return self.shape.load_latency

    def delay(self, column: int) -> int:
        """Cycles that ``column`` is later than column 0."""
        return self.shape.delay(column)

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        form, segments = self.shape.format, self.shape.segments
        words, shift = self._encode(m)
        feet = [Foot(form, segments=segments) for _ in range(self.shape.elements)]
        first = 0
        for number, height in enumerate(segments):
            rows = range(first, first + height)
            bottom = self._add_segment(m, rows, words, Cat(self.switch, shift))
            for foot, element in zip(feet, bottom, strict=True):
                m.d.comb += getattr(foot, f"segment_{number}").eq(element.psum_out)
            first += height
        for index, foot in enumerate(feet):
            m.submodules[f"foot_{index}"] = foot
            bits = foot.sums.as_value()
            m.d.comb += self.psum.as_value().word_select(index, len(bits)).eq(bits)
        return m

    def _encode(self, m: Module) -> tuple[list[Value], Value]:
        """Words of weights for every row, and their ``shift``."""
        form = self.shape.format
        if form.columns == 1:
            return [form.encode([self.w[row]]) for row in range(self.shape.rows)], self.shift
        # Of a pair of columns the right one comes first.
        right = Signal.like(self.w, reset_less=True)
        second, complete = Signal(), Signal()
        with m.If(self.shift):
            m.d.sync += [right.eq(self.w), second.eq(~second)]
        m.d.sync += complete.eq(self.shift & second)
        words: list[Value] = []
        for row in range(self.shape.rows):
            encoded = form.encode([self.w[row], right[row]])
            word = Signal(unsigned(len(encoded)), name=f"word_{row}", reset_less=True)
            m.d.sync += word.eq(encoded)
            words.append(word)
        return words, complete

    def _add_segment(
        self, m: Module, rows: range, words: list[Value], control: Value
    ) -> list[ProcessingElement]:
        """The elements of ``rows``; returns the last row."""
        form = self.shape.format
        lines: list[list[ProcessingElement]] = []
        for above, row in enumerate(rows):
            # Row r of the longest segment runs r cycles late; shorter ones end with it.
            late = max(self.shape.segments) - len(rows) + above
            vectors = [self.a[row]] if form.vectors == 1 else list(self.a[row])
            values = Cat(form.encode_activations(vectors), words[row])
            values = delay(m, values, late, name=f"skew_{row}", reset_less=True)
            row_control = delay(m, control, late, name=f"control_{row}", reset_less=True, keep=True)
            line = [ProcessingElement(form, above=above) for _ in range(self.shape.elements)]
            for index, element in enumerate(line):
                m.submodules[f"pe_{row}_{index}"] = element
            self._connect_row(m, line, Value.cast(values), Value.cast(row_control))
            lines.append(line)
        for upper, lower in pairwise(lines):
            for source, target in zip(upper, lower, strict=True):
                m.d.comb += target.psum.eq(source.psum_out)
        return lines[-1]

    def _connect_row(
        self, m: Module, line: list[ProcessingElement], values: Value, control: Value
    ) -> None:
        """Connect the elements of one row, left to right."""
        bits = self.shape.format.activation_word
        m.d.comb += [
            line[0].a.eq(values[:bits]),
            line[0].w.eq(values[bits:]),
            line[0].switch.eq(control[0]),
            line[0].shift.eq(control[1]),
        ]
        for left, right in pairwise(line):
            m.d.comb += [
                right.a.eq(left.a_out),
                right.w.eq(left.w_out),
                right.switch.eq(left.switch_out),
                right.shift.eq(left.shift_out),
            ]
