"""QDQ models written by ONNX Runtime, on the core: accumulators exact, codes compared.

``python -m intformer.bench.onnx_models`` exports a digits ViT, a small BERT and a MobileViT, lets
``quantize_static`` quantize them in several ways, and keeps the figures in
``docs/results/onnx.{json,md}``.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import intformer
from intformer.bench.onnx_compare import Comparison, Difference, compare
from intformer.errors import Mismatch
from intformer.results import markdown_table, record

__all__ = ["MODELS", "VARIANTS", "compare_models", "main"]

Array = NDArray[Any]
Samples = dict[str, Array]

LINEAR = ("Conv, constant weights", "Gemm, constant weights", "MatMul, constant weights")
SAME = (*LINEAR, "Add", "Gather", "MatMul of two computed tensors", "Mul")
"""Operations that both compute on the same codes and round once."""
FLOAT = {
    "GELU": "several float operations, quantized in between; the core: one table of 256 entries",
    "SiLU": "sigmoid and product, quantized in between; the core: one table of 256 entries",
    "LayerNormalization": "float; the core: integers, correctly rounded",
    "MatMul of probabilities": "the operand has another coding, see Softmax",
    "ReduceMean": "float; the core: a product with ones",
    "Softmax": "float, quantized with the file's scale; the core: uint8 with scale 1/256",
    "Tanh": "float; the core: a table of 256 entries",
}
VARIANTS: dict[str, dict[str, Any]] = {
    "s8 activations, s8 weights per channel": {"activation": "QInt8", "per_channel": True},
    "u8 activations, u8 weights": {"activation": "QUInt8", "weight": "QUInt8"},
    "s8 symmetric activations, s8 weights": {"activation": "QInt8", "symmetric": True},
}


def _digits(factory: str, folder: Path, count: int) -> tuple[Path, Samples]:
    from examples.digits_mobilevit.model import digits_mobilevit
    from examples.digits_vit.data import data
    from examples.digits_vit.model import digits_vit

    module, inputs = {"vit": digits_vit, "mobilevit": digits_mobilevit}[factory]()
    path = folder / f"{factory}.onnx"
    _export(module, inputs, path, ["images"], ["logits"])
    return path, {"images": data()[0][:count, None]}


def _bert(folder: Path, count: int) -> tuple[Path, Samples]:
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        attn_implementation="eager",
    )

    class Hidden(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = BertModel(config, add_pooling_layer=False)

        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            return self.bert(input_ids=input_ids).last_hidden_state

    module = Hidden().eval()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("bias"):
                parameter.copy_(0.1 * torch.randn(parameter.shape))
    path = folder / "bert.onnx"
    _export(module, (torch.zeros(1, 12, dtype=torch.long),), path, ["input_ids"], ["hidden"])
    rng = np.random.default_rng(0)
    return path, {"input_ids": rng.integers(0, 100, (count, 1, 12))}


MODELS = {
    "digits ViT": lambda folder, count: _digits("vit", folder, count),
    "BERT, 2 layers of 32": _bert,
    "digits MobileViT": lambda folder, count: _digits("mobilevit", folder, count),
}


def _export(module: Any, inputs: Any, path: Path, names: list[str], results: list[str]) -> None:
    """Export, and ONNX Runtime's own preparation for quantization."""
    import torch
    from onnxruntime.quantization.shape_inference import quant_pre_process

    raw = path.with_suffix(".raw.onnx")
    with _quiet():
        torch.onnx.export(
            module,
            inputs,
            str(raw),
            input_names=names,
            output_names=results,
            dynamo=False,
            opset_version=17,
        )
        quant_pre_process(raw, path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def quantized(source: Path, target: Path, samples: Samples, variant: dict[str, Any]) -> None:
    """Let ``quantize_static`` write a QDQ model."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            count = len(next(iter(samples.values())))
            self._runs = iter([{n: a[i] for n, a in samples.items()} for i in range(count)])

        def get_next(self) -> Any:
            return next(self._runs, None)

    with _quiet():
        quantize_static(
            source,
            target,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=variant.get("per_channel", False),
            activation_type=getattr(QuantType, variant["activation"]),
            weight_type=getattr(QuantType, variant.get("weight", "QInt8")),
            extra_options={"ActivationSymmetric": variant.get("symmetric", False)},
        )


def compare_models(
    count: int, *, models: list[str] | None = None, config: str = "16x16"
) -> dict[str, Any]:
    """Compare every model in every variant over ``count`` samples.

    The first variant of each model is also compiled for ``config`` and simulated.

    Raises
    ------
    Mismatch
        If an accumulator differs, or the simulator's result from the reference's.
    """
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for model in models or list(MODELS):
            source, samples = MODELS[model](folder, 3 * count)
            fit = {n: a[:count] for n, a in samples.items()}
            test = {n: a[count : 2 * count] for n, a in samples.items()}
            for number, (variant, options) in enumerate(VARIANTS.items()):
                path = source.with_suffix(f".{number}.onnx")
                quantized(source, path, fit, options)
                found = compare(path, test)
                row = _row(model, variant, found)
                if number == 0:
                    row["simulated"] = _simulated(path, test, config)
                rows.append(row)
                share = row["linear"]["share"]
                print(f"{model}; {variant}: {len(found.layers)} layers, {share:.5f}", flush=True)
    return {"samples": count, "config": config, "rows": rows}


def _simulated(path: Path, samples: Samples, config: str) -> int:
    """Cycles of a run on the instruction-level simulator, every tensor equal to the reference."""
    model = intformer.compile(path, config=config)
    inputs = {name: array[:2].reshape(-1, *array.shape[2:]) for name, array in samples.items()}
    report = model.verify(inputs, levels=("iss",))
    if not report.ok:
        raise Mismatch(report.text())
    cycles = model.run(inputs, on="iss").cycles
    return sum(cycles) // len(cycles)


def _row(model: str, variant: str, found: Comparison) -> dict[str, Any]:
    linear, same = Difference(), Difference()
    for operation, difference in found.operations.items():
        for total, group in ((linear, LINEAR), (same, SAME)):
            if operation in group:
                total.codes += difference.codes
                total.equal += difference.equal
                total.one_apart += difference.one_apart
                total.largest = max(total.largest, difference.largest)
    return {
        "model": model,
        "variant": variant,
        "layers": len(found.layers),
        "accumulators": found.accumulators,
        "linear": _figures(linear),
        "same": _figures(same),
        "outputs": _figures(found.outputs),
        "operations": {name: _figures(d) for name, d in sorted(found.operations.items())},
    }


def _figures(difference: Difference) -> dict[str, Any]:
    return {
        "codes": difference.codes,
        "equal": difference.equal,
        "one_apart": difference.one_apart,
        "largest": difference.largest,
        "share": difference.share,
    }


def _percent(figures: dict[str, Any]) -> str:
    return f"{100 * figures['share']:.3f} %"


def markdown(figures: dict[str, Any]) -> str:
    """The figures as a page."""
    rows = figures["rows"]
    summary = markdown_table(
        [
            "Model",
            "Quantization",
            "Layers",
            "Accumulators, all equal",
            "Linear layers' codes equal",
            "Same operation: codes equal",
            "Largest distance",
            "Outputs equal",
            "Largest",
        ],
        [
            [
                r["model"],
                r["variant"],
                r["layers"],
                f"{r['accumulators']:,}",
                _percent(r["linear"]),
                _percent(r["same"]),
                r["same"]["largest"],
                _percent(r["outputs"]),
                r["outputs"]["largest"],
            ]
            for r in rows
        ],
    )
    names = sorted({name for r in rows for name in r["operations"]})
    lines = []
    for name in names:
        parts = [r["operations"][name] for r in rows if name in r["operations"]]
        codes, equal = (sum(p[k] for p in parts) for k in ("codes", "equal"))
        what = FLOAT.get(name, "the same")
        lines.append(
            [
                name,
                f"{codes:,}",
                f"{100 * equal / codes:.3f} %",
                max(p["largest"] for p in parts),
                what,
            ]
        )
    operations = markdown_table(
        ["Operation of ONNX Runtime", "Codes", "Equal", "Largest distance", "What it computes"],
        lines,
    )
    cycles = markdown_table(
        ["Model", f"Cycles per run, {figures['config']}"],
        [[r["model"], f"{r['simulated']:,}"] for r in rows if "simulated" in r],
    )
    return f"""# QDQ models of ONNX Runtime

`make bench-onnx`: models exported by `torch.onnx.export`, prepared by `quant_pre_process`,
quantized by `quantize_static` (QDQ), compiled for the core. {figures["samples"]} samples each.

{summary}

Accumulators, bias included, are compared with ONNX Runtime's MatMulInteger and ConvInteger on the
file's codes, for every linear layer and convolution. Codes: every operation gets the codes that
ONNX Runtime (`ORT_DISABLE_ALL`) has in its place, and its result is compared with ONNX Runtime's,
in steps of the output. The multiplier has 16 bits, so a few codes next to a rounding boundary fall
on its other side. Outputs: the whole model from its inputs on, all differences together.

{operations}

The first quantization of each model also runs on the instruction-level simulator, every tensor
equal to the reference:

{cycles}
"""


def main(argv: list[str] | None = None) -> int:
    """Compare, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m intformer.bench.onnx_models")
    parser.add_argument("--samples", type=int, default=32, help="samples per model (32)")
    parser.add_argument("--model", action="append", choices=list(MODELS), help="only this one")
    parser.add_argument("--config", default="16x16", help="core to simulate (16x16)")
    parser.add_argument("--no-record", action="store_true", help="keep nothing in docs/results")
    args = parser.parse_args(argv)
    try:
        figures = compare_models(args.samples, models=args.model, config=args.config)
    except Mismatch as error:
        print(error, file=sys.stderr)
        return 1
    print(markdown(figures))
    if not args.no_record:
        record("onnx", figures, markdown(figures))
    bad = [r for r in figures["rows"] if r["linear"]["share"] < 0.999 or r["same"]["largest"] > 1]
    for row in bad:
        print(
            f"{row['model']}; {row['variant']}: below 99.9 %, or two steps apart", file=sys.stderr
        )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
