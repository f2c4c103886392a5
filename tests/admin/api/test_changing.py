"""What the API changes in a running suite, and who may have it changed."""

from __future__ import annotations

import signal
import socket
import subprocess
from functools import partial
from pathlib import Path

import pytest

from tests.admin.api.asking_api import API, CONFIG, NOT_SERVED, TOKEN
from tests.admin.asking_http import ask
from tests.running import (
    PATIENCE,
    RunningSuite,
    client_program,
    read_to_end,
    running,
    running_on,
    wait_until,
)

SMALL = """
[endpoints]
tcp = "tcp:0"
[admin]
listen = ["tcp:0", "unix:admin.sock"]
"""


def ended(suite: RunningSuite, endpoint: str) -> list[tuple[str, int]]:
    """Reasons and bytes of the connections to *endpoint* whose end the log has told."""
    return [
        (event["reason"], event["received"])
        for event in suite.events
        if event.get("endpoint") == endpoint and event["message"].startswith("closed")
    ]


def received(api: API, path: str, count: int) -> bool:
    """Whether *count* bytes have been received on a connection."""
    return bool(api("GET", path)["received"] == count)


# Connections.


@pytest.mark.parametrize("endpoint", ["tcp", "unix"])
def test_a_connection_is_closed(suite: RunningSuite, api: API, endpoint: str) -> None:
    with suite.connect(endpoint) as sock, suite.connect(endpoint) as other:
        sock.sendall(b"hola")
        assert sock.recv(4) == b"hola"
        other.sendall(b"x")
        assert other.recv(1) == b"x"
        first = next(each for each in api.wait_for(endpoint, 2) if each["received"] == 4)
        found = api("DELETE", f"endpoints/{endpoint}/connections/{first['number']}")
        assert (found["id"], found["state"]) == (first["id"], "ending")
        assert sock.recv(1) == b""
        assert len(api.wait_for(endpoint, 1)) == 1
        other.sendall(b"y")
        assert other.recv(1) == b"y"
        wait_until(lambda: ("operator", 4) in ended(suite, endpoint), "the log tells of it")
    api.wait_for(endpoint, 0)
    assert "is not open" in api.problem(404, "DELETE", f"endpoints/{endpoint}/connections/{first['number']}")


def test_a_connection_is_closed_over_tls(suite: RunningSuite, api: API) -> None:
    plain = suite.connect("tls")
    with suite.client_context().wrap_socket(plain, server_hostname="localhost") as sock:
        sock.sendall(b"hola")
        assert sock.recv(4) == b"hola"
        (found,) = api.wait_for("tls", 1)
        api("DELETE", f"endpoints/tls/connections/{found['number']}")
        assert sock.recv(1) == b""  # close_notify: a bare FIN would be an error
    api.wait_for("tls", 0)


def test_what_is_unsent_is_sent_first_unless_it_is_reset(suite: RunningSuite, api: API) -> None:
    for abort in (False, True):
        with suite.connect("tcp") as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.sendall(b"hola")
            assert sock.recv(4) == b"hola"
            (found,) = api.wait_for("tcp", 1)
            path = f"endpoints/tcp/connections/{found['number']}"
            sock.sendall(bytes(100_000))
            wait_until(partial(received, api, path, 100_004), "all is received")
            api("DELETE", path, abort=str(abort).lower())
            if abort:
                with pytest.raises(ConnectionResetError):
                    read_to_end(sock.recv)
            else:
                assert read_to_end(sock.recv) == bytes(100_000)
        api.wait_for("tcp", 0)


def test_a_connection_that_a_fault_stalls_is_closed_and_nobody_waits_for_it(
    suite: RunningSuite, api: API
) -> None:
    api("POST", "endpoints/unix/faults", {"faults": ["stall"]})
    with suite.connect("unix") as sock:
        sock.sendall(b"hola")
        (found,) = api.wait_for("unix", 1)
        path = f"endpoints/unix/connections/{found['number']}"
        wait_until(partial(received, api, path, 4), "it is received")
        assert api("DELETE", path)["state"] == "ending"
        assert api("GET", path)["state"] == "ending"  # what is unsent comes first, and does not come
        assert api("DELETE", "endpoints/unix/faults")["faults"] == []
        api("DELETE", path, abort="true")
        assert sock.recv(1) == b""
    api.wait_for("unix", 0)


