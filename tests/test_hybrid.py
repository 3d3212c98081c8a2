"""The digits MobileViT, Hugging Face's, and MobileBERT: accuracy and equality."""

import dataclasses
import os

import graphs
import numpy as np
import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import intformer
from examples.digits_vit.data import calibration_images
from examples.digits_vit.data import test_split as split
from intformer.bench import hybrid, mobilebert
from intformer.compiler.backend import build_program
from intformer.compiler.quantize import quantize
from intformer.model import CompiledModel

ROOM = {"act_words": 1 << 14, "wide_words": 1 << 14}


def compiled(weights: str, *, calibration: int = 128) -> intformer.CompiledModel:
    config = dataclasses.replace(graphs.CONFIGS[0], **ROOM)
    samples = {"images": calibration_images()[:calibration]}
    return intformer.compile(hybrid.MODEL, config=config, calibrate=samples, weights=weights)


@pytest.mark.parametrize(("weights", "least"), [("int8", 0.985), ("int4", 0.98)])
def test_accuracy_of_integer_reference(weights: str, least: float) -> None:
    images, labels = split()
    (logits,) = compiled(weights).run({"images": images[:200]}).outputs.values()
    assert (logits.argmax(axis=-1) == labels[:200]).mean() >= least


def test_weights_are_trained_ones() -> None:
    import torch

    from examples.digits_mobilevit.model import digits_mobilevit

    images, labels = split()
    module, _ = digits_mobilevit()
    with torch.no_grad():
        logits = module(torch.from_numpy(images)).numpy()
    assert (logits.argmax(axis=-1) == labels).mean() >= 0.99


def test_digits_in_the_simulator() -> None:
    images, _ = split()
    report = compiled("int4", calibration=8).verify({"images": images[:1]}, levels=("iss",))
    assert report.ok, report.text()


def test_hugging_face() -> None:
    figures = hybrid.hugging_face(lambda text: None)
    assert figures["ok"]
    assert figures["error"] < 0.1


def test_mobilebert_block() -> None:
    floats, parameters = mobilebert.mobilebert(layers=1, tokens=4)
    samples = mobilebert.ids_of(4, 2)
    sizes = {}
    for name, options in mobilebert.SCHEMES.items():
        graph = quantize(floats, samples, **options)
        sizes[name] = mobilebert.model_bytes(graph)
    assert sizes["INT4"] < sizes["mixed"] < sizes["INT8"] < 4 * parameters / 3
    model = CompiledModel(graph=graph, program=build_program(graph, mobilebert.LARGE))
    assert sum(mobilebert.storage(model).values()) > sizes["mixed"]
    report = model.verify({"ids": samples["ids"][0]}, levels=("iss",))
    assert report.ok, report.text()


def test_sizes() -> None:
    assert mobilebert.bert_large_bytes() == 4 * 335_141_888
    assert np.prod([mobilebert.CONFIG["vocab_size"], 128]) == 3_906_816
