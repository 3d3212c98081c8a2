"""Verification: faults in a run are found and named."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from handmade import linear_case

from intformer.errors import Mismatch
from intformer.sim.iss.simulator import Iss
from intformer.sim.verify import check, verify_levels


def _run():
    made, inputs, values = linear_case()
    return made, values, Iss(made).run(inputs)


def test_equal_run():
    made, values, result = _run()
    report = verify_levels(made, values, {"iss": result})["iss"]
    assert report.ok and report.tensors == 2 and report.elements == 35 + 30 + 30
    assert str(report) == "iss: 2 tensors, 95 elements compared, all equal"
    report.raise_if_different()


def test_wrong_multiplier_names_first_element():
    made, inputs, values = linear_case(multiplier=6000)
    report = check(made, values, Iss(made).run(inputs), level="iss")
    assert not report.ok
    first = report.first
    assert (first.kind, first.tensor, first.step, first.op) == ("wrong", "y", 5, "POST_ACC")
    assert first.index[1] == 2
    assert first.expected == values["y"][first.index] != first.got
    with pytest.raises(Mismatch, match=r"'y' element \[\d, 2\]: wrong, expected"):
        report.raise_if_different()


def test_dropped_token():
    made, inputs, values = linear_case(tokens=False)
    report = check(made, values, Iss(made).run(inputs))
    assert report.first.tensor == "y" and report.first.step == 5


def _without(log, keep):
    return type(log)(**{k: v[keep] for k, v in vars(log).items()})


def test_unwritten_element():
    made, values, result = _run()
    log = result.log
    gone = np.flatnonzero(log.step == 6)[3]
    result.log = _without(log, np.arange(log.step.size) != gone)
    report = check(made, values, result)
    assert report.mismatches == 1
    assert (report.first.kind, report.first.index) == ("unwritten", (1, 5))


def test_stray_write():
    made, values, result = _run()
    log = result.log
    position = log.position.copy()
    position[-1] += 1  # lane 3 of the row's last word: past its end
    result.log = dataclasses.replace(log, position=position)
    report = check(made, values, result)
    assert report.counts == {"y": 2}  # one stray, one unwritten
    assert report.first.kind == "stray"


def test_wrong_output_only():
    made, values, result = _run()
    result.outputs["y"] = result.outputs["y"].copy()
    result.outputs["y"][4, 5] ^= 1
    report = check(made, values, result)
    assert report.first.kind == "output" and report.first.index == (4, 5)


def test_missing_reference_tensor():
    made, values, result = _run()
    del values["y"]
    with pytest.raises(ValueError, match="no tensor 'y'"):
        check(made, values, result)
