"""A configuration, an identity, and programs of the copying core."""

import numpy as np

from intformer.bench.link_model import CORE_JOB_BYTES, copy_job
from intformer.config import load_config
from intformer.host.identity import Identity
from intformer.program import ExternalTensor, Program

CONFIG = load_config("tiny")
IDENTITY = Identity.of(CONFIG, board="demo", clock_hz=1_000_000, memory_size=1 << 16)
IMAGE_BYTES = 3 * 4096 + 100


def make_program(*, size: int | None = None, source: int | None = None) -> Program:
    """A program of the copying core: the output is the input, every bit inverted.

    ``size``, ``source``: other than they should be, for programs that go wrong.
    """
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, IMAGE_BYTES, dtype=np.uint8)
    entry = IMAGE_BYTES - CORE_JOB_BYTES - 4
    given = ExternalTensor("x", IMAGE_BYTES, (3, 30), "int16", 32, 1.0, 0)
    made = ExternalTensor("y", IMAGE_BYTES + given.size, (3, 30), "int16", 32, 1.0, 0)
    job = copy_job(
        given.address if source is None else source,
        made.address,
        given.size if size is None else size,
        cycles=3000,
    )
    image[entry : entry + CORE_JOB_BYTES] = np.frombuffer(job, np.uint8)
    return Program(
        config=CONFIG,
        steps=[],
        image=image,
        memory_bytes=made.address + made.size,
        entry=entry,
        regions=[],
        inputs=[given],
        outputs=[made],
        productions={},
    )
