"""Microprogram of LAYERNORM. Numbers of 64 bits lie in two registers, ``NAME1`` above ``NAME0``."""

from __future__ import annotations

from intformer.hw.serial.isa import COUNT_BIAS, Condition, Io, Micro, Source
from intformer.hw.serial.routines import Routines
from intformer.isa import Op, Unit
from intformer.reference.norm import NORM_RECIPROCAL_BITS, NORM_ROOT_BITS

__all__ = ["emit"]

_ROOT_BITS, _RECIPROCAL_BITS = NORM_ROOT_BITS, NORM_RECIPROCAL_BITS
_TOP = 1 << 18
"""Upper half of ``2**50``."""


def emit(asm: Routines) -> None:
    """Append the operation."""
    _fields(asm)
    asm.label("norm_row")
    _sums(asm)
    _variance(asm)
    _root(asm)
    _reciprocal(asm)
    _elements(asm)
    _scale(asm)
    _pairs(asm)


def _fields(asm: Routines) -> None:
    asm.begin(Op.LAYERNORM, Unit.ROW)
    asm.io(Io.FLAGS, 1)
    asm.counter_field(12, "rows")
    asm.field(11, "count")
    asm.pointer("source_row")
    asm.stride("source_stride")
    asm.mem_field()
    asm.pointer("target_row")
    asm.stride("target_stride")
    asm.field(12, None)
    asm.op(Micro.ST, "half")
    asm.op(Micro.ADD, "half")
    asm.op(Micro.ST, "first_param")
    asm.field(32, "eps0")
    asm.field(8, "eps1")
    for name in ("low", "high", "zero_point"):
        asm.field(16, name, signed=True)
    asm.negated("count", "kept")


def _clear(asm: Routines, *registers: str) -> None:
    asm.op(Micro.LD, 0)
    for register in registers:
        asm.op(Micro.ST, register)


def _store_q(asm: Routines, register: str) -> None:
    """``register = Q``; A and Q stay."""
    asm.op(Micro.SWAP)
    asm.op(Micro.ST, register)
    asm.op(Micro.SWAP)


def _load_pair(asm: Routines, name: str) -> None:
    """A:Q = the 64-bit number."""
    asm.op(Micro.LDQ, f"{name}0")
    asm.op(Micro.LD, f"{name}1")


def _store_pair(asm: Routines, name: str) -> None:
    """The 64-bit number = A:Q; A then is its lower half."""
    asm.op(Micro.ST, f"{name}1")
    asm.op(Micro.SWAP)
    asm.op(Micro.ST, f"{name}0")


def _multiply_on(asm: Routines, high: str, by: str, *, bits: int) -> None:
    """``A:Q = A + high * by``, for the upper half of a number, ``bits`` with its sign."""
    asm.op(Micro.LDQ, high)
    asm.op(Micro.MUL, by, count=bits, signed=True)
    asm.op(Micro.SHR, count=32 - bits, signed=True)


def _sums(asm: Routines) -> None:
    """``total`` and, in ``d``, the sum of squares of a row."""
    _clear(asm, "total", "d0", "d1")
    asm.call("row_again")
    asm.label("norm_sums")
    asm.load_element("source")
    asm.op(Micro.ST, "value")
    asm.op(Micro.ADD, "total")
    asm.op(Micro.ST, "total")
    asm.op(Micro.LDQ, Source.MEM)
    asm.op(Micro.LD, 0)
    asm.op(Micro.MUL, "value", count=16, signed=True)
    asm.op(Micro.SHR, count=16)
    asm.op(Micro.SWAP)
    asm.op(Micro.ADD, "d0")
    asm.op(Micro.ST, "d0")
    asm.op(Micro.LD, 0)
    asm.op(Micro.ADC, "d1")
    asm.op(Micro.ST, "d1")
    asm.loop("elements", "norm_sums")


