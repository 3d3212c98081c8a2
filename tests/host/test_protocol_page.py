"""The example in docs/protocol.md is what the RTL answers."""

import re
from pathlib import Path

from intformer.host.protocol import (
    LINK_COUNTERS,
    NOTICE,
    Command,
    FrameReader,
    Status,
    encode_frame,
    request,
)
from intformer.sim.link import Stimulus

PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"
DATA = bytes.fromhex("7E 7D 20 00 FF 01 02 03")
CHECKSUM = encode_frame(3, Command.CHECKSUM, request(Command.CHECKSUM, address=0x7D0, count=8))
SENT = [
    encode_frame(1, Command.INFO),
    encode_frame(2, Command.WRITE, request(Command.WRITE, address=0x7D0, data=DATA)),
    CHECKSUM,
    CHECKSUM,
    CHECKSUM[:6] + bytes([CHECKSUM[6] ^ 8]) + CHECKSUM[7:],
]


def example() -> list[tuple[bytes, bytes]]:
    """Frames and answers on the page."""
    text = PAGE.read_text(encoding="utf-8").partition("## An example")[2].partition("\n## ")[0]
    blocks = "\n".join(re.findall(r"^```\n(.*?)^```", text, re.M | re.S))
    joined = re.sub(r"\n {2}", " ", blocks)
    lines = [(line[0], bytes.fromhex(line[1:])) for line in joined.splitlines() if line]
    assert [kind for kind, _ in lines] == [">", "<"] * (len(lines) // 2)
    return [(sent[1], got[1]) for sent, got in zip(lines[::2], lines[1::2], strict=True)]


def test_example_is_what_the_device_does(simulator):
    stimulus = Stimulus()
    for frame in SENT:
        stimulus.send(frame)
        stimulus.wait(1000)
    played = simulator.play(stimulus)
    got = list(zip(SENT, played.answers, strict=False))
    page = example()
    shown = "\n".join(f"> {a.hex(' ').upper()}\n< {b.hex(' ').upper()}" for a, b in got)
    assert page == got, shown
    assert played.memory[0x7D0 : 0x7D0 + 8] == DATA


def test_page_names_everything():
    text = PAGE.read_text(encoding="utf-8")
    for command in Command:
        assert f"| `{command:02X}` | {command.name} |" in text
    for status in Status:
        assert f"| {status.value} {status.name} |" in text
    for number, name in enumerate(LINK_COUNTERS):
        assert f"| {number} | {name} |" in text
    notice = [frame for _, got in example() for frame in FrameReader().feed(got)][-1]
    assert notice[:2] == (0, NOTICE)
