"""The kept figures of the SDRAM controller: complete, and what the documents say of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from intformer.bench.sdram import CASES, main, markdown
from intformer.hw.external.sdram import CHIPS

RESULTS = Path(__file__).parents[1] / "docs" / "results"


@pytest.fixture(scope="module")
def figures():
    return json.loads((RESULTS / "sdram.json").read_text(encoding="utf-8"))


def test_page_is_made_from_the_figures(figures):
    page = (RESULTS / "sdram.md").read_text(encoding="utf-8")
    assert page.startswith(markdown(figures).rstrip())


def test_every_case_was_measured(figures):
    assert list(figures["cases"]) == [case.name for case in CASES]


def test_weight_streams_get_nine_tenths_of_the_pins(figures):
    for name, case in figures["cases"].items():
        assert case["streams"]["linear_reads"]["share"] >= 0.9, name


def test_no_rule_was_broken(figures):
    for case in figures["cases"].values():
        runs = [case["random"], *case["streams"].values()]
        assert [run["violations"] for run in runs] == [0] * len(runs)


def test_a_million_commands_for_each_chip(figures):
    for chip in CHIPS:
        counts = [c["random"]["commands"] for c in figures["cases"].values() if c["chip"] == chip]
        assert max(counts) >= 1_000_000, chip


def test_unknown_case(capsys):
    with pytest.raises(SystemExit):
        main(["--only", "nothing"])
    assert "invalid choice: 'nothing'" in capsys.readouterr().err
