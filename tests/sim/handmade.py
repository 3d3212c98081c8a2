"""Small hand-written programs for the simulator's tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from intformer import reference
from intformer.config import CoreConfig
from intformer.isa import INSTRUCTION_BYTES, Instruction, Mem, Op, Unit
from intformer.program import ExternalTensor, Production, Program, Step

CONFIG = CoreConfig(name="test", rows=4, cols=4, lanes=2, act_words=256, wide_words=256)
ENTRY = 0x2000
WEIGHTS, PARAMS, INPUT, OUTPUT = 0x0, 0x400, 0x800, 0xC00


def bit(*units: Unit) -> int:
    """Token mask of ``units``."""
    return sum(1 << unit for unit in units)


def program(
    instructions: list[tuple[Instruction, str | None]],
    *,
    image: dict[int, bytes],
    inputs: list[ExternalTensor],
    outputs: list[ExternalTensor],
    productions: list[Production] = (),  # type: ignore[assignment]
    config: CoreConfig = CONFIG,
) -> Program:
    """Put instructions (with the tensors that they write), END and data into an image."""
    steps = [Step(ins, ins.op.name.lower(), tensor) for ins, tensor in instructions]
    steps.append(Step(Instruction(Op.END, {}), "end"))
    code = b"".join(step.instruction.encode() for step in steps)
    prefetched = 8 * INSTRUCTION_BYTES  # past END, by the sequencer
    memory = np.zeros(ENTRY + len(code) + prefetched, np.uint8)
    for address, data in {**image, ENTRY: code}.items():
        memory[address : address + len(data)] = np.frombuffer(data, np.uint8)
    return Program(
        config=config,
        steps=steps,
        image=memory,
        memory_bytes=memory.size,
        entry=ENTRY,
        regions=[],
        inputs=inputs,
        outputs=outputs,
        productions={p.tensor: p for p in productions},
    )


def linear_case(
    *, tokens: bool = True, multiplier: int = 7000
) -> tuple[Program, dict[str, Any], dict[str, Any]]:
    """One 5 x 7 -> 6 layer (two tiles each way): program, inputs and reference values.

    ``tokens=False`` drops the token from LOAD to MATMUL.
    """
    rng = np.random.default_rng(7)
    x = rng.integers(-128, 128, (5, 7)).astype(np.int8)
    w = rng.integers(-128, 128, (6, 7)).astype(np.int8)
    w[3, 5] = -128
    bias = rng.integers(-3000, 3000, 6)
    mult, shift = rng.integers(2000, 8000, 6), np.full(6, 18)
    mult[2] = 7000
    y = reference.post(
        reference.matmul(x, w), bias=bias, mult=mult, shift=shift, lo=-128, hi=127
    ).astype(np.int8)
    mult = mult.copy()
    mult[2] = multiplier
    source = ExternalTensor("x", INPUT, (5, 7), "int8", 8, 1.0, 0)
    target = ExternalTensor("y", OUTPUT, (5, 6), "int8", 8, 1.0, 0)
    instructions = [
        (_load(Mem.PARAM, 0, 3, PARAMS, push=bit(Unit.POST)), None),
        (_load(Mem.ACT, 0, 20, INPUT, push=bit(Unit.MATMUL) if tokens else 0), "x"),
        (Instruction(Op.FETCH_STREAM, {"ext": WEIGHTS, "columns": 16}), None),
        *(_tile(nt, pop=bit(Unit.DMA) if tokens and nt == 0 else 0) for nt in range(2)),
        (_post(0, pop=bit(Unit.DMA, Unit.MATMUL)), "y"),
        (_post(1, pop=bit(Unit.MATMUL), push=bit(Unit.DMA)), "y"),
        (
            Instruction(
                Op.STORE,
                {"mem": Mem.ACT, "addr": 32, "count": 20, "ext": OUTPUT},
                pop=bit(Unit.POST),
            ),
            None,
        ),
    ]
    made = program(
        instructions,
        image={WEIGHTS: _weight_stream(w), PARAMS: _parameters(bias, mult, shift)},
        inputs=[source],
        outputs=[target],
        productions=[
            Production("x", Mem.ACT, _positions(0, 5, 7), (1,)),
            Production("y", Mem.ACT, _positions(32, 5, 6), (5, 6)),
        ],
    )
    return made, {"x": x}, {"x": x, "w": w, "y": y}


def _positions(word: int, rows: int, n: int) -> Any:
    return (word + 2 * np.arange(rows)[:, None]) * 4 + np.arange(n)


def _load(mem: Mem, addr: int, count: int, ext: int, *, push: int) -> Instruction:
    fields = {"mem": mem, "addr": addr, "count": count, "ext": ext}
    return Instruction(Op.LOAD, fields, push=push)


def _tile(nt: int, *, pop: int) -> tuple[Instruction, None]:
    fields = {"base": 0, "stride": 2, "rows": 5, "k_tiles": 2, "acc": 8 * nt}
    return Instruction(Op.MATMUL, fields, pop=pop, push=bit(Unit.POST)), None


def _post(nt: int, *, pop: int, push: int = 0) -> Instruction:
    fields = {
        "rows": 5,
        "groups": 2 - nt,
        "tail": 2,
        "src": 8 * nt,
        "src_stride": 1,
        "dst_mem": Mem.ACT,
        "dst": 32 + nt,
        "dst_stride": 2,
        "param": 2 * nt,
        "param_step": 1,
        "lo": -128,
        "hi": 127,
    }
    return Instruction(Op.POST_ACC, fields, pop=pop, push=push)


def _weight_stream(w: Any) -> bytes:
    padded = np.zeros((8, 8), np.int8)
    padded[: w.shape[0], : w.shape[1]] = w
    # [nt, c, kt, r] -> [nt, kt, last column first, r]
    return padded.reshape(2, 4, 2, 4).transpose(0, 2, 1, 3)[:, :, ::-1].tobytes()


def _parameters(bias: Any, mult: Any, shift: Any) -> bytes:
    entry = np.dtype([("bias", "<i4"), ("mult", "<i2"), ("shift", "u1"), ("zero", "u1")])
    data = np.zeros(bias.size, entry)
    data["bias"], data["mult"], data["shift"] = bias, mult, shift
    return data.tobytes()
