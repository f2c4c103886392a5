"""`suite.endpoints.credentials`: files are read once, contexts shared and used again, dates warned of."""

from __future__ import annotations

import os
import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509 import load_pem_x509_certificate
from OpenSSL import SSL

from suite import certs, identities
from suite.config.file import Config, Endpoint
from suite.config.tls import TLS
from suite.endpoints import credentials as module
from suite.endpoints import parser
from suite.endpoints.credentials import Credentials
from suite.endpoints.keylog import KeyLog
from suite.errors import ConfigError
from suite.identities import load_certificates, load_identity
from tests.endpoints.test_tls import Pair, accepted
from tests.helpers import config_of

ONE = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"


@pytest.fixture(autouse=True)
def no_key_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSLKEYLOGFILE", raising=False)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with ``certs``, as the suite mints them."""
    certs.mint(tmp_path / "certs")
    return tmp_path


def contexts(credentials: Credentials, config: Config) -> list[SSL.Context]:
    found = [credentials.context(description) for description in parser.parse(config)]
    return [context for context in found if context is not None]


def load(
    directory: Path,
    *listens: str,
    tls: TLS = TLS(),  # noqa: B008  # it is frozen
    before: Credentials | None = None,
) -> tuple[list[SSL.Context], Credentials]:
    config = config_of(directory, *listens, tls=tls)
    credentials = Credentials(config, before=before)
    return contexts(credentials, config), credentials


def client(directory: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(directory / "certs" / "ca.pem"))


def issue(path: Path, *names: str, begins: int = -30, ends: int = 30, ca: trustme.CA | None = None) -> None:
    """A PEM file with a key and its certificate, valid between two days counted from now."""
    now = datetime.now(UTC)
    issued = (ca or trustme.CA()).issue_cert(
        *names, not_before=now + timedelta(begins), not_after=now + timedelta(ends, hours=1)
    )
    path.parent.mkdir(exist_ok=True)
    path.touch(0o600)
    path.write_bytes(issued.private_key_and_cert_chain_pem.bytes())


# Once.


def test_a_hundred_endpoints_parse_a_key_and_prove_it_once(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for where, name in ((identities, "load_pem_private_key"), (identities, "_read"), (module, "prove")):
        real = getattr(where, name)

        def counted(*args: object, real: object = real, name: str = name, **kwargs: object) -> object:
            calls.append(name)
            return real(*args, **kwargs)  # type: ignore[operator]

        monkeypatch.setattr(where, name, counted)
    found, _ = load(directory, *[ONE] * 100)
    assert len(found) == 100
    assert len({*found}) == 1
    assert sorted(calls) == ["_read", "_read", "load_pem_private_key", "prove"]


def test_endpoints_with_other_settings_have_a_context_of_their_own(directory: Path) -> None:
    """Else a session of one that asks for no certificate could be resumed at one that does."""
    settings = [TLS(), TLS(minimum="1.3"), TLS(client_ca=directory / "certs/ca.pem"), TLS(alpn=("echo",))]
    endpoints = [Endpoint(f"e{number}", ONE, tls) for number, tls in enumerate(settings)]
    config = Config(directory / "config.toml", tuple(endpoints))
    assert len({*contexts(Credentials(config), config)}) == len(settings)


def test_what_has_not_changed_keeps_its_context_and_its_sessions(directory: Path) -> None:
    asking = client(directory)
    (first,), before = load(directory, ONE)
    session = accepted(Pair(first, asking)).client.session
    (second,), again = load(directory, ONE, before=before)
    assert second is first
    assert accepted(Pair(second, asking, session)).client.session_reused
    assert session is not None
    again.files.settle()
    certs.mint(directory / "certs", force=True)
    (third,), _ = load(directory, ONE, before=again)
    assert third is not first
    accepted(Pair(third, client(directory)))


def test_a_load_leaves_the_one_before_as_it_is(directory: Path) -> None:
    _, before = load(directory, ONE)
    made = dict(before.files.made)
    issue(directory / "sites" / "a.example.pem", "a.example")
    load(directory, ONE, "ssl:0:directory=sites", before=before)
    assert before.files.made == made


def test_everything_can_be_loaded_in_a_thread(directory: Path) -> None:
    results: list[list[SSL.Context]] = []
    thread = threading.Thread(target=lambda: results.append(load(directory, ONE)[0]))
    thread.start()
    thread.join(60)
    ((context,),) = results
    accepted(Pair(context, client(directory)))


def test_a_fifo_where_a_key_should_be_stops_nobody(directory: Path) -> None:
    (directory / "certs" / "server.key").unlink()
    os.mkfifo(directory / "certs" / "server.key", 0o600)
    with pytest.raises(ConfigError, match=r"server\.key: cannot be read: it is a named pipe; expected"):
        load(directory, ONE)


# A key that cannot sign.


def test_a_key_that_cannot_sign_is_an_error_of_the_endpoint(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("suite.endpoints.tls.TLS12_SUITES", b"ECDHE-RSA-AES128-GCM-SHA256")  # a key for ECDSA
    with pytest.raises(ConfigError) as caught:
        load(directory, ONE)
    assert caught.value.key == "endpoints.e0.listen"
    assert caught.value.problem.endswith(
        "certs/server.pem: cannot make a TLS 1.2 handshake (no shared cipher);"
        ' expected tls.minimum to be "1.3"'
    )
    load(directory, ONE, tls=TLS(minimum="1.3"))


# Passwords.


@pytest.fixture
def encrypted(directory: Path) -> Path:
    """The same with an encrypted key, whose password is in ``password``."""
    path = directory / "certs" / "server.key"
    key = load_pem_private_key(path.read_bytes(), None)
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b" open sesame"))
    )
    (directory / "password").touch(0o600)
    (directory / "password").write_bytes(b" open sesame\n")
    return directory


