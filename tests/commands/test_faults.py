"""``faults explain`` and ``check``: what is declared, and who will get it, before anybody connects."""

from __future__ import annotations

import errno
import json
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from suite.cli import main
from suite.config import file as config
from suite.config.fault_text import words
from suite.endpoints.parser import parse
from suite.faults.decide import Decider
from tests.helpers import write_config
from tests.running import PATIENCE, read_to_end, running, wait_until

CONFIG = """
seed = 3

[endpoints]
clean = "tcp:1234"

[endpoints.flaky]
listen = "tcp:1240"
seed = 7
faults = [
  { latency = "200ms", jitter = "50ms" },
  { reset = true, after = "64KiB", chance = 0.3 },
]

[endpoints.lossy]
listen = "udp:1240"
faults = [{ loss = 0.5 }, { truncate = "8B", every = 2 }]

[endpoints.named]
listen = "ssl:1241:privateKey=certs/server.key:certKey=certs/server.pem"
faults = [{ handshake = "silent", only = ["*.example.org"] }, { stall = true, only = ["10.0.0.0/8"] }]

[endpoints.local]
listen = "unix:echo.sock"
faults = [{ limit = "1KiB", every = 2 }]

[endpoints.asked]
listen = "tcp:1242"
faults = "requested"
allow_faults = ["reset", "latency"]
faulty_connections = 5

[endpoints.asked_too]
listen = "udp:1242"
faults = "requested"
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_config(tmp_path, CONFIG)


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main([*arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out.splitlines()


def explained(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    return said(capsys, "faults", "explain", *arguments)


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    (line,) = explained(capsys, *arguments, "--json")
    document: dict[str, Any] = json.loads(line)
    return document


def test_explain_says_who_gets_what(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The very decisions of this seed, on every machine."""
    assert explained(capsys, "--endpoint", "flaky", "--connections", "4") == [
        "flaky: TCP, seed 7, connections of a client at 127.0.0.1",
        "#1  latency 158.593 ms; reset at 65,536",
        "#2  latency 216.243 ms",
        "#3  latency 233.93 ms",
        "#4  latency 238.604 ms",
        "4 of 4: latency",
        "1 of 4: reset",
        "0 of 4: no fault",
    ]


