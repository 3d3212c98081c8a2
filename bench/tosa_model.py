"""Run RESCALE on Arm's TOSA reference model; a program for the environment of ``tosa-tools``.

``python tosa_model.py CASES.npz RESULTS.npz``. The case ``k`` has ``x_k`` (int32, ``[rows,
channels]``), ``mult_k`` (int32) and ``shift_k`` (int8) per channel, ``zero_k`` and ``type_k``; its
result is ``y_k``. :mod:`intformer.bench.oracle_tosa` calls it.
"""

import sys
import tempfile

import numpy as np
import serializer.tosa_serializer as ts  # type: ignore[import-not-found]
import tosa_reference_model  # type: ignore[import-not-found]
from tosa.RoundingMode import RoundingMode  # type: ignore[import-not-found]

DTYPES = {
    "int8": (ts.DType.INT8, np.int8),
    "int16": (ts.DType.INT16, np.int16),
    "int32": (ts.DType.INT32, np.int32),
}


def rescale(x, mult, shift, zero, o_type):
    """The reference model's RESCALE with single rounding, per channel."""
    dtype, array = DTYPES[o_type]
    with tempfile.TemporaryDirectory() as folder:
        graph = ts.TosaSerializer(folder)
        values = graph.addPlaceholder(list(x.shape), ts.DType.INT32, x)
        multiplier = graph.addConst([len(mult)], ts.DType.INT32, mult)
        shifts = graph.addConst([len(shift)], ts.DType.INT8, shift)
        x_zero = graph.addConst([1], ts.DType.INT32, np.array([0]))
        y_zero = graph.addConst([1], dtype, np.array([zero]).astype(array))
        result = graph.addOutput(list(x.shape), dtype)
        attribute = ts.TosaSerializerAttribute()
        attribute.RescaleAttribute(True, RoundingMode.SINGLE_ROUND, True, False, False)
        inputs = [tensor.name for tensor in (values, multiplier, shifts, x_zero, y_zero)]
        graph.addOperator(ts.Op.RESCALE, inputs, [result.name], attribute)
        (y,), status = tosa_reference_model.run(bytes(graph.serialize()), [x])
    if status != tosa_reference_model.GraphStatus.TOSA_VALID:
        raise SystemExit(f"the reference model says {status}")
    return np.frombuffer(np.ascontiguousarray(y).tobytes(), dtype=array).reshape(x.shape)


def main():
    cases = np.load(sys.argv[1])
    count = sum(name.startswith("x_") for name in cases.files)
    np.savez(
        sys.argv[2],
        **{
            f"y_{k}": rescale(
                cases[f"x_{k}"],
                cases[f"mult_{k}"],
                cases[f"shift_{k}"],
                int(cases[f"zero_{k}"]),
                str(cases[f"type_{k}"]),
            )
            for k in range(count)
        },
    )


if __name__ == "__main__":
    main()
