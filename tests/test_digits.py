"""The demo's model: accuracy of the integer reference, and every tensor on the RTL."""

import graphs
import numpy as np
import pytest

import intformer
from examples.digits_vit.data import calibration_images, test_split

MODEL = "examples.digits_vit.model:digits_vit"
CONFIGS = {config.name: config for config in graphs.CONFIGS}


def compiled(config: str, weights: str) -> intformer.CompiledModel:
    return intformer.compile(
        MODEL,
        config=CONFIGS[config],
        calibrate={"images": calibration_images()},
        weights=weights,
    )


@pytest.mark.parametrize(("weights", "least"), [("int8", 0.98), ("int4", 0.97)])
def test_accuracy_of_integer_reference(weights: str, least: float) -> None:
    images, labels = test_split()
    (logits,) = compiled("r4c4", weights).run({"images": images}).outputs.values()
    assert (logits.argmax(axis=-1) == labels).mean() >= least


@pytest.mark.rtl
@pytest.mark.parametrize(
    ("config", "weights", "simulator"),
    [
        ("r4c4", "int8", "verilator"),
        ("r8c4p", "int8", "verilator"),
        ("r8c4p", "int4", "verilator"),
        ("r6c10", "int8", "verilator"),
        ("r6c10", "int4", "icarus"),
    ],
)
def test_every_tensor_on_rtl(config: str, weights: str, simulator: str) -> None:
    images, _ = test_split()
    model = compiled(config, weights)
    report = model.verify({"images": images[:1]}, levels=("iss", "rtl"), simulator=simulator)
    assert report.ok, report.text()
    assert report.figures()["tensors_compared"] >= 60
    assert abs(report.figures()["cycle_model_error"]) < 0.05
    # The host only gave codes and took codes: the logits are the core's.
    expected = model.run({"images": images[:1]})
    for name, codes in expected.codes.items():
        np.testing.assert_array_equal(report.level("rtl").outputs[name], expected.outputs[name])
        assert codes.dtype == np.int16