@pytest.mark.parametrize("reactor", ["echo-engine", "epoll"])
def test_an_endpoint_is_paused_connections_closed_and_the_suite_ends(tmp_path: Path, reactor: str) -> None:
    with running_on(reactor, tmp_path, SMALL) as suite:
        api = API(suite)
        with suite.connect("tcp") as open_:
            open_.sendall(b"a")
            assert open_.recv(1) == b"a"
            assert api("POST", "endpoints/tcp/pause")["state"] == "paused"
            assert api("GET", "status")["paused"] == ["tcp"]
            with suite.connect("tcp") as waiting:
                waiting.sendall(b"b")
                open_.sendall(b"c")
                assert open_.recv(1) == b"c"  # what is open goes on
                assert len(api.connections("tcp")) == 1
                assert api("POST", "endpoints/tcp/resume")["state"] == "serving"
                assert waiting.recv(1) == b"b"
                (first, _) = api.wait_for("tcp", 2)
                api("DELETE", f"endpoints/tcp/connections/{first['number']}")
                assert open_.recv(1) == b""
                assert api("POST", "drain") == {"state": "draining"}
                assert waiting.recv(1) == b""
        assert suite.process.wait(PATIENCE) == 0


def test_a_drain_lets_echoes_in_progress_finish_and_is_watched_to_the_end(tmp_path: Path) -> None:
    config = SMALL.replace('"tcp:0"\n', '{ listen = "tcp:0", faults = [{ latency = "2s" }] }\n', 1)
    with running(tmp_path, config) as suite:
        api = API(suite)
        with suite.connect("tcp") as sock:
            sock.sendall(b"hola")
            wait_until(lambda: [each["received"] for each in api.wait_for("tcp", 1)] == [4], "it is received")
            assert ask(api.unix, "/readyz").status == 200
            assert api("POST", "drain") == {"state": "draining"}
            wait_until(lambda: ask(api.unix, "/readyz").status == 503, "it is not ready")
            assert ask(api.unix, "/readyz").text == "draining\n"
            assert ask(api.unix, "/healthz").text == "ok\n"
            assert api("GET", "status")["state"] == "draining"
            assert api("GET", "endpoints/tcp")["state"] == "leaving"
            assert "does not listen any more" in api.problem(409, "POST", "endpoints/tcp/pause")
            assert sock.recv(4) == b"hola"
            assert sock.recv(1) == b""
        assert suite.process.wait(PATIENCE) == 0


# Faults.