def test_explain_asks_what_serving_asks(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = as_json(capsys, "--endpoint", "flaky", "--connections", "50")
    assert {key: document[key] for key in ("endpoint", "transport", "seed", "host", "name")} == {
        "endpoint": "flaky",
        "transport": "TCP",
        "seed": 7,
        "host": "127.0.0.1",
        "name": None,
    }
    (flaky,) = (each for each in parse(config.load(file)) if each.endpoint.name == "flaky")
    decider = Decider(flaky.endpoint.faults)
    for row in document["connections"]:
        decision = decider.connection(row["connection"], "127.0.0.1")
        assert row == {
            "connection": row["connection"],
            "faults": list(map(words, decision.faults)),
            "seed": decision.seed,
        }
    resets = sum("reset after=64KiB" in row["faults"] for row in document["connections"])
    assert document["totals"] == {"latency": 50, "reset": resets}
    assert document["clean"] == 0


def test_the_default_is_twenty(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(as_json(capsys, "--endpoint", "flaky")["connections"]) == 20
    assert len(as_json(capsys, "--endpoint", "lossy")["datagrams"]) == 20


def test_another_host_or_name_may_get_something_else(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = explained(capsys, "--endpoint", "named", "--connections", "1")
    assert plain == [
        "named: TLS, seed 3, connections of a client at 127.0.0.1",
        "#1  no fault",
        "1 of 1: no fault",
        "note: not for a client at 127.0.0.1: handshake silent, only *.example.org",
        "note: not for a client at 127.0.0.1: stall, only 10.0.0.0/8",
    ]
    arguments = ("--endpoint", "named", "--connections", "1", "--host", "10.1.2.3", "--name", "A.example.org")
    assert explained(capsys, *arguments) == [
        "named: TLS, seed 3, connections of a client at 10.1.2.3 that asks for A.example.org",
        "#1  stall; handshake silent",
        "1 of 1: stall",
        "1 of 1: handshake",
        "0 of 1: no fault",
    ]


def test_clients_of_a_unix_socket_have_no_address(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explained(capsys, "--endpoint", "local", "--connections", "2") == [
        "local: UNIX, seed 3, connections of a local client",
        "#1  no fault",
        "#2  limit 1,024",
        "1 of 2: limit",
        "1 of 2: no fault",
    ]


def test_datagrams_are_explained_one_by_one(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = as_json(capsys, "--endpoint", "lossy", "--datagrams", "200", "--size", "100")
    rows = document["datagrams"]
    assert [row["datagram"] for row in rows] == list(range(1, 201))
    lost = [row["datagram"] for row in rows if row["lost"]]
    assert 70 < len(lost) < 130
    assert document["totals"]["loss"] == len(lost)
    for row in rows:
        cut = row["datagram"] % 2 == 0 and not row["lost"]
        assert row["size"] == (8 if cut else 100)
    text = explained(capsys, "--endpoint", "lossy", "--datagrams", "200", "--size", "100")
    assert text[0] == "lossy: UDP, seed 3, datagrams of a client at 127.0.0.1"
    assert [nth for nth, line in enumerate(text[1:201], start=1) if line.endswith("lost")] == lost
    assert f"{len(lost)} of 200: loss" in text


def test_the_only_endpoint_with_faults_needs_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_config(
        tmp_path, '[endpoints]\na = "tcp:0"\n[endpoints.b]\nlisten = "tcp:0"\nfaults = [{ reset = true }]'
    )
    assert explained(capsys, "--connections", "1")[:2] == [
        "b: TCP, seed 0, connections of a client at 127.0.0.1",
        "#1  reset",
    ]


def test_an_endpoint_without_faults_is_explained_too(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explained(capsys, "--endpoint", "clean", "--connections", "1")[1:] == [
        "#1  no fault",
        "1 of 1: no fault",
    ]


def test_check_shows_the_faults_of_each_endpoint(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "check") == [
        "clean        TCP   127.0.0.1:1234",
        "flaky        TCP   127.0.0.1:1240",
        "             faults: latency 200 ms ± 50 ms; reset at 65,536, chance 0.3; seed 7",
        "lossy        UDP   127.0.0.1:1240",
        "             faults: loss 0.5; truncate 8, every 2; seed 3",
        "named        TLS   127.0.0.1:1241",
        "             faults: handshake silent, only *.example.org; stall, only 10.0.0.0/8; seed 3",
        "local        UNIX  echo.sock",
        "             faults: limit 1,024, every 2; seed 3",
        "asked        TCP   127.0.0.1:1242",
        "             faults: as clients request (latency, reset; 5 connections at a time), seed 3",
        "asked_too    UDP   127.0.0.1:1242",
        "             faults: as clients request (any; 100 sources at a time), seed 3",
        "serving will make development certificates in certs",
        "config.toml: 7 endpoints, no errors",
    ]


# Replaying.

FLAKY = """
[endpoints.flaky]
listen = "tcp:0"
seed = {seed}
faults = [{faults}]
"""


#: What a connection says that has been reset, depending on when.
GONE = (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN)


def answers(address: tuple[str, int], count: int) -> list[bytes | None]:
    """What each of *count* connections, one after the other, has back of eight bytes; None: it is reset."""
    found: list[bytes | None] = []
    for _ in range(count):
        try:
            # A reset may be noticed at once, while connecting.
            with socket.create_connection(address, PATIENCE) as sock:
                sock.sendall(b"hola mon")
                sock.shutdown(socket.SHUT_WR)
                found.append(read_to_end(sock.recv))
        except OSError as error:
            if error.errno not in GONE:
                raise
            found.append(None)
    return found


def explained_by(directory: Path, capsys: pytest.CaptureFixture[str], count: int) -> list[bool]:
    """Which connections ``explain`` says will be reset."""
    arguments = ("--config", str(directory / "config.toml"), "--connections", str(count))
    return ["reset" in row["faults"] for row in as_json(capsys, *arguments)["connections"]]


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_run_is_as_explained_and_its_log_repeats_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], style: str
) -> None:
    """With another seed, other faults in the file, and a reload in between: what the log says happens."""
    first = tmp_path / "first"
    second = tmp_path / "second"
    first.mkdir()
    second.mkdir()
    log = tmp_path / "suite.log"
    count = 12
    text = FLAKY.format(seed=7, faults="{ reset = true, chance = 0.4 }")
    with running(first, text, "--log", style, "--log-file", str(log)) as suite:
        before = answers(suite.addresses["flaky"], count)
    resets = [answer is None for answer in before]
    assert resets == explained_by(first, capsys, count)
    assert len(set(resets)) == 2, "of both kinds, or nothing is shown"
    with running(second, FLAKY.format(seed=99, faults="{ limit = '1B' }"), "--replay", str(log)) as suite:
        assert answers(suite.addresses["flaky"], 6) == before[:6]
        suite.process.send_signal(signal.SIGHUP)
        wait_until(lambda: any("reloaded" in line for line in suite.errors), "reloaded")
        assert answers(suite.addresses["flaky"], count - 6) == before[6:]
        assert answers(suite.addresses["flaky"], 1) == [b"hola mon"], "the log says nothing of one more"


def test_what_cannot_be_replayed_is_a_warning(tmp_path: Path) -> None:
    log = tmp_path / "old.log"
    log.write_text(
        "2026-01-02T03:04:05.678Z info gone#1 127.0.0.1:4 faults: reset seed=5\n"
        "2026-01-02T03:04:05.678Z info chosen#1 127.0.0.1:4 faults: reset seed=5\n"
    )
    text = FLAKY.format(seed=7, faults="") + '[endpoints.chosen]\nlisten = "tcp:0"\nfaults = "requested"\n'
    with running(tmp_path, text, "--replay", str(log)) as suite:
        suite.asked_for += ["which is not in the configuration", "clients choose its faults"]
        assert answers(suite.addresses["flaky"], 1) == [b"hola mon"]
    assert any("decisions for endpoints.gone, which is not in" in line for line in suite.errors)
    assert any("endpoints.chosen does not repeat what the log has" in line for line in suite.errors)


def test_a_log_that_is_none_is_refused_before_anything_listens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_config(tmp_path, FLAKY.format(seed=7, faults=""))
    assert main(["--config", str(file), "--replay", str(tmp_path / "missing.log")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "missing.log: cannot be read: No such file or directory" in err
    assert len(err.splitlines()) == 1
