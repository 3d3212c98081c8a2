"""The client against the link's RTL behind a pty."""

import dataclasses
import os
import random
import threading
import time
import tty

import numpy as np
import pytest
from link_programs import CONFIG, IDENTITY, IMAGE_BYTES, make_program

from intformer.errors import (
    DeviceRefused,
    DoesNotFit,
    NoAnswer,
    PortError,
    ProtocolError,
    RunError,
    UserError,
    WrongDevice,
)
from intformer.host import device as device_module
from intformer.host.device import Device
from intformer.host.port import open_port
from intformer.isa import COUNTERS

PROGRAM = make_program()


def connect(device, **options) -> Device:
    return Device(device.port, patience=5.0, **options)


def codes(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"x": rng.integers(-(1 << 15), 1 << 15, (3, 30)).astype(np.int16)}


def forget(client: Device) -> None:
    """Make every piece of the image wrong."""
    for at in range(0, IMAGE_BYTES, 4096):
        client.write(at, bytes(255 - byte for byte in PROGRAM.image[at : at + 4].tobytes()))


def check_run(client: Device, seed: int) -> None:
    given = codes(seed)
    run = client.run(given)
    assert (run.outputs["y"] == ~given["x"]).all()
    assert run.cycles == run.counters["cycles"] > 3000
    assert list(run.counters) == list(COUNTERS)


class Line:
    """Between client and port: what is sent and received goes through functions."""

    def __init__(self, port: str, *, baud: int) -> None:
        self._line = open_port(port, baud=baud)
        self.close, self.discard = self._line.close, self._line.discard

    def write(self, data: bytes) -> None:
        self._line.write(self.sends(data))

    def read(self) -> bytes:
        return self.hears(self._line.read())

    def sends(self, data: bytes) -> bytes:
        return data

    def hears(self, data: bytes) -> bytes:
        return data


def test_load_and_run(device):
    with connect(device) as client:
        assert client.info() == IDENTITY
        forget(client)
        broken = client.errors()["broken"]
        loaded = client.load(PROGRAM, progress=lambda _text: None)
        assert (loaded.size, loaded.sent) == (IMAGE_BYTES, IMAGE_BYTES)
        for seed in range(2):
            check_run(client, seed)
    with connect(device) as client:
        assert client.load(PROGRAM).sent == 0
        client.write(4096 + 40, b"oops")
        assert client.load(PROGRAM).sent == 4096
        client.write(3 * 4096, b"oops")
        assert client.load(PROGRAM).sent == 100
        check_run(client, 3)
        assert client.errors()["broken"] == broken


def test_memory_and_counters(device):
    with connect(device) as client:
        before = client.errors()
        data = random.Random(2).randbytes(1000)
        client.write(512, data)
        assert client.read(512, 1000) == data
        with pytest.raises(DeviceRefused, match=r"READ .*address 0xfffc.*outside of its memory"):
            client.read(0xFFFC, 8)
        with pytest.raises(DeviceRefused, match=r"WRITE \(.*address 0x2.*multiples"):
            client.write(2, b"abcd")
        after = client.errors()
        assert after["refused"] == before["refused"] + 2
        assert after["frames"] > before["frames"] + 8
        assert list(client.counters()) == list(COUNTERS)


def test_mistakes(device):
    with connect(device) as client:
        with pytest.raises(UserError, match="no program is loaded"):
            client.run(codes())
        foreign = dataclasses.replace(CONFIG, act_words=64)
        with pytest.raises(WrongDevice, match="another core"):
            client.load(dataclasses.replace(PROGRAM, config=foreign))
        with pytest.raises(DoesNotFit, match="needs 65,537 bytes of memory, demo has 65,536"):
            client.load(dataclasses.replace(PROGRAM, memory_bytes=65_537))
        client.load(PROGRAM)
        with pytest.raises(UserError, match="codes must hold exactly the inputs x, not z"):
            client.run({"z": codes()["x"]})
        check_run(client, 1)


def test_program_that_goes_wrong(device):
    with connect(device) as client:
        client.load(make_program(size=0xFFFFFFFF))
        with pytest.raises(RunError, match=r"did not end within 0\.5 s"):
            client.run(codes(), limit_s=0.1)
        client.load(make_program(source=0xFFFFFFFF))
        with pytest.raises(RunError, match="unknown operation"):
            client.run(codes())
        client.load(PROGRAM)
        check_run(client, 1)


