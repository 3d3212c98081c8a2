"""Networks of convolutions and transformers, and MobileBERT: accuracy, size, equality.

``python -m intformer.bench.hybrid`` (``make bench-hybrid``) keeps the figures in
``docs/results/hybrid.{json,md}``. Exit status 1 if any tensor differs from the reference.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

import numpy as np

import intformer
from intformer.bench import mobilebert
from intformer.cli import Progress
from intformer.config import CoreConfig
from intformer.results import markdown_table, record
from intformer.running import run_model

__all__ = ["digits", "hugging_face", "main", "markdown", "mobilevit"]

MODEL = "examples.digits_mobilevit.model:digits_mobilevit"
SEED = 0
_LEVEL = ("tensors_compared", "elements_compared", "mismatches", "cycles_per_run", "utilization")

WIDE_CORE = CoreConfig(
    name="simulation", rows=16, cols=16, lanes=4, act_words=1 << 15, wide_words=1 << 15
)
"""For Hugging Face's MobileViT, in the simulator alone."""


def digits(progress: Any, *, images: int, config: str = "8x8") -> dict[str, Any]:
    """The digits MobileViT: accuracy over the test split, equality over some images.

    The integer reference runs all test images; the simulator and the RTL ``images`` of them.
    """
    import torch

    from examples.digits_mobilevit.model import digits_mobilevit
    from examples.digits_vit.data import calibration_images, test_split

    pictures, labels = test_split()
    module, _ = digits_mobilevit()
    with torch.no_grad():
        exact = module(torch.from_numpy(pictures)).numpy().argmax(axis=-1)
    chosen = np.random.default_rng(SEED).permutation(len(pictures))[:images]
    figures: dict[str, Any] = {
        "test_images": len(pictures),
        "images": images,
        "config": config,
        "parameters": sum(p.numel() for p in module.parameters()),
        "accuracy": {"float": round(float((exact == labels).mean()), 4)},
        "levels": {},
        "ok": True,
    }
    for name, weights in (("W8A8", "int8"), ("W4A8", "int4")):
        progress(f"digits MobileViT, {name}: the integer reference on {len(pictures)} images")
        model = intformer.compile(
            MODEL, config=config, calibrate={"images": calibration_images()}, weights=weights
        )
        (logits,) = run_model(model, {"images": pictures}).outputs.values()
        answers = logits.argmax(axis=-1)
        figures["accuracy"][name] = round(float((answers == labels).mean()), 4)
        figures["accuracy"][f"{name} as float"] = round(float((answers == exact).mean()), 4)
        report = model.verify(
            {"images": pictures[chosen]}, levels=("iss", "rtl"), progress=progress
        )
        figures["ok"] &= report.ok
        figures["levels"][name] = {
            level: {key: entry[key] for key in _LEVEL}
            for level, entry in report.figures()["levels"].items()
        }
        figures["macs"] = model.graph.macs()
    return figures


