"""A few whole architectures of the sweep: float graph, reference and simulator agree."""

from __future__ import annotations

import dataclasses

import pytest

pytest.importorskip("transformers")

from intformer.bench.architecture_models import ARCHITECTURES
from intformer.bench.architectures import SAMPLES, markdown, try_architecture

BY_NAME = {a.name: a for a in ARCHITECTURES}


@pytest.mark.parametrize(
    ("name", "attention", "cosine"),
    [
        ("RoBERTa", "eager", 0.998),
        ("MobileBERT", "sdpa", 0.99),
        ("DeBERTa-v2", "eager", 0.998),
        ("Swin", "sdpa", 0.998),
        ("T5 v1.1 encoder (gated)", "eager", 0.99),
    ],
)
def test_passes(name: str, attention: str, cosine: float) -> None:
    figures = try_architecture(BY_NAME[name], attention, samples=SAMPLES)
    assert figures["passes"], figures["why"]
    assert figures["iss"]["equal"]
    assert figures["iss"]["tensors"] > 20
    assert figures["cosine_mean"] > cosine


def test_tells_why_not() -> None:
    pooled = dataclasses.replace(BY_NAME["CLIP text"], output="pooler_output")
    figures = try_architecture(pooled, "eager", samples=1)
    assert not figures["compiles"] and not figures["passes"]
    assert "aten.argmax.default in module model" in figures["why"]
    page = markdown({"samples": 1, "architectures": 1, "entries": [figures]})
    assert "0 of 1 architectures pass" in page
    assert figures["why"] in page