def test_an_encrypted_key_is_opened_with_its_password(encrypted: Path) -> None:
    for end in (b"", b"\n", b"\r\n"):
        (encrypted / "password").write_bytes(b" open sesame" + end)
        (context,), _ = load(encrypted, ONE, tls=TLS(password_file=encrypted / "password"))
        accepted(Pair(context, client(encrypted)))


def test_a_key_without_a_password_does_not_mind_one(directory: Path) -> None:
    """`[tls]` may set one for all endpoints."""
    load(directory, ONE, tls=TLS(password_file=directory / "absent"))


@pytest.mark.parametrize(
    ("content", "mode", "key", "problem"),
    [
        (None, 0o600, "tls.password_file", "password: no such file"),
        (b"wrong\n", 0o600, "endpoints.e0.listen", "server.key: cannot be decrypted with the password in"),
        (b"\n", 0o600, "tls.password_file", "password: is empty; expected the password of the private key"),
        (b"x", 0o644, "tls.password_file", "password file with mode 0644 can be read by everyone"),
    ],
)
def test_a_password_that_cannot_be_used_is_named(
    encrypted: Path, content: bytes | None, mode: int, key: str, problem: str
) -> None:
    (encrypted / "password").unlink()
    if content is not None:
        (encrypted / "password").touch(mode)
        (encrypted / "password").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(encrypted, ONE, tls=TLS(password_file=encrypted / "password"))
    assert caught.value.key == key
    assert problem in caught.value.problem


# Dates.


@pytest.mark.parametrize(
    ("begins", "ends", "says"),
    [
        (-30, 8, None),
        (-30, 6, "certificate expires on "),
        (-30, -1, "certificate expired on "),
        (1, 30, "certificate is not valid before "),
    ],
)
def test_a_certificate_out_of_date_is_a_warning(
    tmp_path: Path, begins: int, ends: int, says: str | None
) -> None:
    issue(tmp_path / "own" / "a.pem", "localhost", begins=begins, ends=ends)
    _, credentials = load(tmp_path, *["ssl:0:own/a.pem"] * 2)
    assert len(credentials.warnings) == (says is not None)
    for warning in credentials.warnings:
        assert says is not None
        assert f"own/a.pem: {says}" in warning