def _variance(asm: Routines) -> None:
    """``d = max(count * d - total**2 + eps, 1) << 2*places``, at least ``2**50``."""
    asm.op(Micro.LDQ, "total")
    asm.op(Micro.LD, 0)
    asm.op(Micro.MUL, "total", count=32, signed=True)
    _store_pair(asm, "square")
    asm.op(Micro.LDQ, "d0")
    asm.op(Micro.LD, 0)
    asm.op(Micro.MUL, "count", count=32)
    _store_q(asm, "d0")
    asm.op(Micro.LDQ, "d1")
    asm.op(Micro.MUL, "count", count=32)
    _store_q(asm, "d1")
    for low, high, name in ((Micro.ADD, Micro.ADC, "eps"), (Micro.SUB, Micro.SBC, "square")):
        asm.op(Micro.LD, "d0")
        asm.op(low, f"{name}0")
        asm.op(Micro.ST, "d0")
        asm.op(Micro.LD, "d1")
        asm.op(high, f"{name}1")
        asm.op(Micro.ST, "d1")
    asm.jump_unless(Condition.ZERO, "norm_some")
    asm.op(Micro.LD, "d0")
    asm.jump_unless(Condition.ZERO, "norm_some")
    asm.op(Micro.LD, 1)
    asm.op(Micro.ST, "d0")
    asm.label("norm_some")
    _clear(asm, "places")
    _load_pair(asm, "d")
    asm.label("norm_more")
    asm.op(Micro.ST, "d1")
    asm.op(Micro.SUB, _TOP)
    asm.jump_unless(Condition.NEGATIVE, "norm_high")
    asm.op(Micro.LD, "d1")
    asm.op(Micro.SHL, count=2)
    asm.loop("places", "norm_more")
    asm.label("norm_high")
    # The leading bit of `d` goes to the top; the shift where SETC looks for it.
    asm.op(Micro.LD, "d1")
    asm.op(Micro.SHL, count=12)
    _store_pair(asm, "d")
    asm.op(Micro.LDQ, 0)
    asm.op(Micro.LD, "places")
    asm.op(Micro.SUB, COUNT_BIAS)
    asm.op(Micro.SHL, count=16)
    asm.op(Micro.ST, "places")


def _root(asm: Routines) -> None:
    """``root = isqrt(d << 32)``, doubled: two bits of ``d`` and one of the root per turn."""
    _clear(asm, "rest0", "rest1", "root0", "root1")
    asm.copy(asm.constant(-_ROOT_BITS), "turns")
    asm.label("norm_root")
    _load_pair(asm, "rest")
    asm.op(Micro.SHL, count=2)
    asm.op(Micro.ST, "rest1")
    asm.op(Micro.LDQ, "d1")
    asm.op(Micro.LD, "rest0")
    asm.op(Micro.SHL, count=2)
    asm.op(Micro.ST, "rest0")
    _load_pair(asm, "d")
    asm.op(Micro.SHL, count=2)
    _store_pair(asm, "d")
    _load_pair(asm, "root")
    asm.op(Micro.SHL, count=1)
    _store_pair(asm, "root")
    asm.op(Micro.ADD, 1)
    asm.op(Micro.ST, "by0")
    asm.copy("root1", "by1")
    asm.call("norm_subtract")
    asm.jump_if(Condition.NEGATIVE, "norm_root_next")
    asm.add("root0", 2)
    asm.label("norm_root_next")
    asm.loop("turns", "norm_root")


def _reciprocal(asm: Routines) -> None:
    """``r = 2**80 // (root + 1)``."""
    _load_pair(asm, "root")
    asm.op(Micro.SHR, count=1)
    asm.op(Micro.ST, "by1")
    asm.op(Micro.SWAP)
    asm.op(Micro.ADD, 1)
    asm.op(Micro.ST, "by0")
    asm.op(Micro.LD, "by1")
    asm.op(Micro.ADC, 0)
    asm.op(Micro.ST, "by1")
    # 2**41 is less than the divisor; 39 bits are to come.
    _clear(asm, "rest0", "r0", "r1")
    asm.copy(asm.constant(1 << 9), "rest1")
    asm.copy(asm.constant(-_RECIPROCAL_BITS), "turns")
    asm.label("norm_divide")
    for name in ("r", "rest"):
        _load_pair(asm, name)
        asm.op(Micro.SHL, count=1)
        _store_pair(asm, name)
    asm.call("norm_subtract")
    asm.jump_if(Condition.NEGATIVE, "norm_divide_next")
    asm.add("r0", 1)
    asm.label("norm_divide_next")
    asm.loop("turns", "norm_divide")


def _pairs(asm: Routines) -> None:
    """Subroutine: ``rest -= by`` if that is not negative; A is negative otherwise."""
    asm.label("norm_subtract")
    asm.op(Micro.LD, "rest0")
    asm.op(Micro.SUB, "by0")
    asm.op(Micro.ST, "half")
    asm.op(Micro.LD, "rest1")
    asm.op(Micro.SBC, "by1")
    asm.jump_if(Condition.NEGATIVE, "norm_subtract_end")
    asm.op(Micro.ST, "rest1")
    asm.copy("half", "rest0")
    asm.op(Micro.LD, 0)
    asm.label("norm_subtract_end")
    asm.op(Micro.RET)


