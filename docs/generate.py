"""Writes the generated parts of the documentation: ``python docs/generate.py``.

In ``docs/instruction-set.md`` the text between ``<!-- generated: NAME -->`` and
``<!-- end -->`` is made from :mod:`intformer.isa`. ``tests/test_docs.py`` checks that the file is
up to date.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from field_texts import FIELDS, OPERATION_TEXTS

from intformer import isa

__all__ = ["PAGE", "render"]

PAGE = Path(__file__).parent / "instruction-set.md"
_PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_HEADER_TEXTS = {
    "op": "operation code",
    "reserved": "0",
    "pop": "token mask: units to wait for",
    "push": "token mask: units to tell when completed",
}
_COUNTER_TEXTS = {
    "cycles": "cycles with `busy` high",
    "busy": "cycles with an instruction in the unit",
    "wait": "cycles in which the unit is empty and its next instruction lacks a token",
    "stall": "cycles in which the unit holds an instruction and waits for a port, FIFO or memory",
    "array_rows": "activation words fed to the array, `rows * cols` MACs each",
    "read_beats": "beats read from external memory",
    "write_beats": "beats written to external memory",
}


def render(text: str) -> str:
    """``text`` with every generated part made anew.

    Raises
    ------
    KeyError
        If a part has no generator, or a field of the instruction set has no description.
    """
    return _PART.sub(lambda m: f"{m[1]}\n{_PARTS[m[2]]()}\n{m[3]}", text)


def _table(head: tuple[str, ...], rows: Iterator[tuple[object, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(str(cell) for cell in line) + " |\n" for line in lines)


def _units() -> str:
    def rows() -> Iterator[tuple[object, ...]]:
        for unit in isa.Unit:
            ops = ", ".join(op.name for op in isa.Op if op.unit is unit)
            yield unit.value, unit.name, ops

    return _table(("Bit", "Unit", "Operations"), rows())


def _codes() -> str:
    def rows() -> Iterator[tuple[object, ...]]:
        for op in isa.Op:
            *_, (field, offset) = isa.field_offsets(op)
            unit = "sequencer" if op.unit is None else op.unit.name
            yield op.value, f"[{op.name}](#{op.name.lower()})", unit, offset + field.width

    return _table(("Code", "Operation", "Unit", "Bits used of 256"), rows())


def _memories() -> str:
    return _table(("Code", "Memory"), ((mem.value, f"`{mem.name.lower()}`") for mem in isa.Mem))


def _fields(fields: Iterator[tuple[isa.Field, int]], texts: dict[str, str]) -> str:
    def rows() -> Iterator[tuple[object, ...]]:
        for field, offset in fields:
            top = offset + field.width - 1
            bits = f"{top}:{offset}" if field.width > 1 else offset
            kind = f"{'s' if field.signed else 'u'}{field.width}"
            yield bits, f"`{field.name}`", kind, texts[field.name]

    return _table(("Bits", "Field", "Type", "Meaning"), rows())


def _header() -> str:
    fields = isa.field_offsets(isa.Op.END)
    return _fields(fields, _HEADER_TEXTS)


def _operations() -> str:
    parts = []
    for op in isa.Op:
        body = ((f, o) for f, o in isa.field_offsets(op) if o >= isa.HEADER_BITS)
        part = f"### {op.name}\n\nCode {op.value}. {OPERATION_TEXTS[op]}\n"
        if isa.OPERATIONS[op]:
            part += "\n" + _fields(body, FIELDS[op])
        parts.append(part)
    return "\n".join(parts)


def _counters() -> str:
    def rows() -> Iterator[tuple[object, ...]]:
        for address, name in enumerate(isa.COUNTERS):
            text = _COUNTER_TEXTS.get(name) or _COUNTER_TEXTS[name.rpartition("_")[2]]
            yield address, f"`{name}`", text

    return _table(("Address", "Counter", "Counts"), rows())


_PARTS: dict[str, Callable[[], str]] = {
    "units": _units,
    "codes": _codes,
    "memories": _memories,
    "header": _header,
    "operations": _operations,
    "counters": _counters,
}


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