def test_faults_come_and_go_under_one_id_at_both_doors(suite: RunningSuite, api: API) -> None:
    added = api("POST", "endpoints/tcp/faults", {"faults": ["limit=2B", {"latency": "1ms"}], "seed": 7})
    first, second = added["ids"]
    assert added["seed"] == 7
    assert [each["fault"] for each in added["faults"]] == ["limit=2B", "latency=1ms"]
    assert api("GET", "endpoints/tcp/faults")["faults"] == added["faults"]
    with suite.connect("tcp") as sock:
        sock.sendall(b"hola")
        assert read_to_end(sock.recv) == b"ho"
    wait_until(lambda: api("GET", "endpoints/tcp")["struck"].get("limit", 0) >= 1, "it is counted")
    left = api("DELETE", f"endpoints/tcp/faults/{first}")
    assert [each["id"] for each in left["faults"]] == [second]
    assert f"{first} is not a fault of tcp" in api.problem(404, "DELETE", f"endpoints/tcp/faults/{first}")
    assert api("DELETE", "endpoints/tcp/faults")["faults"] == []
    api("POST", "endpoints/unix/faults", {"faults": ["stall"]})
    assert api("DELETE", "faults") == {"endpoints": {}}
    api("POST", "endpoints/faulty/faults", {"faults": ["latency=1ms"]})


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "faults: missing; expected an array of faults"),
        ({"faults": []}, "faults: [] cannot be used"),
        ({"faults": "stall"}, "faults: 'stall' cannot be used"),
        ({"faults": [1]}, "faults[1]: 1 is not a fault"),
        ({"faults": ["lateny=1s"]}, "lateny: is not a fault; did you mean latency?"),
        ({"faults": ["loss=0.1"]}, "only"),
        ({"faults": ["stall"], "sed": 1}, "sed: unknown key; did you mean seed?"),
        ({"faults": ["stall"], "seed": -1}, "seed: -1 cannot be used"),
        ({"faults": ["stall"], "seed": 1.5}, "seed: 1.5 cannot be used"),
        ({"faults": ["stall"], "seed": True}, "seed: True cannot be used"),
        ({"faults": ["stall"] * 101}, "expected 100 at the most"),
        ({"faults": ["stall"], "endpoint": "unix"}, "endpoint: unknown key"),
        (b'{"faults": ["stall"], "faults": ["stall"]}', "a key is given twice in one object"),
        (b'["stall"]', "is not an object; expected an object"),
        (b"faults=stall", "not JSON"),
        (b"\xff", "byte 0 is not UTF-8"),
        (b'{"faults": [{"latency": NaN}]}', "NaN is not a number"),
        (b'{"faults": ["\\ud800"]}', r"\ud800"),
        (b'{"seed": 1' + b"0" * 5000 + b"}", "not JSON"),
        (b"[" * 60_000, "not JSON"),
    ],
)
def test_a_change_that_is_refused_changes_nothing(api: API, body: object, says: str) -> None:
    before = api("GET", "endpoints/tcp/faults")
    assert says in api.problem(400, "POST", "endpoints/tcp/faults", body)
    assert api("GET", "endpoints/tcp/faults") == before


def test_a_path_has_its_methods_and_a_change_no_more_than_it_asks_for(api: API) -> None:
    answer = ask(api.unix, "/api/v1/endpoints/tcp/pause")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert "x: unknown key; expected no keys" in api.problem(400, "POST", "endpoints/tcp/pause", {"x": 1})
    assert "x: unknown name; expected no query" in api.problem(400, "POST", "endpoints/tcp/pause", x=1)
    assert "expected true or false" in api.problem(400, "DELETE", "endpoints/tcp/connections/1", abort="yes")
    assert api("GET", "endpoints/tcp")["state"] == "serving"


# Reloads.


def test_a_reload_takes_effect_or_says_why_it_has_not(tmp_path: Path) -> None:
    with running(tmp_path, SMALL, asked_for=["not reloaded"]) as suite:
        api, file = API(suite), tmp_path / "config.toml"
        file.write_text(SMALL.replace("[admin]", 'more = "tcp:0"\n[admin]'))
        assert api("POST", "reload") == {"reloaded": "1 added, 0 removed, 0 changed, 1 as before"}
        assert api("GET", "endpoints/more")["state"] == "serving"
        file.write_text(SMALL.replace("[admin]", 'more = "tpc:0"\nless = 1\n[admin]'))
        answer = api.answer("POST", "reload")
        assert answer.status == 409
        assert len(answer.json["errors"]) == 2
        assert all("config.toml: endpoints." in line for line in answer.json["errors"])
        assert "and 1 more; the previous configuration is still served" in answer.json["detail"]
        found = api("GET", "status")["reloads"]
        assert (found["good"], found["bad"]) == (1, 1)
        assert found["problem"] == "\n".join(answer.json["errors"])
        assert api("GET", "endpoints/more")["state"] == "serving"


# Who may.