def _elements(asm: Routines) -> None:
    """``z`` of each element: ``a * r >> 25`` and what makes it no less than exact."""
    asm.call("row_again")
    asm.copy("target_row", "target")
    asm.copy("first_param", "param")
    asm.label("norm_element")
    asm.op(Micro.LDM, "source", inc=True)
    asm.op(Micro.LDQ, Source.MEM)
    asm.op(Micro.LD, 0)
    asm.op(Micro.MUL, "count", count=16, signed=True)
    asm.op(Micro.SHR, count=16, signed=True)
    asm.op(Micro.SWAP)
    asm.op(Micro.SUB, "total")
    asm.op(Micro.SETC, "places")
    asm.op(Micro.LDQ, 0)
    asm.op(Micro.SHL, counted=True)
    asm.op(Micro.ST, "value")
    # 96 bits: A, Q, product.
    asm.op(Micro.LDQ, "r0")
    asm.op(Micro.LD, 0)
    asm.op(Micro.MUL, "value", count=32)
    _store_q(asm, "product")
    _multiply_on(asm, "r1", "value", bits=8)
    _store_q(asm, "z0")
    asm.op(Micro.SHR, count=25, signed=True)
    asm.op(Micro.SWAP)
    asm.op(Micro.ST, "z1")
    asm.op(Micro.LDQ, "product")
    asm.op(Micro.LD, "z0")
    asm.op(Micro.SHR, count=25)
    asm.op(Micro.SWAP)
    asm.op(Micro.ST, "z0")
    # beta << 31, and gamma
    asm.op(Micro.LDT, "param", inc=True)
    asm.op(Micro.LD, Source.T)
    asm.op(Micro.LDQ, 0)
    asm.op(Micro.SHR, count=1, signed=True)
    _store_pair(asm, "beta")
    asm.op(Micro.LDT, "param", inc=True)
    asm.op(Micro.LD, Source.T)
    asm.op(Micro.SHL, count=16)
    asm.op(Micro.SHR, count=16, signed=True)
    asm.op(Micro.ST, "gamma")
    asm.jump_if(Condition.NEGATIVE, "norm_minus")
    asm.op(Micro.LD, "value")
    asm.op(Micro.SHR, count=24, signed=True)
    asm.op(Micro.MAX, 0)
    asm.op(Micro.ADD, 2)
    asm.goto("norm_more_z")
    asm.label("norm_minus")
    asm.op(Micro.LD, "value")
    asm.op(Micro.SHR, count=24, signed=True)
    asm.op(Micro.MIN, 0)
    asm.label("norm_more_z")
    asm.op(Micro.ST, "half")
    asm.op(Micro.SHR, count=31, signed=True)
    asm.op(Micro.ST, "sign")
    asm.op(Micro.LD, "z0")
    asm.op(Micro.ADD, "half")
    asm.op(Micro.ST, "z0")
    asm.op(Micro.LD, "z1")
    asm.op(Micro.ADC, "sign")
    asm.op(Micro.ST, "z1")


def _scale(asm: Routines) -> None:
    """``z * gamma + beta``, rounded and saturated."""
    asm.op(Micro.LDQ, "z0")
    asm.op(Micro.LD, 0)
    asm.op(Micro.MUL, "gamma", count=32)
    _store_q(asm, "z0")
    _multiply_on(asm, "z1", "gamma", bits=14)
    asm.op(Micro.SWAP)
    asm.op(Micro.ST, "z1")
    asm.op(Micro.LD, "z0")
    asm.op(Micro.ADD, "beta0")
    asm.op(Micro.ST, "z0")
    asm.op(Micro.LD, "z1")
    asm.op(Micro.ADC, "beta1")
    asm.op(Micro.SETC, Source.T)
    asm.op(Micro.LDQ, "z0")
    asm.op(Micro.SHR, counted=True, signed=True)
    asm.op(Micro.SHR, count=22 - COUNT_BIAS, signed=True)
    asm.jump_if(Condition.OVERFLOW, "norm_overflow")
    asm.op(Micro.SWAP)
    asm.label("norm_rounded")
    asm.op(Micro.AVG, 1)
    asm.op(Micro.ADD, "zero_point")
    asm.op(Micro.MAX, "low")
    asm.op(Micro.MIN, "high")
    asm.op(Micro.STM, "target", inc=True)
    asm.loop("elements", "norm_element")
    for role in ("source", "target"):
        asm.add(f"{role}_row", f"{role}_stride")
    asm.loop("rows", "norm_row")
    asm.done()
    asm.label("norm_overflow")
    asm.call("saturated")
    asm.goto("norm_rounded")
