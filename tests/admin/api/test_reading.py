"""What the API says of a running suite; each answer is as the OpenAPI document says."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from suite import __version__
from tests.admin.api.asking_api import API, CONFIG
from tests.admin.asking_http import ask
from tests.running import RunningSuite, running, wait_until

NAMES = ["behind", "day", "faulty", "tcp", "tls", "udp", "unix"]


def test_the_status_of_the_suite(suite: RunningSuite, api: API) -> None:
    found = api("GET", "status")
    assert found["version"] == __version__
    assert found["pid"] == suite.process.pid
    assert found["config"] == str(suite.directory / "config.toml")
    assert abs(datetime.now(UTC) - datetime.fromisoformat(found["started"])).days == 0
    assert found["uptime"] > 0
    assert (found["state"], found["ready"], found["reasons"]) == ("serving", True, [])
    assert (found["endpoints"], found["leaving"], found["paused"]) == (len(NAMES), 0, [])
    assert found["descriptors"]["open"] == pytest.approx(suite.descriptors(), abs=5)
    assert found["reactor"]["name"] == "echo-engine"
    assert found["log"] == {"suppressed": 0, "lost": 0}
    (missing,) = found["not_served"]
    assert missing["endpoint"] == "missing"
    assert "203.0.113.1" in missing["problem"]
    (certificate,) = found["certificates"]
    assert (certificate["endpoint"], certificate["days"] > 300) == ("tls", True)


def test_what_has_been_counted(suite: RunningSuite, api: API) -> None:
    before = api("GET", "endpoints/tcp")
    total = api("GET", "status")
    with suite.connect("tcp") as sock:
        sock.sendall(b"hola")
        assert sock.recv(4) == b"hola"
        (open_,) = api.wait_for("tcp", 1)
        assert open_["received"] == 4
    api.wait_for("tcp", 0)
    after = api("GET", "endpoints/tcp")
    assert after["bytes"]["received"] == before["bytes"]["received"] + 4
    assert after["connections"]["accepted"] == before["connections"]["accepted"] + 1
    ended = before["connections"]["ended"].get("closed", 0)
    assert after["connections"]["ended"]["closed"] == ended + 1
    assert api("GET", "status")["bytes"]["received"] == total["bytes"]["received"] + 4


def test_endpoints_as_they_are(suite: RunningSuite, api: API) -> None:
    found = {each["name"]: each for each in api("GET", "endpoints")["endpoints"]}
    assert [*found] == NAMES
    assert [each["transport"] for each in found.values()] == [
        "TCP",
        "TCP",
        "TCP",
        "TCP",
        "TLS",
        "UDP",
        "UNIX",
    ]
    host, port = suite.addresses["tcp"]
    assert found["tcp"]["addresses"] == [f"{host}:{port}"]
    assert found["tcp"]["listen"] == "tcp:0"
    assert str(port) in found["tcp"]["try"]
    assert found["tcp"]["limits"]["idle"] == 600
    assert found["tcp"]["limits"]["lifetime"] is None
    assert "rate" not in found["tcp"]["limits"]  # of datagrams
    assert found["udp"]["limits"]["rate"] == 1000
    assert found["day"]["answer"] == "daytime"
    assert (found["behind"]["proxied"], found["behind"]["try"]) == (True, None)
    assert found["tls"]["certificate"]["names"] == ["localhost", "127.0.0.1", "::1"]
    assert [fault["fault"] for fault in found["faulty"]["faults"]["faults"]] == ["latency=1ms"]
    assert api("GET", "endpoints/tls")["certificate"] == found["tls"]["certificate"]
    assert {each["state"] for each in found.values()} == {"serving"}


def test_endpoints_in_pages(api: API) -> None:
    names: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = api("GET", "endpoints", limit=3, **after)
        names += [each["name"] for each in page["endpoints"]]
        if page["next"] is None:
            break
        assert len(page["endpoints"]) == 3
        after = {"after": page["next"]}
    assert names == NAMES


def test_endpoints_by_a_part_of_their_names(api: API) -> None:
    first = api("GET", "endpoints", name="u", limit=1)
    assert first["next"] == "faulty"
    rest = api("GET", "endpoints", name="u", after=first["next"])
    assert rest["next"] is None
    assert [each["name"] for each in first["endpoints"] + rest["endpoints"]] == ["faulty", "udp", "unix"]
    assert api("GET", "endpoints", name="no such") == {"endpoints": [], "next": None}


def test_connections_in_pages_and_what_is_known_of_each(suite: RunningSuite, api: API) -> None:
    context = suite.client_context()
    context.set_alpn_protocols(["echo"])
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(suite.connect("unix"))
        plain = stack.enter_context(suite.connect("tls"))
        tls = stack.enter_context(context.wrap_socket(plain, server_hostname="localhost"))
        tls.sendall(b"hola")
        assert tls.recv(4) == b"hola"
        api.wait_for("unix", 5)
        ids: list[str] = []
        after: dict[str, str] = {}
        while True:
            page = api("GET", "connections", limit=2, **after)
            ids += [each["id"] for each in page["connections"]]
            if page["next"] is None:
                break
            after = {"after": page["next"]}
        assert len(ids) == len({*ids}) == 6
        assert ids == sorted(ids, key=lambda each: (each.split("/")[0], int(each.split("/")[1])))
        # Owed are bytes, too, that the client has and has not acknowledged yet.
        wait_until(lambda: api.connections("tls")[0]["owed"] == 0, "all is acknowledged")
        (found,) = api.connections("tls")
        assert found == {**found, "state": "answering", "received": 4, "faults": ""}
        agreed = tls.cipher()
        assert agreed is not None
        assert found["tls"] == {
            "version": tls.version(),
            "cipher": agreed[0],
            "resumed": False,
            "server_name": "localhost",
            "alpn": None,
            "client_certificate": None,
        }
        host, port = tls.getsockname()
        assert found["peer"] == f"{host}:{port}"
        assert api("GET", f"endpoints/{found['id'].replace('/', '/connections/')}")["id"] == found["id"]
    api.wait_for("unix", 0)


def test_a_connection_that_is_about_to_begin(suite: RunningSuite, api: API) -> None:
    with suite.connect("behind"), suite.connect("tls"):
        (header,) = api.wait_for("behind", 1)
        (handshake,) = api.wait_for("tls", 1)
        assert (header["state"], handshake["state"]) == ("header", "handshake")
        assert handshake["tls"] is None
    api.wait_for("behind", 0)
    api.wait_for("tls", 0)


def test_the_faults_of_all(api: API) -> None:
    found = api("GET", "faults")
    assert [*found["endpoints"]] == ["faulty"]
    assert found["endpoints"]["faulty"] == api("GET", "endpoints/faulty/faults")


def test_there_may_be_no_gallery(api: API) -> None:
    assert "expected [gallery]" in api.problem(404, "GET", "gallery")


def test_the_gallery_and_its_endpoints(tmp_path: Path) -> None:
    config = CONFIG.replace("[admin]", '[gallery]\nports = 0\nonly = ["expired"]\n[admin]')
    config = config.replace('token_file = "token"', "")
    with running(tmp_path, config, asked_for=["not served"]) as suite:
        api = API(suite)
        assert [each["name"] for each in api("GET", "gallery")["specimens"]] == ["expired"]
        found = [each for each in api("GET", "endpoints")["endpoints"] if each["gallery"]]
        assert sorted(each["gallery"] for each in found) == ["expired", "index", "sni"]
        assert all(each["try"].startswith("curl ") for each in found)
        assert len(api("GET", "status")["certificates"]) == 1  # those of the gallery are wrong on purpose


# Hostile and mistaken clients.


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("endpoints/tpc", 404, "'tpc' is not an endpoint; did you mean tcp?"),
        ("endpoints/%00", 404, r"'\x00' is not an endpoint"),
        ("endpoints/%F0%9F%98%80%0A", 404, r"\n"),
        ("endpoints/tcp/connections/99999", 404, "tcp/99999 is not open"),
        ("endpoints/tcp/connections/" + "9" * 5000, 404, "is not a connection; expected a number"),
        ("endpoints/tcp/connections/-1", 404, "'-1' is not a connection; expected a number"),
        ("endpoints/tcp/connections/%D9%A1", 404, "is not a connection; expected a number"),
        ("endpoints?limit=0", 400, "limit='0' cannot be used; expected 1 to 1,000"),
        ("endpoints?limit=1e3", 400, "expected 1 to 1,000"),
        ("endpoints?limit=" + "1" * 5000, 400, "expected 1 to 1,000"),
        ("endpoints?limit=", 400, "limit is empty"),
        ("endpoints?limits=1", 400, "limits: unknown name; did you mean limit?"),
        ("endpoints?limit=1&limit=2", 400, "'limit' is given twice"),
        ("status?x%0A=1", 400, r"x\n: unknown name; expected no query"),
        ("connections?after=tcp", 400, "after='tcp' cannot be used; expected an id such as tcp/17"),
        ("connections?after=0", 400, "expected an id such as tcp/17"),
        ("connections?endpoint=tc", 404, "'tc' is not an endpoint; did you mean tcp?"),
        ("events/recent?level=inf", 400, "level='inf' is unknown; did you mean info?"),
        ("events/recent?reason=ilde", 400, "reason='ilde' is unknown; did you mean idle?"),
        ("events/recent?after=-1", 400, "after='-1' cannot be used"),
        ("nothing", 404, "'/api/v1/nothing' is not here"),
    ],
)
def test_a_mistake_has_one_line_that_says_what_was_expected(
    api: API, path: str, status: int, says: str
) -> None:
    answer = ask(api.unix, f"/api/v1/{path}")
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    detail = answer.json["detail"]
    assert says in detail
    assert detail.isprintable()


def test_from_another_machine_or_under_another_name_nothing_is_read(api: API) -> None:
    """The rules are `suite.admin.access`'s; here, that the API is under them."""
    assert ask(api.tcp, "/api/v1/status", headers={"Host": "evil.example"}).status == 421
    assert ask(api.tcp, "/api/v1/status").status == 200


def test_a_long_list_is_one_page(api: API) -> None:
    suite = api.suite
    with ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(suite.connect("unix"))
        wait_until(lambda: len(api("GET", "connections", limit=1000)["connections"]) == 300, "all are listed")
    api.wait_for("unix", 0)
