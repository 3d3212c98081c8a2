"""Helpers of this folder by name, and the marks."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "rtl: builds and runs the RTL of whole cores")
