"""The instruction encoding."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intformer.isa import (
    HEADER_BITS,
    INSTRUCTION_BYTES,
    OPERATIONS,
    Instruction,
    Mem,
    Op,
    Unit,
    decode,
    field_offsets,
)


@st.composite
def instructions(draw: st.DrawFn) -> Instruction:
    """Any instruction, every field anywhere in its range."""
    op = draw(st.sampled_from(list(Op)))
    fields = {}
    for field in OPERATIONS[op]:
        low = -(1 << (field.width - 1)) if field.signed else 0
        high = (1 << (field.width - field.signed)) - 1
        value = st.one_of(st.sampled_from([low, high]), st.integers(low, high))
        fields[field.name] = draw(value)
    masks = st.integers(0, 255)
    return Instruction(op, fields, pop=draw(masks), push=draw(masks))


@given(instructions())
def test_decode_inverts_encode(instruction):
    data = instruction.encode()
    assert len(data) == INSTRUCTION_BYTES
    assert decode(data) == instruction


@pytest.mark.parametrize("op", Op)
def test_fields_fit_and_do_not_overlap(op):
    end = 0
    for field, offset in field_offsets(op):
        assert offset == end and field.width > 0
        end += field.width
    assert HEADER_BITS <= end <= 8 * INSTRUCTION_BYTES
    assert len({f.name for f in OPERATIONS[op]}) == len(OPERATIONS[op])


def test_known_encoding():
    load = Instruction(Op.LOAD, {"mem": Mem.PARAM, "addr": 5, "count": 3, "ext": 0x100}, push=8)
    word = 1 | 8 << 16 | 2 << 24 | 5 << 27 | 3 << 45 | 0x100 << 67
    assert load.encode() == word.to_bytes(32, "little")


def test_fields_that_are_not_given_are_zero():
    move = decode(Instruction(Op.MOVE, {"n0": 7}).encode())
    assert move["n0"] == 7 and move["src"] == 0 and move["no_such_field"] == 0


@pytest.mark.parametrize(
    ("field", "value", "range_"), [("lo", -32769, "-32768 to 32767"), ("tail", 32, "0 to 31")]
)
def test_value_outside_field(field, value, range_):
    with pytest.raises(ValueError, match=rf"POST_ACC.{field} must be from {range_}, not {value}"):
        Instruction(Op.POST_ACC, {field: value}).encode()


def test_unknown_field():
    with pytest.raises(ValueError, match="END has no field 'rows'"):
        Instruction(Op.END, {"rows": 1}).encode()


def test_unknown_operation():
    with pytest.raises(ValueError, match="15"):
        decode(b"\x0f" + bytes(31))


def test_every_operation_has_a_unit_but_end():
    assert {op for op in Op if op.unit is None} == {Op.END}
    assert {op.unit for op in Op} - {None} == set(Unit)
