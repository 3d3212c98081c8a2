"""Benches are pytest functions and cocotb tests in one file.

The simulator imports the same file again, by its plain name: this folder therefore stands on
``sys.path``, which :mod:`intformer.sim.runner` hands on.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
