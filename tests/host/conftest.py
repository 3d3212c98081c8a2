"""A device whose RTL is simulated behind a pty, and a program for it."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from link_programs import CONFIG, IDENTITY

from intformer.sim.link import LinkSimulator


@pytest.fixture(scope="session")
def simulator():
    """The link's RTL, built once."""
    return LinkSimulator(CONFIG, identity=IDENTITY, byte_cycles=12)


@pytest.fixture(scope="module")
def device(simulator):
    """A device; its ``port`` is a pty. What tests leave in its memory stays."""
    with simulator.device() as device:
        yield device
