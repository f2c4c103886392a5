"""Identities in a running suite: certificates by name, and warnings of what an operator should know."""

from __future__ import annotations

import os
import socket
import ssl
import tempfile
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from suite import certs
from suite.server.plan import Plan
from tests.helpers import write_config
from tests.running import PATIENCE, TLSClient, run_suite, running, wait_until

ONE = '[endpoints]\ntls = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"\n'


@pytest.fixture(autouse=True)
def no_key_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSLKEYLOGFILE", raising=False)


def site(path: Path, ca: trustme.CA, *names: str, days: float = 30) -> None:
    """A PEM file with a key and its certificate, which expires in so many *days*."""
    now = datetime.now(UTC)
    issued = ca.issue_cert(*names, not_before=now - timedelta(30), not_after=now + timedelta(days))
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    temporary.touch(0o600)
    temporary.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
    temporary.replace(path)


def echoes_as(ca: trustme.CA, address: tuple[str, int], name: str) -> bool:
    """Whether the suite at *address* proves to be *name*, and echoes."""
    context = ssl.create_default_context()
    ca.configure_trust(context)
    with socket.create_connection(address, PATIENCE) as sock:
        try:
            client = TLSClient(sock, context, name)
        except ssl.SSLCertVerificationError:
            return False
        client.sendall(b"hola mundo")
        echoed = client.recv(100)
        client.close_notify()
        return client.recv(100) == b"" and echoed == b"hola mundo"


@pytest.mark.parametrize("listen", ["tls:sites:0", "ssl:0:directory=sites"])
def test_sites_are_served_by_name_under_all_limits_and_added_without_a_signal(
    tmp_path: Path, listen: str
) -> None:
    ca = trustme.CA()
    site(tmp_path / "sites" / "a.example.pem", ca, "a.example")
    site(tmp_path / "sites" / "b.example.pem", ca, "*.b.example")
    config = (
        f'[endpoints.tls]\nlisten = "{listen}"\nlimits = {{ handshake = "1s" }}\ntls = {{ alpn = ["echo"] }}'
    )
    refused = ["certificate unknown", "bad certificate"]  # what clients say of a name that is not there yet
    with running(tmp_path, config, asked_for=refused) as suite:
        address = suite.addresses["tls"]
        assert echoes_as(ca, address, "a.example")
        assert echoes_as(ca, address, "x.b.example")
        assert not echoes_as(ca, address, "c.example")
        site(tmp_path / "sites" / "c.example.pem", ca, "c.example")
        wait_until(lambda: echoes_as(ca, address, "c.example"), "the new site")
        # The guard's deadline for handshakes holds, as for any other TLS endpoint.
        with suite.connect("tls") as silent, suppress(ConnectionResetError):
            assert silent.recv(1) == b""
        wait_until(lambda: any('"handshake"' in line for line in suite.errors), "its reason")


def test_an_expiring_certificate_is_a_warning_at_start_at_reload_and_of_check(tmp_path: Path) -> None:
    ca = trustme.CA()
    site(tmp_path / "sites" / "a.pem", ca, "a.example", days=3.5)
    config = '[endpoints]\ntls = "ssl:0:sites/a.pem"'
    write_config(tmp_path, config)
    done = run_suite(tmp_path, "check")
    assert done.returncode == 0
    warning = "sites/a.pem: certificate expires on "
    assert any(line.startswith(f"warning: {warning}") for line in done.stdout.splitlines())
    assert done.stdout.splitlines()[-1] == "config.toml: 1 endpoint, no errors"
    with running(tmp_path, config, asked_for=[warning]) as suite:

        def warnings() -> int:
            return sum(event["level"] == "warn" and warning in event["message"] for event in suite.events)

        wait_until(lambda: warnings() == 1, "a warning at start")
        suite.process.send_signal(1)  # SIGHUP
        wait_until(lambda: warnings() == 2, "a warning at reload")
        assert echoes_as(ca, suite.addresses["tls"], "a.example")


def test_a_key_log_is_warned_of_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    config = ONE + '[tls]\nkeylog = "keys.log"'
    with running(tmp_path, config, asked_for=["tls.keylog: the secrets of TLS connections are"]) as suite:
        wait_until(lambda: any("tls.keylog" in line for line in suite.errors), "a warning")
        with suite.connect("tls") as sock:
            TLSClient(sock, suite.client_context()).close_notify()
    assert (tmp_path / "keys.log").stat().st_mode & 0o777 == 0o600
    assert "CLIENT_TRAFFIC_SECRET_0" in (tmp_path / "keys.log").read_text()


def test_a_reload_uses_again_what_has_not_changed(tmp_path: Path) -> None:
    file = write_config(tmp_path, ONE)
    first = Plan(file, mint=True)
    second = Plan(file, mint=True, before=first)
    assert second.contexts == first.contexts
    assert first.renewed().contexts == first.contexts
    certs.mint(tmp_path / "certs", force=True)
    assert first.renewed().contexts != first.contexts


def test_every_file_and_site_is_watched(tmp_path: Path) -> None:
    site(tmp_path / "sites" / "a.example.pem", trustme.CA(), "a.example")
    certs.mint(tmp_path / "certs")
    config = ONE + 'sites = { listen = "tls:sites:0", tls = { client_ca = "certs/ca.pem" } }\n'
    plan = Plan(write_config(tmp_path, config), mint=True)
    before = plan.renewed().stamps
    assert {os.path.relpath(path, tmp_path) for path in before} == {
        "certs/server.key",
        "certs/server.pem",
        "certs/ca.pem",
        "sites",
        "sites/a.example.pem",
    }
    site(tmp_path / "sites" / "b.example.pem", trustme.CA(), "b.example")
    assert plan.renewed().stamps != before


def test_an_old_set_that_cannot_be_replaced_is_served_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a read-only file system, for instance."""
    monkeypatch.setattr(certs, "due", lambda _directory: "certs/server.pem expired on 2013-04-04")
    certs.mint(tmp_path / "certs", force=True)

    def read_only(*_args: object, **_options: object) -> None:
        raise OSError(30, os.strerror(30))

    monkeypatch.setattr(tempfile, "mkdtemp", read_only)
    plan = Plan(write_config(tmp_path, ONE), mint=True)
    (warning,) = plan.warnings
    assert warning.startswith(
        "certs/server.pem expired on 2013-04-04, and new certificates could not be made: "
    )
    assert warning.endswith("ca.pem: cannot be written: Read-only file system")
    assert len(plan.contexts) == 1


def test_ten_thousand_tls_endpoints_share_one_context(tmp_path: Path) -> None:
    lines = (ONE.splitlines()[1].replace("tls =", f"e{number} =") for number in range(10_000))
    plan = Plan(write_config(tmp_path, "[endpoints]\n" + "\n".join(lines)), mint=True)
    assert len(plan.contexts) == 10_000
    assert len(set(plan.contexts)) == 1
