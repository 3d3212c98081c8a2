"""The microinstructions of the serial core, and their assembler.

A microinstruction is :data:`WORD_BITS` bits:

======== ============================================================
``4:0``  :class:`Micro`, the operation
``12:5`` register; condition of JMP and CALL; unit of ``Io.UNIT``
``14:13`` :class:`Source` of operand B; bytes that STT writes
``20:15`` count of repeated operations, :class:`Io` of IO
``21``   the register (an address) counts up afterwards
``22``   signed
``23``   the count is that of SETC; GET: raw
======== ============================================================

Jumps hold their target in bits ``22:13``.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = [
    "ADDRESS_BITS",
    "COUNT_BIAS",
    "WORD_BITS",
    "Assembler",
    "Condition",
    "Io",
    "Micro",
    "Source",
    "TableBytes",
]

WORD_BITS = 24
ADDRESS_BITS = 10
COUNT_BIAS = 15
"""What SETC adds."""


class Micro(IntEnum):
    """Operations. A and Q are the datapath's registers, B the operand, R the register named."""

    LD = 0  # A = B
    ADD = 1  # A = A + B, C = carry
    SUB = 2  # A = A - B, C = no borrow
    ADC = 3  # A = A + B + C
    SBC = 4  # A = A - B - 1 + C
    MAX = 5  # A = max(A, B), signed
    MIN = 6  # A = min(A, B), signed
    AVG = 7  # A = (A + B) >> 1, of the exact sum
    LDQ = 8  # Q = B
    SWAP = 9  # A, Q = Q, A
    ST = 10  # R = A
    MUL = 11  # A:Q = B * Q + A, two bits of Q in each of count steps, lowest first
    DIV = 12  # count steps of Q = A:Q / B, highest bit first
    SHL = 13  # A:Q <<= count
    SHR = 14  # A:Q >>= count
    SETC = 15  # count = B[21:16] + 15, modulo 64
    GET = 16  # A = the next count bits of the stream, signed or not; raw: (those bits:A) >> count
    LDM = 17  # read element R of the scratchpads, or accumulator R if bit 17 of R is 1
    STM = 18  # write A to element R of the scratchpads
    LDT = 19  # read word R of parameters and tables; signed: word A[7:0] of its block
    STT = 20  # write A to word R of parameters and tables
    JMP = 21
    CALL = 22
    RET = 23
    LOOP = 24  # R = R + 1; jump unless R became 0
    JTAB = 25  # jump to target + A[3:0]
    IO = 26
    PUSH = 27  # A[7:0] into the weight stream
    WRB = 28  # A[7:0] to the next external byte
    TILE = 29  # take a tile of weights from the stream
    RUN = 30  # feed rows to the array


class Source(IntEnum):
    """Operand B."""

    R = 0
    MEM = 1  # what LDM read
    T = 2  # what LDT read


class TableBytes(IntEnum):
    """Bytes of a word that STT writes."""

    ALL = 0
    LOW = 1  # 7:0
    HIGH = 2  # 31:8


class Condition(IntEnum):
    """When JMP and CALL jump; bit 4 inverts."""

    ALWAYS = 0
    NEGATIVE = 1  # A < 0
    ZERO = 2  # A = 0
    OVERFLOW = 3  # A:Q does not fit Q
    CARRY = 4
    F0 = 8
    F1 = 9
    F2 = 10
    F3 = 11


class Io(IntEnum):
    """What IO does with operand B."""

    XADDR = 0  # external address
    XCOUNT = 1  # begin to read that many bytes
    FLAGS = 2  # F3..F0
    MADDR = 3  # array: first activation word
    MSTRIDE = 4  # array: words from row to row
    MACC = 5  # array: first accumulator row
    MCOUNT = 6  # array: rows
    MFLAGS = 7  # array: bit 0 unsigned, 1 int4, 2 overwrite
    UNIT = 8  # unit of the present instruction, for the trace
    DONE = 9  # the present instruction has completed
    END = 10  # the program has ended
    ERROR = 11  # likewise, with an error


class Assembler:
    """Collects microinstructions, labels and registers.

    Attributes
    ----------
    init: initial content of the registers.
    """

    def __init__(self, *, registers: int = 256) -> None:
        self._code: list[tuple[int, str | None]] = []
        self._labels: dict[str, int] = {}
        self._registers: dict[str, int] = {}
        self.init = [0] * registers

    def register(self, name: str) -> int:
        """Number of register ``name``, a new one if there is none yet."""
        if name not in self._registers:
            self._registers[name] = len(self._registers)
            if len(self._registers) > len(self.init):
                raise ValueError("out of registers")
        return self._registers[name]

    def constant(self, value: int) -> str:
        """Name of a register that holds ``value`` and is never written."""
        name = f"={value}"
        self.init[self.register(name)] = value & 0xFFFFFFFF
        return name

    def label(self, name: str) -> None:
        """The next microinstruction is ``name``."""
        if name in self._labels:
            raise ValueError(f"label {name!r} is there already")
        self._labels[name] = len(self._code)

    def align(self, count: int) -> None:
        """Fill up to a multiple of ``count``."""
        while len(self._code) % count:
            self.op(Micro.RET)

    def op(
        self,
        micro: Micro,
        operand: str | int | Source = 0,
        *,
        count: int = 0,
        inc: bool = False,
        signed: bool = False,
        counted: bool = False,
        part: int = 0,
    ) -> None:
        """A microinstruction; ``operand`` is a register, a constant, or another source of B."""
        source, number = part, 0
        if isinstance(operand, Source):
            source = operand
        elif isinstance(operand, str):
            number = self.register(operand)
        else:
            number = self.register(self.constant(operand))
        if micro is Micro.MUL:  # two bits per step
            count = (count + 1) // 2
        if not 0 <= count < 64:
            raise ValueError(f"count must be from 0 to 63, not {count!r}")
        if counted and micro is not Micro.GET and self._code[-1][0] & 31 == Micro.SETC:
            raise ValueError("the count of SETC cannot be used by the next microinstruction")
        word = micro | number << 5 | source << 13 | count << 15
        self._code.append((word | inc << 21 | signed << 22 | counted << 23, None))

    def jump(self, micro: Micro, target: str, condition: int = 0, *, register: str = "") -> None:
        """JMP, CALL, LOOP or JTAB to a label."""
        number = self.register(register) if register else condition
        self._code.append((micro | number << 5, target))

    def io(self, what: Io, operand: str | int = 0, *, unit: int | None = None) -> None:
        """IO with a register, a constant, or a unit's number."""
        if unit is not None:
            self._code.append((Micro.IO | unit << 5 | what << 15, None))
        else:
            self.op(Micro.IO, operand, count=what)

    def words(self) -> list[int]:
        """The program."""
        if len(self._code) > 1 << ADDRESS_BITS:
            raise ValueError(f"{len(self._code)} microinstructions, at most {1 << ADDRESS_BITS}")
        return [
            word if target is None else word | self._labels[target] << 13
            for word, target in self._code
        ]

    @property
    def registers(self) -> dict[str, int]:
        """Numbers of the registers by name."""
        return dict(self._registers)