CHANGES = [
    ("POST", "endpoints/tcp/pause"),
    ("POST", "endpoints/tcp/resume"),
    ("DELETE", "endpoints/tcp/connections/1"),
    ("POST", "endpoints/tcp/faults"),
    ("DELETE", "endpoints/tcp/faults"),
    ("DELETE", "endpoints/tcp/faults/1"),
    ("DELETE", "faults"),
    ("POST", "reload"),
    ("POST", "drain"),
]


def test_whatever_changes_something_takes_the_token_over_tcp(api: API) -> None:
    described = [
        (method.upper(), path.removeprefix("/api/v1/"))
        for path, methods in api.document["paths"].items()
        for method, operation in methods.items()
        if "security" in operation
    ]
    assert len(described) == len(CHANGES)
    for method, path in CHANGES:
        for token in (None, "another-token-of-32-characters-.."):
            answer = ask(api.tcp, f"/api/v1/{path}", method, token=token)
            assert answer.status == 401, path
            assert answer.headers["www-authenticate"].startswith("Bearer ")
            api.check(answer, method, f"/api/v1/{path}")
        origin = {"Origin": "http://evil.example"}
        assert ask(api.tcp, f"/api/v1/{path}", method, token=TOKEN, headers=origin).status == 403, path
    assert api("GET", "status")["ready"] is True
    assert ask(api.tcp, "/api/v1/endpoints/tcp/resume", "POST", token=TOKEN).status == 200


def test_without_a_token_file_nobody_changes_anything_over_tcp(tmp_path: Path) -> None:
    with running(tmp_path, SMALL) as suite:
        answer = ask(suite.admin[0], "/api/v1/drain", "POST")
        assert answer.status == 403
        assert "admin.token_file" in answer.json["detail"]


def test_curl_over_the_unix_socket_and_over_tcp(suite: RunningSuite, api: API) -> None:
    curl = [client_program("curl"), "--silent", "--show-error", "--fail-with-body"]
    host, port = api.tcp
    with suite.connect("tcp"):
        (found,) = api.wait_for("tcp", 1)
        path = f"/api/v1/endpoints/tcp/connections/{found['number']}"
        done = subprocess.run(
            [*curl, "--unix-socket", api.unix, "-X", "DELETE", f"http://localhost{path}"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert '"state": "ending"' in done.stdout
        api.wait_for("tcp", 0)
    url = f"http://{host}:{port}/api/v1/endpoints/tcp/resume"
    refused = subprocess.run([*curl, "-X", "POST", url], capture_output=True, text=True, check=False)
    assert (refused.returncode, "takes the token" in refused.stdout) == (22, True)
    token = ["-H", f"Authorization: Bearer {TOKEN}"]
    done = subprocess.run([*curl, *token, "-X", "POST", url], capture_output=True, text=True, check=True)
    assert '"state": "serving"' in done.stdout


def test_a_reload_leaves_a_paused_endpoint_paused(tmp_path: Path) -> None:
    with running(tmp_path, SMALL) as suite:
        api, file = API(suite), tmp_path / "config.toml"
        api("POST", "endpoints/tcp/pause")
        changed = SMALL.replace('"tcp:0"\n', '{ listen = "tcp:0", answer = "discard" }\n', 1)
        moved = SMALL.replace('"tcp:0"\n', '"tcp:0:interface=127.0.0.2"\n', 1)
        for config in (SMALL, changed, moved):
            file.write_text(config)
            api("POST", "reload")
            assert api("GET", "endpoints/tcp")["state"] == "paused"
        host, port = api("GET", "endpoints/tcp")["addresses"][0].split(":")
        with socket.create_connection((host, int(port)), PATIENCE) as sock:
            sock.sendall(b"hola")
            api("POST", "endpoints/tcp/resume")
            assert sock.recv(4) == b"hola"
        suite.stop(signal.SIGTERM)


def test_the_configuration_of_these_tests_is_served(suite: RunningSuite) -> None:
    assert NOT_SERVED.split()[-1].removeprefix("endpoints.") in CONFIG
    assert suite.process.poll() is None
