"""The simulator against the RTL on a hand-written program: values equal, cycles close."""

from __future__ import annotations

import pytest
from handmade import linear_case

from intformer.sim.iss.simulator import Iss
from intformer.sim.report import side_by_side
from intformer.sim.rtl import RtlSimulator
from intformer.sim.verify import verify_levels


@pytest.mark.rtl
def test_linear_layer():
    made, inputs, values = linear_case()
    results = {
        "iss": Iss(made).run(inputs),
        "rtl": RtlSimulator(made.config).run(made, [inputs])[0],
    }
    for report in verify_levels(made, values, results).values():
        report.raise_if_different()
    assert abs(side_by_side(results)["deviation"]["iss"]) < 0.05
    for name in ("array_rows", "read_beats", "write_beats"):
        assert results["iss"].counters[name] == results["rtl"].counters[name]
