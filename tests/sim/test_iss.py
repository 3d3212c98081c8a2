"""The instruction-level simulator on hand-written programs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from handmade import CONFIG, bit, linear_case, program

from intformer.isa import COUNTERS, Instruction, Mem, Op, Unit
from intformer.sim.iss.simulator import Iss, SimulationError


def _replace(made, index, **changes):
    """The program with other fields, ``pop`` or ``push`` in one of its instructions."""
    step = made.steps[index]
    ins = step.instruction
    masks = {name: changes.pop(name) for name in ("pop", "push") if name in changes}
    ins = dataclasses.replace(ins, fields={**ins.fields, **changes}, **masks)
    made.steps[index] = dataclasses.replace(step, instruction=ins)
    start = made.entry + 32 * index
    made.image[start : start + 32] = np.frombuffer(ins.encode(), np.uint8)
    return made


@pytest.mark.parametrize("seed", range(3))
def test_linear_layer_equals_reference(seed):
    made, inputs, values = linear_case()
    result = Iss(made, seed=seed).run(inputs)
    np.testing.assert_array_equal(result.outputs["y"], values["y"])
    assert set(result.counters) == set(COUNTERS)
    assert result.counters["array_rows"] == 20
    assert result.counters["write_beats"] == 10
    assert result.counters["cycles"] == result.cycles


def test_a_packed_array_refuses_a_weight_of_minus_128():
    made, inputs, values = linear_case()
    assert values["w"].min() == -128
    made.config = dataclasses.replace(made.config, array="dsp_packed")
    with pytest.raises(SimulationError, match=r"step \d+ \(MATMUL, .*weight -128: "):
        Iss(made).run(inputs)


def test_missing_token_reads_stale_data():
    made, inputs, values = linear_case(tokens=False)
    result = Iss(made).run(inputs)
    assert not np.array_equal(result.outputs["y"], values["y"])


def test_token_never_given_deadlocks():
    made, inputs, _ = linear_case()
    _replace(made, 0, push=0)
    with pytest.raises(SimulationError, match=r"deadlock(.|\n)*POST holds back step 5.*DMA"):
        Iss(made).run(inputs)


def test_token_never_taken():
    made, inputs, _ = linear_case()
    _replace(made, 1, push=bit(Unit.MATMUL, Unit.MOVE))
    with pytest.raises(SimulationError, match="1 tokens from DMA to MOVE were never taken"):
        Iss(made).run(inputs)


def test_missing_columns_deadlock():
    made, inputs, _ = linear_case()
    _replace(made, 2, columns=12)
    with pytest.raises(SimulationError, match="MATMUL cannot finish step 4"):
        Iss(made).run(inputs)


def test_leftover_columns():
    made, inputs, _ = linear_case()
    _replace(made, 2, columns=20)
    with pytest.raises(SimulationError, match=r"step 2 .* put 4 weight columns"):
        Iss(made).run(inputs)


def test_address_outside_memory():
    made, inputs, _ = linear_case()
    _replace(made, 3, base=254)
    with pytest.raises(SimulationError, match=r"step 3 \(MATMUL.* act element .* outside 0..1023"):
        Iss(made).run(inputs)


def test_image_and_steps_must_agree():
    made, inputs, _ = linear_case()
    made.image[made.entry + 32 * 5 + 8] ^= 1
    with pytest.raises(SimulationError, match="step 5: the image holds"):
        Iss(made).run(inputs)


def test_token_overflow():
    nop = Instruction(
        Op.MOVE, {"mem": Mem.ACT, "n0": 1, "n1": 1, "n2": 1, "dst": 1}, push=bit(Unit.POST)
    )
    made = program([(nop, None)] * 256, image={}, inputs=[], outputs=[])
    with pytest.raises(SimulationError, match="more than 255 tokens from MOVE to POST"):
        Iss(made).run({})


def test_missing_input():
    made, _, _ = linear_case()
    with pytest.raises(ValueError, match="input 'x' is missing"):
        Iss(made).run({})


def test_move_transposes_across_words():
    fields = {"mem": Mem.ACT, "n0": 5, "n1": 6, "n2": 1, "dst": 32}
    # 5 rows of 6 in two words each -> 6 rows of 5 in two words each
    fields |= {"s0": 2, "s1_lane": 1, "d0_lane": 1, "d1": 2}
    made, inputs, _ = linear_case()
    move = Instruction(Op.MOVE, fields, pop=bit(Unit.DMA))
    load = {"mem": Mem.ACT, "addr": 0, "count": 20, "ext": made.inputs[0].address}
    made = program(
        [(Instruction(Op.LOAD, load, push=bit(Unit.MOVE)), "x"), (move, "t")],
        image={},
        inputs=made.inputs,
        outputs=[],
    )
    log = Iss(made).run(inputs).log
    mine = log.step == 1
    got = np.zeros(CONFIG.act_words * CONFIG.rows, np.uint8)
    got[log.position[mine]] = log.value[mine]
    rows = got[32 * 4 : 44 * 4].reshape(6, 8)[:, :5].view(np.int8)
    np.testing.assert_array_equal(rows, inputs["x"][:, :6].T)
