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


@pytest.fixture
def device(simulator):
    """A device with empty memory; its ``port`` is a pty."""
    with simulator.device() as device:
        yield device