def test_dates_are_judged_in_the_chain_and_of_clients_cas(tmp_path: Path) -> None:
    issue(tmp_path / "own" / "a.pem", "localhost")
    issue(tmp_path / "own" / "old.pem", "old.example", ends=-1)
    old = load_pem_x509_certificate((tmp_path / "own" / "old.pem").read_bytes())
    _, credentials = load(
        tmp_path,
        "ssl:0:own/a.pem:extraCertChain=own/old.pem",
        tls=TLS(client_ca=tmp_path / "own" / "old.pem"),
    )
    first, second = credentials.warnings
    assert "own/old.pem: certificate expired on" in first
    assert "own/a.pem: certificate 2 expired on" in second
    assert f"{old.not_valid_after_utc:%Y-%m-%d}" in first


# Key logs.


def secrets(path: Path) -> list[str]:
    return [line.split()[0] for line in path.read_text().splitlines()]


def test_secrets_are_logged_where_the_configuration_says(directory: Path) -> None:
    path = directory / "keys.log"
    (context,), credentials = load(directory, ONE, tls=TLS(keylog=path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == ""
    accepted(Pair(context, client(directory)))
    assert "CLIENT_HANDSHAKE_TRAFFIC_SECRET" in secrets(path)
    (warning,) = credentials.warnings
    assert warning.startswith("tls.keylog: the secrets of TLS connections are written to ")
    # And appended, also after a reload.
    (context,), _ = load(directory, ONE, tls=TLS(keylog=path), before=credentials)
    before = len(secrets(path))
    accepted(Pair(context, client(directory)))
    assert len(secrets(path)) == 2 * before


def test_the_environment_may_say_where_too(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(directory / "keys.log"))
    (context,), credentials = load(directory, ONE)
    accepted(Pair(context, ssl_client := client(directory)))
    assert ssl_client.keylog_filename == str(directory / "keys.log")  # Python's client does the same
    assert credentials.warnings[0].startswith("SSLKEYLOGFILE: the secrets of TLS connections are written to ")


def test_without_either_no_secret_is_logged(directory: Path) -> None:
    (context,), credentials = load(directory, ONE)
    accepted(Pair(context, client(directory)))
    assert credentials.warnings == []
    assert sorted(os.listdir(directory)) == ["certs"]


def test_a_check_warns_but_writes_nothing(directory: Path) -> None:
    config = config_of(directory, ONE, tls=TLS(keylog=directory / "keys.log"))
    credentials = Credentials(config, serving=False)
    contexts(credentials, config)
    assert len(credentials.warnings) == 1
    assert not (directory / "keys.log").exists()


def test_a_key_log_that_cannot_be_opened_is_an_error(directory: Path) -> None:
    with pytest.raises(ConfigError, match=r"tls\.keylog: .*certs: cannot be appended to: Is a directory"):
        load(directory, ONE, tls=TLS(keylog=directory / "certs"))


def test_a_key_log_that_was_moved_is_opened_anew(directory: Path) -> None:
    path = directory / "keys.log"
    _, before = load(directory, ONE, tls=TLS(keylog=path))
    path.rename(directory / "keys.log.1")
    (context,), _ = load(directory, ONE, tls=TLS(keylog=path), before=before)
    accepted(Pair(context, client(directory)))
    assert secrets(path)


def test_a_full_disk_breaks_no_handshake(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (context,), credentials = load(directory, ONE, tls=TLS(keylog=directory / "keys.log"))

    def full(*_args: object) -> int:
        raise OSError(28, "No space left on device")

    said: list[str] = []
    monkeypatch.setattr(
        "suite.endpoints.keylog.log.error", lambda text, **values: said.append(text.format(**values))
    )
    monkeypatch.setattr(os, "write", full)
    accepted(Pair(context, client(directory)))
    monkeypatch.undo()
    assert len(said) == 1
    assert said[0].endswith(
        "keys.log: TLS secrets cannot be appended: No space left on device; this is said once"
    )
    (log,) = credentials.keylogs.values()
    assert isinstance(log, KeyLog)
    assert log.lost > 1


# Certificates by name.


@pytest.fixture
def sites(tmp_path: Path) -> Path:
    """A directory ``sites``, and beside it the CA that has signed what is in it."""
    ca = trustme.CA()
    (tmp_path / "certs").mkdir()
    ca.cert_pem.write_to_path(tmp_path / "certs" / "ca.pem")
    issue(tmp_path / "sites" / "a.example.pem", "a.example", "www.a.example", ca=ca)
    issue(tmp_path / "sites" / "b.example.pem", "*.b.example", ca=ca)
    issue(tmp_path / "sites" / "default.pem", "fallback.example", ca=ca)
    return tmp_path


def served(directory: Path, context: SSL.Context, name: str | None) -> str:
    """The file whose certificate a client is shown that asks for *name*."""
    asking = client(directory)
    asking.check_hostname = False
    pair = Pair(context, asking, name=name)
    shown = pair.client.getpeercert(binary_form=True)
    for path in (directory / "sites").glob("*.pem"):
        if load_certificates(path)[0].public_bytes(Encoding.DER) == shown:
            accepted(pair)
            return path.name
    raise AssertionError(pair.client_error)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("a.example", "a.example.pem"),
        ("A.Example", "a.example.pem"),
        ("www.a.example", "a.example.pem"),
        ("x.b.example", "b.example.pem"),
        ("b.example", "b.example.pem"),  # the file's own name
        ("y.x.b.example", "default.pem"),
        ("c.example", "default.pem"),
        ("fallback.example", "default.pem"),
        (None, "default.pem"),
    ],
)
@pytest.mark.parametrize("listen", ["ssl:0:directory=sites", "tls:sites:0"])
def test_the_name_that_a_client_asks_for_decides(
    sites: Path, listen: str, name: str | None, file: str
) -> None:
    (context,), credentials = load(sites, listen)
    assert served(sites, context, name) == file
    assert credentials.warnings == []


def test_tls_is_twisteds_name_for_the_same(sites: Path) -> None:
    (ours,) = parser.parse(config_of(sites, "ssl:0:directory=sites:interface=127.0.0.1"))
    (theirs,) = parser.parse(config_of(sites, "tls:sites:0:interface=127.0.0.1"))
    assert (theirs.kind, theirs.arguments, theirs.transport) == (ours.kind, ours.arguments, "TLS")
    assert ours.socket_key() == theirs.socket_key()
    (first, second), _ = load(sites, "ssl:0:directory=sites", "tls:sites:0")
    assert first is second


def test_without_a_default_it_is_the_first_file(sites: Path) -> None:
    (sites / "sites" / "default.pem").unlink()
    (context,), _ = load(sites, "ssl:0:directory=sites")
    assert served(sites, context, None) == "a.example.pem"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_what_is_promised_for_tls_holds_for_every_name(sites: Path, version: ssl.TLSVersion) -> None:
    certs.mint(sites / "pki")
    tls = TLS(client_ca=sites / "pki" / "ca.pem", alpn=("echo",))
    (context,), _ = load(sites, "tls:sites:0", tls=tls)
    for name in ("a.example", "x.b.example", None):
        asking = client(sites)
        asking.check_hostname = False
        asking.minimum_version = asking.maximum_version = version
        asking.set_alpn_protocols(["h2", "echo"])
        without = Pair(context, asking, name=name)
        assert "peer did not return a certificate" in str(without.server_error)
        asking.load_cert_chain(sites / "pki" / "client.pem", sites / "pki" / "client.key")
        pair = accepted(Pair(context, asking, name=name))
        assert pair.client.selected_alpn_protocol() == "echo"
        again = accepted(Pair(context, asking, pair.client.session, name=name))
        assert again.client.session_reused
    asking.set_alpn_protocols(["h2"])
    assert "no common ALPN protocol" in str(Pair(context, asking, name="a.example").server_error)


def test_a_version_is_not_spoken_for_any_name(sites: Path) -> None:
    (context,), _ = load(sites, "tls:sites:0", tls=TLS(minimum="1.3"))
    asking = client(sites)
    asking.maximum_version = ssl.TLSVersion.TLSv1_2
    assert "unsupported protocol" in str(Pair(context, asking, name="a.example").server_error)


def test_what_no_server_uses_is_passed_over(sites: Path) -> None:
    """The development certificates, for instance, whose keys are beside them."""
    certs.mint(sites / "sites")
    (sites / "sites" / ".hidden.pem").write_text("junk")
    (sites / "sites" / "notes.txt").write_text("junk")
    (context,), credentials = load(sites, "ssl:0:directory=sites")
    names = {path.name for path in credentials.files._read}
    assert "server.key" in names
    assert not names & {"ca.key", ".hidden.pem", "notes.txt"}
    asking = ssl.create_default_context(cafile=str(sites / "sites" / "ca.pem"))
    accepted(Pair(context, asking))


def test_of_two_for_a_name_the_file_of_that_name_is_served_or_the_later(sites: Path) -> None:
    issue(sites / "sites" / "old.pem", "a.example", "c.example", ends=60)
    issue(sites / "sites" / "new.pem", "c.example", ends=90)
    _, credentials = load(sites, "ssl:0:directory=sites")
    said = [warning.replace(f"{sites}/", "") for warning in credentials.warnings]
    assert sorted(line.rpartition("sites/old.pem: ")[2].rpartition("/")[0] for line in said) == [
        "a.example is served by sites",
        "c.example is served by sites",
    ]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("bad.pem", "junk", "bad.pem: is not a certificate; expected PEM"),
        ("alone.pem", None, "alone.pem: has no private key; expected one in it, or in "),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    sites: Path, name: str, content: str | None, problem: str
) -> None:
    issued = trustme.CA().issue_cert("x.example").cert_chain_pems[0].bytes().decode()
    (sites / "sites" / name).write_text(content or issued)
    with pytest.raises(ConfigError) as caught:
        load(sites, "tls:sites:0")
    assert problem in caught.value.problem
    assert caught.value.key == "endpoints.e0.listen"