def mobilevit() -> Any:
    """Hugging Face's MobileViT for image classification, small, with random weights."""
    import torch
    from transformers import MobileViTConfig, MobileViTForImageClassification

    torch.manual_seed(SEED)
    config = MobileViTConfig(
        image_size=64,
        neck_hidden_sizes=[8, 8, 16, 16, 16, 16, 32],
        hidden_sizes=[16, 24, 32],
        num_attention_heads=2,
        mlp_ratio=2.0,
        expand_ratio=2.0,
        num_labels=5,
    )
    model = MobileViTForImageClassification(config).eval()
    for part in model.modules():  # as after training: nothing at its initial value
        if isinstance(part, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(part.weight, 1.0, 0.1)
            torch.nn.init.normal_(part.bias, 0.0, 0.1)
        elif isinstance(part, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(part.weight)

    class Classifier(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.model(pixel_values=pixels).logits

    return Classifier().eval()


def hugging_face(progress: Any) -> dict[str, Any]:
    """MobileViT as ``transformers`` has it: simulator against reference, and error."""
    import torch

    progress("Hugging Face's MobileViT in the simulator")
    module = mobilevit()
    torch.manual_seed(SEED)
    pixels = torch.randn(9, 1, 3, 64, 64)
    samples = {"pixels": pixels.numpy()}
    model = intformer.compile(module, (pixels[0],), config=WIDE_CORE, calibrate=samples)
    report = model.verify({"pixels": pixels[0].numpy()}, levels=("iss",))
    (got,) = run_model(model, samples).outputs.values()
    with torch.no_grad():
        want = torch.stack([module(p) for p in pixels]).numpy()
    got = got.reshape(want.shape)
    entry = report.figures()["levels"]["iss"]
    return {
        "ok": report.ok,
        "parameters": sum(p.numel() for p in module.parameters()),
        "macs": model.graph.macs(),
        "error": round(float(np.sqrt(np.mean((got - want) ** 2) / np.mean(want**2))), 4),
        **{key: entry[key] for key in _LEVEL},
    }


def markdown(figures: dict[str, Any]) -> str:
    """The figures as a page."""
    small, face = figures["digits"], figures["hugging_face"]
    accuracy = [
        [name, f"{small['accuracy'][name]:.1%}", f"{small['accuracy'].get(key, 1):.1%}"]
        for name, key in (("float", ""), ("W8A8", "W8A8 as float"), ("W4A8", "W4A8 as float"))
    ]
    levels = [
        [name, level, f"{e['tensors_compared']:,}", f"{e['elements_compared']:,}"]
        + [e["mismatches"], f"{e['cycles_per_run']:,.0f}", f"{e['utilization']:.1%}"]
        for name, by_level in small["levels"].items()
        for level, e in by_level.items()
    ]
    heads = ["Weights", "Level", "Tensors", "Elements", "Different", "Cycles", "Utilization"]
    text = f"""# Convolutions and transformers

`make bench-hybrid`. Every tensor is compared with the integer reference, element by element.

## A MobileViT trained on the digits

`examples/digits_mobilevit`, {small["parameters"]:,} parameters, on the {small["config"]} core.
Accuracy over all {small["test_images"]} test images, by the integer reference:

{markdown_table(["Weights", "Accuracy", "Same answer as float"], accuracy)}

Equality over {small["images"]} of them:

{markdown_table(heads, levels)}

Products count the zeros of the block-diagonal matrices of depthwise convolutions.

## MobileViT of Hugging Face

`MobileViTForImageClassification`, small and with random weights ({face["parameters"]:,}
parameters, images of 64 x 64), in the simulator on a 16x16 core: {face["tensors_compared"]:,}
tensors, {face["elements_compared"]:,} elements, {face["mismatches"]} different;
{face["cycles_per_run"]:,.0f} cycles; error {face["error"]:.1%} of the logits' root mean square.
"""
    return text + _mobilebert_page(figures["mobilebert"]) if "mobilebert" in figures else text


def _mobilebert_page(bert: dict[str, Any]) -> str:
    mega = 1 / 1e6
    rows = [
        ["BERT-Large, FP32", f"{bert['bert_large_fp32_bytes'] * mega:.1f}", "", "1", "", "", ""],
        [
            "MobileBERT, FP32",
            f"{bert['fp32_bytes'] * mega:.1f}",
            "",
            f"{bert['bert_large_fp32_bytes'] / bert['fp32_bytes']:.1f}",
            "",
            "",
            "",
        ],
    ]
    for name, entry in bert["schemes"].items():
        rows.append(
            [
                f"MobileBERT, {name}",
                f"{entry['model_bytes'] * mega:.1f}",
                f"{sum(entry['image_bytes'].values()) * mega:.1f}",
                f"{entry['smaller_than_bert_large']:.1f}",
                f"{entry['tensors_compared']:,}",
                entry["mismatches"],
                f"{entry['cycles']:,.0f}",
            ]
        )
    heads = ["", "Model, MB", "Image, MB", "Times smaller", "Tensors", "Different", "Cycles"]
    rtl = bert["rtl"]
    return f"""
## MobileBERT

The configuration of `google/mobilebert-uncased` with random weights: {bert["parameters"]:,}
parameters, {bert["layers"]} blocks, {bert["tokens"]} tokens, on a
{bert["core"]["rows"]}x{bert["core"]["cols"]} core in the simulator. "Model" is weights (INT4: half
a byte each), bias and rescaling of every channel and the embeddings (INT8); "image" is the memory
image with its padding and the program. "Mixed" is INT4 in the feed-forward networks and INT8
elsewhere.

{markdown_table(heads, rows)}

In RTL: the embedding and the first {rtl["layers"]} blocks, mixed, {rtl["tokens"]} tokens, on a
{rtl["core"]["rows"]}x{rtl["core"]["cols"]} core: {rtl["tensors_compared"]:,} tensors,
{rtl["elements_compared"]:,} elements, {rtl["mismatches"]} different,
{rtl["cycles_per_run"]:,.0f} cycles.
"""


def main(argv: list[str] | None = None) -> int:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m intformer.bench.hybrid", description=__doc__)
    parser.add_argument("--images", type=int, default=8, help="digits in RTL (8)")
    parser.add_argument("--layers", type=int, default=24, help="blocks of MobileBERT (24)")
    parser.add_argument("--tokens", type=int, default=16, help="tokens of MobileBERT (16)")
    parser.add_argument("--no-record", action="store_true", help="keep nothing in docs/results")
    args = parser.parse_args(argv)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    progress = Progress()
    figures = {
        "digits": digits(progress, images=args.images),
        "hugging_face": hugging_face(progress),
        "mobilebert": mobilebert.measure(progress, layers=args.layers, tokens=args.tokens),
    }
    print(markdown(figures))
    if not args.no_record:
        record("hybrid", figures, markdown(figures))
    return 0 if all(part["ok"] for part in figures.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
