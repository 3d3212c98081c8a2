"""The parts of the MiniLM bench that need no model."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intformer import results
from intformer.bench import minilm, minilm_accuracy, sentences
from intformer.bench.sentences import calibration_sentences, test_sentences
from intformer.compiler.quantize.settings import Settings

test_sentences.__test__ = False


def test_sentences_are_the_same_every_time_and_apart() -> None:
    tests, samples = test_sentences(), calibration_sentences()
    assert tests == test_sentences()
    assert test_sentences(100) == tests[:100]
    assert (len(tests), len(samples)) == (312, 64)
    assert len(set(tests) | set(samples)) == 312 + 64
    lengths = [len(text.split()) for text in tests]
    assert min(lengths) <= 2
    assert max(lengths) >= 60
    assert not any("{" in text or "}" in text for text in tests + samples)


def test_too_many_sentences_are_refused() -> None:
    with pytest.raises(ValueError, match="give 60 different sentences, not 70"):
        sentences._make("{quality}", 70, seed=1)


def test_spearman() -> None:
    a = np.array([1.0, 5.0, 2.0, 4.0])
    assert minilm_accuracy.spearman(a, np.exp(a)) == pytest.approx(1.0)
    assert minilm_accuracy.spearman(a, -a) == pytest.approx(-1.0)
    # Ranks 1 4 2 3 and 1 2.5 2.5 4, by hand: covariance 3, variances 5 and 4.5.
    tied = np.array([0.0, 1.0, 1.0, 7.0])
    assert minilm_accuracy.spearman(a, tied) == pytest.approx(3 / np.sqrt(5 * 4.5))


def test_compare() -> None:
    want = np.eye(3)
    got = np.array([[1.0, 0, 0], [0.6, 0.8, 0], [0, 0, 1.0]])
    figures = minilm_accuracy.compare(got, want)
    assert figures["mean"] == pytest.approx(2.8 / 3)
    assert (figures["worst"], figures["worst_index"]) == (pytest.approx(0.8), 1)


def test_every_scheme_is_legal() -> None:
    for settings in minilm_accuracy.SCHEMES.values():
        Settings(settings["weights"], settings["activations"], settings.get("overrides"))
    assert set(minilm_accuracy.REQUIRED) <= set(minilm_accuracy.SCHEMES)


def test_sections_keep_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    monkeypatch.setattr(minilm, "RESULTS", tmp_path)

    def section(value: int, ok: bool = True) -> minilm.Section:
        def measure(_args: argparse.Namespace, _progress: Any) -> dict[str, Any]:
            return {"value": value, "ok": ok}

        return minilm.Section("a test", measure, lambda f: f"value {f['value']}")

    monkeypatch.setattr(minilm, "SECTIONS", {"one": section(1), "two": section(2)})
    assert minilm.main(["--one"]) == 0
    assert minilm.main(["--two"]) == 0
    monkeypatch.setattr(minilm, "SECTIONS", {"one": section(3, ok=False), "two": section(2)})
    assert minilm.main(["--one"]) == 1
    figures = json.loads((tmp_path / "minilm.json").read_text())
    assert (figures["one"]["value"], figures["two"]["value"]) == (3, 2)
    text = (tmp_path / "minilm.md").read_text()
    assert "value 3\nvalue 2" in text
    assert minilm.main(["--two", "--dry-run"]) == 0
    assert "value 2" in capsys.readouterr().out