def test_program_left_running_is_given_up(device):
    endless = make_program(size=0xFFFFFFFF)
    with connect(device) as client:
        client.load(endless)
        with pytest.raises(KeyboardInterrupt):
            interrupted_run(client)
        with pytest.raises(DeviceRefused, match=r"WRITE.*a program runs"):
            client.write(0, bytes(4))
    with connect(device) as client:
        assert client.status().running
        client.load(PROGRAM)
        check_run(client, 2)


def interrupted_run(client: Device) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    client.status = interrupt
    try:
        client.run(codes())
    finally:
        del client.status


def test_noise(device, monkeypatch):
    """One frame in five, in either direction, is damaged, lost, or comes twice."""
    rng = random.Random(5)

    class Noisy(Line):
        def sends(self, data: bytes) -> bytes:
            return self._spoil(data)

        def hears(self, data: bytes) -> bytes:
            return self._spoil(data)

        @staticmethod
        def _spoil(data: bytes) -> bytes:
            if not data or rng.random() > 0.2:
                return data
            at = rng.randrange(len(data))
            bit = bytes([data[at] ^ 1 << rng.randrange(8)])
            kinds = [data[:at] + bit + data[at + 1 :], data[:at], data[at:], data + data, b""]
            return rng.choice(kinds)

    with connect(device) as client:
        forget(client)
    monkeypatch.setattr(device_module, "open_port", Noisy)
    with Device(device.port) as client:
        loaded = client.load(PROGRAM)
        assert loaded.sent >= IMAGE_BYTES
        check_run(client, 1)
        assert client.retries > 5
        monkeypatch.undo()
    with connect(device) as client:
        assert client.load(PROGRAM).sent == 0
        counters = client.errors()
        assert counters["broken"] + counters["short"] + counters["lost"] > 0


def test_link_pulled_in_the_middle_of_a_load(device, monkeypatch):
    class Pulled(Line):
        left = IMAGE_BYTES // 2

        def sends(self, data: bytes) -> bytes:
            if len(data) > self.left:
                self._line.write(data[: self.left])
                raise PortError("the cable was pulled")
            self.left -= len(data)
            return data

    with connect(device) as client:
        forget(client)
    monkeypatch.setattr(device_module, "open_port", Pulled)
    with pytest.raises(PortError, match="pulled"), connect(device) as client:
        client.load(PROGRAM)
    monkeypatch.undo()
    with connect(device) as client:
        assert 0 < client.load(PROGRAM).sent < IMAGE_BYTES
        check_run(client, 1)


def test_two_clients_are_noticed(device):
    with connect(device) as first, connect(device) as second:
        first.status()
        second._exchange._sequence = first._exchange._sequence - 1
        with pytest.raises(ProtocolError, match="another program"):
            second.status()


def test_overlay(device):
    """The image lies below the base, inputs and outputs from there on."""
    with connect(device) as client:
        client._identity = dataclasses.replace(IDENTITY, overlay_size=1024)
        client.load(PROGRAM)
        check_run(client, 1)
        client._identity = dataclasses.replace(IDENTITY, overlay_size=256)
        with pytest.raises(DoesNotFit, match="need 384 bytes of RAM, demo has 256"):
            client.load(PROGRAM)
        below = dataclasses.replace(PROGRAM.inputs[0], address=0)
        with pytest.raises(DoesNotFit, match="x lies in the image"):
            client.load(dataclasses.replace(PROGRAM, inputs=[below]))


def test_memory_that_does_not_keep(device, monkeypatch):
    with connect(device) as client:
        forget(client)
        monkeypatch.setattr(client, "write", lambda _address, _data: None)
        with pytest.raises(DeviceRefused, match="does not hold what was written at address 0x0"):
            client.load(PROGRAM)


def test_port_that_is_not_there():
    with pytest.raises(PortError, match="cannot open /dev/nothing"):
        Device("/dev/nothing")


def test_nobody_answers():
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    with pytest.raises(NoAnswer, match="no answer to INFO after 10 tries"):
        Device(os.ttyname(theirs), patience=0.02)
    os.close(ours)
    os.close(theirs)


def test_port_lost_while_waiting():
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    name = os.ttyname(theirs)

    def pull() -> None:
        os.read(ours, 1)
        time.sleep(0.05)
        os.close(ours)

    thread = threading.Thread(target=pull)
    thread.start()
    with pytest.raises(PortError, match="was lost"):
        Device(name)
    thread.join()
    os.close(theirs)
