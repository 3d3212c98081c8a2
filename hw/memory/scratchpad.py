"""The on-chip memories of activations and parameters, with their ports' arbiters."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from intformer.config import CoreConfig
from intformer.hw.memory.arbiter import GrantArbiter
from intformer.hw.parts.streams import delay
from intformer.hw.ports import (
    READ_LATENCY,
    NarrowReadPort,
    ParamReadPort,
    WidePort,
    WriteItem,
    WritePort,
)
from intformer.isa import Unit

__all__ = ["ActScratchpad", "MemoryCopy", "ParamMemory", "TraceSignature", "WideScratchpad"]

_BEFORE = 2
"""Registers in front of a block RAM."""
WIDE_CLIENTS = ("matmul", "fetch")
NARROW_CLIENTS = ("post_src", "row", "move", "dma")
WRITERS = (Unit.POST, Unit.ROW, Unit.MOVE, Unit.DMA)


class TraceSignature(wiring.Signature):
    """Writes into a scratchpad as a bench sees them, one cycle after they were taken.

    A unit's ``done`` comes at the earliest in that cycle too.

    Members
    -------
    valid: ``Out(1)``; a write was taken in the cycle before.
    unit: ``Out(3)``; the :class:`intformer.isa.Unit` that wrote.
    word, sub, mask, data: ``Out``; as in :class:`intformer.hw.ports.WriteItem`.
    """

    def __init__(self, config: CoreConfig, *, bits: int) -> None:
        item = WriteItem(config, bits=bits)
        members = {name: Out(item[name].width) for name in ("word", "sub", "mask", "data")}
        super().__init__({"valid": Out(1), "unit": Out(3), **members})


class MemoryCopy(wiring.Component):
    """A memory with one read port and one write port.

    Parameters
    ----------
    width: bits of a word.
    depth: words.
    groups: parts of a word; a read returns one of them. 1: the whole word.
    granularity: bits that one bit of ``write_en`` governs.

    Members
    -------
    read_word, read_sub: ``In``; word and part.
    data: ``Out(width / groups)``; :data:`intformer.hw.ports.READ_LATENCY` cycles later.
    write_word, write_en, write_data: ``In``; seen by reads of the next cycle and later ones. What
        a read of this cycle returns of the same word is not defined.

    Notes
    -----
    Between registers on both sides of the block RAM, which is slow to answer; the first one behind
    it can be the block's own. The second is for the way to who asked.
    """

    def __init__(self, width: int, *, depth: int, groups: int = 1, granularity: int) -> None:
        if width % groups or width % granularity:
            raise ValueError(
                f"width must be a multiple of groups ({groups}) and granularity ({granularity}), "
                f"not {width!r}"
            )
        self._width = width
        self._depth = depth
        self._groups = groups
        self._granularity = granularity
        super().__init__(
            {
                "read_word": In(18),
                "read_sub": In(4),
                "data": Out(width // groups),
                "write_word": In(18),
                "write_en": In(width // granularity),
                "write_data": In(width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # With this attribute, and the block RAM's own register apart from the read port, synthesis
        # adds no logic for reads of what is being written.
        memory = Memory(shape=self._width, depth=self._depth, init=[], attrs={"no_rw_check": 1})
        m.submodules.memory = memory
        read = memory.read_port(domain="comb")
        write = memory.write_port(granularity=self._granularity)
        bits = len(read.addr)
        # Apart from those of other copies, whose blocks lie elsewhere on the device.
        address, place = (
            delay(m, word[:bits], _BEFORE, name=name, reset_less=True, keep=True)
            for name, word in (("address", self.read_word), ("place", self.write_word))
        )
        m.d.comb += [
            read.addr.eq(address),
            write.addr.eq(place),
            write.en.eq(delay(m, self.write_en, _BEFORE, name="enable")),
            write.data.eq(delay(m, self.write_data, _BEFORE, name="written", reset_less=True)),
        ]
        word = delay(m, read.data, READ_LATENCY - _BEFORE - 1, name="answer", reset_less=True)
        if self._groups > 1:
            bits = ceil_log2(self._groups)
            sub = delay(m, self.read_sub[:bits], READ_LATENCY - 1, name="sub", reset_less=True)
            word = word.word_select(sub, len(self.data))
        m.d.comb += self.data.eq(delay(m, word, 1, name="part", reset_less=True))
        return m


def _share_reads(
    m: Module, copy: MemoryCopy, name: str, ports: Sequence, *, strict: bool = False
) -> None:
    """Connect ``ports`` to the read port of ``copy``."""
    shape = ports[0].req.payload.shape()
    arbiter = GrantArbiter(shape, clients=len(ports), strict=strict)
    m.submodules[f"{name}_arbiter"] = arbiter
    for port, i in zip(ports, arbiter.i, strict=True):
        connect(m, flipped(port.req), i)
        m.d.comb += port.data.eq(copy.data)
    request = arbiter.o.payload
    if isinstance(shape, data.StructLayout):
        m.d.comb += [copy.read_word.eq(request.word), copy.read_sub.eq(request.sub)]
    else:
        m.d.comb += copy.read_word.eq(request)


def _share_writes(
    m: Module,
    copies: Sequence[MemoryCopy],
    ports: Sequence,
    trace: wiring.PureInterface,
    *,
    groups: int,
) -> None:
    """Connect ``ports``, in the order of :data:`WRITERS`, to all ``copies``, and trace them."""
    m.submodules.write_arbiter = arbiter = GrantArbiter(
        ports[0].req.payload.shape(), clients=len(ports)
    )
    for port, i in zip(ports, arbiter.i, strict=True):
        connect(m, flipped(port.req), i)
    # From here on the trace's registers: what a unit gives has come a long way.
    enable = Cat(
        trace.mask & (trace.valid & (trace.sub == group)).replicate(len(trace.mask))
        for group in range(groups)
    )
    for copy in copies:
        m.d.comb += [
            copy.write_word.eq(trace.word),
            copy.write_en.eq(enable),
            copy.write_data.eq(trace.data.replicate(groups)),
        ]
    item = arbiter.o.payload
    m.d.sync += trace.valid.eq(arbiter.o.valid)
    m.d.sync += [getattr(trace, n).eq(item[n]) for n in ("word", "sub", "mask", "data")]
    wrote = (
        Const(unit.value, 3) & grant.replicate(3)
        for unit, grant in zip(WRITERS, arbiter.grant, strict=True)
    )
    m.d.sync += trace.unit.eq(reduce(or_, wrote))


class ActScratchpad(wiring.Component):
    """The activation scratchpad: words of ``rows`` bytes, read whole or by lane groups.

    Two copies are written together; each has its own read port, so that the array's reads and
    the lane groups' do not meet. Reads return after :data:`intformer.hw.ports.READ_LATENCY`
    cycles; one per copy and one write are taken per cycle. Each ``ready`` is a register: see
    :class:`intformer.hw.memory.arbiter.GrantArbiter`.

    Members
    -------
    wide_matmul, wide_fetch: ``In(WidePort)``; ``wide_matmul`` always goes first.
    narrow_post_res, narrow_post_src, narrow_row, narrow_move, narrow_dma: ``In(NarrowReadPort)``
        of ``lanes`` bytes.
    write_post, write_row, write_move, write_dma: ``In(WritePort)``.
    trace: ``Out(TraceSignature)``.
    """

    def __init__(self, config: CoreConfig) -> None:
        self._config = config
        narrow = NarrowReadPort(8 * config.lanes)
        write = WritePort(config, bits=8)
        super().__init__(
            {f"wide_{name}": In(WidePort(config)) for name in WIDE_CLIENTS}
            | {f"narrow_{name}": In(narrow) for name in ("post_res", *NARROW_CLIENTS)}
            | {f"write_{unit.name.lower()}": In(write) for unit in WRITERS}
            | {"trace": Out(TraceSignature(config, bits=8))}
        )

    def elaborate(self, platform: object) -> Module:
        config = self._config
        groups = config.groups_per_word
        m = Module()
        m.submodules.wide = wide = MemoryCopy(
            8 * config.rows, depth=config.act_words, granularity=8
        )
        m.submodules.narrow = narrow = MemoryCopy(
            8 * config.rows, depth=config.act_words, groups=groups, granularity=8
        )
        _share_reads(
            m, wide, "wide", [getattr(self, f"wide_{n}") for n in WIDE_CLIENTS], strict=True
        )
        clients = ("post_res", *NARROW_CLIENTS)
        _share_reads(m, narrow, "narrow", [getattr(self, f"narrow_{n}") for n in clients])
        writers = [getattr(self, f"write_{unit.name.lower()}") for unit in WRITERS]
        _share_writes(m, (wide, narrow), writers, self.trace, groups=groups)
        return m


class WideScratchpad(wiring.Component):
    """The scratchpad of 16-bit codes, ``lanes`` in a word.

    Two copies, as in :class:`ActScratchpad`: one for the residual, one for the other clients.
    ``sub`` of requests and writes must be 0.

    Members
    -------
    residual: ``In(NarrowReadPort)`` of ``lanes`` 16-bit codes.
    narrow_post_src, narrow_row, narrow_move, narrow_dma: the same.
    write_post, write_row, write_move, write_dma: ``In(WritePort)``.
    trace: ``Out(TraceSignature)``.
    """

    def __init__(self, config: CoreConfig) -> None:
        self._config = config
        narrow = NarrowReadPort(16 * config.lanes)
        write = WritePort(config, bits=16)
        super().__init__(
            {"residual": In(narrow)}
            | {f"narrow_{name}": In(narrow) for name in NARROW_CLIENTS}
            | {f"write_{unit.name.lower()}": In(write) for unit in WRITERS}
            | {"trace": Out(TraceSignature(config, bits=16))}
        )

    def elaborate(self, platform: object) -> Module:
        config = self._config
        m = Module()
        copies = []
        for name in ("residual", "narrow"):
            copy = MemoryCopy(16 * config.lanes, depth=config.wide_words, granularity=16)
            m.submodules[name] = copy
            copies.append(copy)
        m.d.comb += [
            copies[0].read_word.eq(self.residual.req.payload.word),
            self.residual.req.ready.eq(1),
            self.residual.data.eq(copies[0].data),
        ]
        clients = [getattr(self, f"narrow_{name}") for name in NARROW_CLIENTS]
        _share_reads(m, copies[1], "narrow", clients)
        writers = [getattr(self, f"write_{unit.name.lower()}") for unit in WRITERS]
        _share_writes(m, copies, writers, self.trace, groups=1)
        return m


class ParamMemory(wiring.Component):
    """The parameter memory: groups of ``lanes`` entries, read by POST and ROW at once.

    Members
    -------
    post, row: ``In(ParamReadPort)``.
    write: ``In(stream)`` of ``{addr: 12, data: 64*lanes}``; always ready; seen by reads of the
        next cycle.
    """

    def __init__(self, config: CoreConfig) -> None:
        self._config = config
        write = data.StructLayout({"addr": 12, "data": 64 * config.lanes})
        super().__init__(
            {
                "post": In(ParamReadPort(config)),
                "row": In(ParamReadPort(config)),
                "write": In(stream.Signature(write)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        config = self._config
        m = Module()
        item = self.write.payload
        m.d.comb += self.write.ready.eq(1)
        for name in ("post", "row"):
            port = getattr(self, name)
            width = 64 * config.lanes
            copy = MemoryCopy(width, depth=config.param_groups, granularity=width)
            m.submodules[name] = copy
            m.d.comb += [
                copy.read_word.eq(port.addr),
                port.data.eq(copy.data),
                copy.write_word.eq(item.addr),
                copy.write_en.eq(self.write.valid),
                copy.write_data.eq(item.data),
            ]
        return m
