"""Helpers of this folder by name, and the marks."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "rtl: builds and runs the RTL of whole cores")
    config.addinivalue_line("markers", "slow: takes minutes; runs with -m slow (make regress)")
    # Tests ask components for their latencies, or for errors, without elaborating them.
    config.addinivalue_line("filterwarnings", "ignore::amaranth.hdl.UnusedElaboratable")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "slow" in config.getoption("markexpr"):
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="slow: runs with -m slow"))
