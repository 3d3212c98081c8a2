"""The examples of the units' docstrings and pages run, and say what they print."""

import doctest
import importlib
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs" / "units"
MODULES = [
    "elementwise",
    "group_scale",
    "norm",
    "reduction",
    "requantize",
    "rotary",
    "row_scale",
    "softmax",
    "table",
]
PAGES = [
    "README",
    "elementwise",
    "group_scale",
    "norm",
    "requantize",
    "rotary",
    "rows",
    "softmax",
    "systolic_array",
    "table",
]


@pytest.mark.parametrize("module", MODULES)
def test_docstring_examples(module: str) -> None:
    found = doctest.testmod(importlib.import_module(f"intformer.hw.units.{module}"))
    assert found.attempted and not found.failed


@pytest.mark.parametrize("page", PAGES)
def test_page_examples(page: str) -> None:
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    assert blocks
    code = "\n".join(blocks).replace("```", "")
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner()
    test = parser.get_doctest(code, {}, page, str(DOCS / f"{page}.md"), 0)
    runner.run(test)
    assert test.examples and not runner.failures


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    for page in DOCS.glob("*.md"):
        assert page.stem == "README" or f"({page.name})" in index, page.name