def test_a_directory_without_certificates_is_named(tmp_path: Path) -> None:
    (tmp_path / "sites").mkdir()
    with pytest.raises(ConfigError, match="sites: has no certificate for a server; expected PEM files with"):
        load(tmp_path, "ssl:0:directory=sites")


@pytest.mark.parametrize("name", ["privateKey", "certKey", "extraCertChain"])
def test_a_directory_and_a_key_are_one_too_many(sites: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} does not go with directory"):
        load(sites, f"ssl:0:directory=sites:{name}=certs/ca.pem")


def test_the_identity_of_a_directory_may_be_encrypted(sites: Path) -> None:
    path = sites / "sites" / "a.example.pem"
    identity = load_identity(path, path)
    key = identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    path.write_bytes(key + identity.certificate.public_bytes(Encoding.PEM))
    (sites / "password").touch(0o640)
    (sites / "password").write_text("x\n")
    (context,), _ = load(sites, "tls:sites:0", tls=TLS(password_file=sites / "password"))
    assert served(sites, context, "a.example") == "a.example.pem"


def test_what_an_endpoint_presents_is_known(directory: Path) -> None:
    issue(directory / "sites/www.example.org.pem", "www.example.org")
    issue(directory / "sites/default.pem", "other.example.org")
    config = config_of(directory, ONE, "ssl:0:directory=sites", "tcp:0")
    credentials = Credentials(config)
    contexts(credentials, config)
    one, sites, plain = map(credentials.identities, parser.parse(config))
    assert [identity.path.name for identity in one] == ["server.pem"]
    assert [identity.path.name for identity in sites] == ["default.pem", "www.example.org.pem"]
    assert plain == ()
