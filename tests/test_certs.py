"""`suite.certs`: what is minted, that no file is lost, and which files are refused."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from suite import certs, text
from suite.errors import EXIT_FAILURE, CertificateError, UnwritableError
from suite.identities import load_key


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


# Minting.


def test_a_ca_a_server_and_a_client_are_minted(tmp_path: Path) -> None:
    written = certs.mint(tmp_path)
    assert [path.name for path in written] == list(certs.MINTED)
    assert set(written) == set(tmp_path.iterdir())


def test_the_directory_is_made_with_its_parents(tmp_path: Path) -> None:
    certs.mint(tmp_path / "a" / "b")
    assert sorted(contents(tmp_path / "a" / "b")) == sorted(certs.MINTED)


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o077])
def test_nobody_else_may_write_into_the_directories(tmp_path: Path, mask: int) -> None:
    """Who may could put another key in place of ours."""
    with umask(mask):
        certs.mint(tmp_path / "a" / "b")
    assert {mode(tmp_path / "a"), mode(tmp_path / "a" / "b")} == {0o755 & ~mask}


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o022])
def test_keys_are_their_owners_alone_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    with umask(mask):
        written = certs.mint(tmp_path)
    assert {path.name: oct(mode(path)) for path in written if path.suffix == ".key"} == (
        {"ca.key": "0o600", "server.key": "0o600", "client.key": "0o600"}
    )
    assert {oct(mode(path)) for path in written if path.suffix == ".pem"} == {"0o644"}


def test_replaced_keys_are_their_owners_alone_too(pki: Path) -> None:
    (pki / "server.key").chmod(0o666)
    with umask(0):
        certs.mint(pki, force=True)
    assert mode(pki / "server.key") == 0o600
    assert mode(pki / "server.pem") == 0o644


def test_a_key_is_never_open_to_others_not_even_while_it_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: dict[int, int] = {}
    opened = open

    def watch(fd: int, *args: Any) -> Any:
        status = os.fstat(fd)
        modes[status.st_ino] = stat.S_IMODE(status.st_mode)
        assert status.st_size == 0
        return opened(fd, *args)

    monkeypatch.setattr(certs, "open", watch, raising=False)
    with umask(0):
        written = certs.mint(tmp_path)
    assert [modes[path.stat().st_ino] for path in written if path.suffix == ".key"] == [0o600] * 3


@pytest.mark.parametrize("name", ["server", "client"])
def test_what_is_minted_is_signed_by_the_ca(minted: Path, name: str) -> None:
    ca = certificate(minted / "ca.pem")
    issued = certificate(minted / f"{name}.pem")
    issued.verify_directly_issued_by(ca)
    with pytest.raises(ValueError, match="does not match"):
        ca.verify_directly_issued_by(issued)


@pytest.mark.parametrize("name", ["ca", "server", "client"])
def test_every_certificate_has_its_key_beside_it(minted: Path, name: str) -> None:
    key = load_key(minted / f"{name}.key")
    assert key.public_key() == certificate(minted / f"{name}.pem").public_key()


def test_only_the_ca_is_one(minted: Path) -> None:
    def is_ca(name: str) -> bool:
        extensions = certificate(minted / f"{name}.pem").extensions
        return extensions.get_extension_for_class(x509.BasicConstraints).value.ca

    assert {name: is_ca(name) for name in ("ca", "server", "client")} == (
        {"ca": True, "server": False, "client": False}
    )


def test_the_server_is_named_as_this_machine(minted: Path) -> None:
    names = certificate(minted / "server.pem").extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(ip) for ip in names.value.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]


def test_the_client_is_named_as_one(minted: Path) -> None:
    names = certificate(minted / "client.pem").extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.DNSName) == ["client.localhost"]
    assert certificate(minted / "client.pem").subject.rfc4514_string() == (
        "CN=client.localhost,OU=client,O=echo suite"
    )


@pytest.mark.parametrize(("name", "usage"), [("server", "SERVER_AUTH"), ("client", "CLIENT_AUTH")])
def test_each_may_be_what_it_is_called(minted: Path, name: str, usage: str) -> None:
    usages = certificate(minted / f"{name}.pem").extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert getattr(ExtendedKeyUsageOID, usage) in usages.value


@pytest.mark.parametrize("name", ["server", "client"])
def test_what_is_minted_is_valid_now_and_not_for_longer_than_clients_put_up_with(
    minted: Path, name: str
) -> None:
    issued = certificate(minted / f"{name}.pem")
    now = datetime.now(UTC)
    assert issued.not_valid_before_utc <= now - timedelta(minutes=59)
    assert now + timedelta(days=824) < issued.not_valid_after_utc
    assert issued.not_valid_after_utc - issued.not_valid_before_utc <= timedelta(days=825)


def test_the_ca_lives_as_long_as_what_it_has_signed(minted: Path) -> None:
    ca, server = certificate(minted / "ca.pem"), certificate(minted / "server.pem")
    assert ca.not_valid_after_utc >= server.not_valid_after_utc
    assert ca.not_valid_before_utc <= server.not_valid_before_utc


def test_every_minting_makes_a_new_ca(minted: Path, pki: Path) -> None:
    assert certificate(minted / "ca.pem").public_key() != certificate(pki / "ca.pem").public_key()


# Not overwriting.


@pytest.mark.parametrize("existing", certs.MINTED)
def test_a_file_that_exists_stops_the_minting_before_it_has_written_any(
    tmp_path: Path, existing: str
) -> None:
    (tmp_path / existing).write_text("precious")
    with pytest.raises(
        CertificateError, match=r"already exists, and nothing was changed; use it, or replace .* --force"
    ) as caught:
        certs.mint(tmp_path)
    assert os.path.basename(caught.value.path) == existing
    assert contents(tmp_path) == {existing: b"precious"}


def test_a_dangling_link_counts_as_a_file(tmp_path: Path) -> None:
    """Writing through a symbolic link would put a key in an unexpected place."""
    (tmp_path / "server.key").symlink_to(tmp_path / "nowhere")
    with pytest.raises(CertificateError, match="already exists"):
        certs.mint(tmp_path)
    assert not (tmp_path / "nowhere").exists()


def test_a_file_that_appears_meanwhile_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "server.key").write_text("precious")
    monkeypatch.setattr(certs, "due", lambda _directory: "missing")
    with pytest.raises(UnwritableError, match=r"server\.key: cannot be written: File exists"):
        certs.mint(tmp_path)
    assert contents(tmp_path) == {"server.key": b"precious"}


def test_force_replaces_all_of_them(pki: Path) -> None:
    before = contents(pki)
    written = certs.mint(pki, force=True)
    after = contents(pki)
    assert after.keys() == before.keys() == {path.name for path in written}
    assert not set(after.values()) & set(before.values())
    certificate(pki / "server.pem").verify_directly_issued_by(certificate(pki / "ca.pem"))


def test_force_replaces_a_link_and_not_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "server.key").symlink_to(tmp_path / "precious")
    certs.mint(tmp_path, force=True)
    assert not (tmp_path / "server.key").is_symlink()
    assert (tmp_path / "precious").read_text() == "precious"


def test_force_replaces_a_file_whole_or_not_at_all(pki: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is replaced only by complete content; if that fails, no temporary file remains."""
    before = contents(pki)
    seen: list[bytes] = []

    def fail(source: Path, destination: Path) -> None:
        assert contents(pki)[destination.name] == before[destination.name]
        seen.append(source.read_bytes())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(CertificateError, match=r"ca\.pem: cannot be written: No space left on device"):
        certs.mint(pki, force=True)
    assert x509.load_pem_x509_certificate(*seen)
    assert contents(pki) == before
    assert names_in(pki) == sorted(certs.MINTED)


def test_what_a_killed_process_has_left_is_not_in_the_way(pki: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container, process ids repeat."""

    class Killed(BaseException):
        pass

    def kill(*_args: object) -> None:
        raise Killed

    with monkeypatch.context() as killed:
        killed.setattr(os, "replace", kill)
        killed.setattr(os, "unlink", kill)
        with pytest.raises(Killed):
            certs.mint(pki, force=True)
    written = certs.mint(pki, force=True)
    assert len(written) == len(certs.MINTED)
    certificate(pki / "server.pem").verify_directly_issued_by(certificate(pki / "ca.pem"))


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CertificateError, match=r"ca\.pem: cannot be written: Not a directory"):
        certs.mint(tmp_path / "file" / "certs")


def test_a_directory_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").mkdir()
    with pytest.raises(CertificateError, match=r"ca\.pem: cannot be written: Is a directory"):
        certs.mint(tmp_path, force=True)
    assert names_in(tmp_path) == ["ca.pem"]


def test_a_half_written_file_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, *_args: Any) -> Any:
        os.close(fd)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(certs, "open", full, raising=False)
    with pytest.raises(CertificateError, match="No space left"):
        certs.mint(tmp_path)
    assert names_in(tmp_path) == []


# Minting what is missing.


def would_mint(directory: Path, wanted: Iterable[Path]) -> bool:
    """Whether a start that needs the *wanted* files would mint those of *directory*."""
    files = certs.minted_files(directory)
    return not files.isdisjoint(map(str, wanted)) and certs.due(directory) is not None


def test_the_first_start_mints_what_the_configuration_names(tmp_path: Path) -> None:
    wanted = [tmp_path / "server.key", tmp_path / "server.pem"]
    assert would_mint(tmp_path, wanted)


def test_one_of_ours_is_enough(tmp_path: Path) -> None:
    assert would_mint(tmp_path, [Path("/etc/ssl/server.key"), tmp_path / "ca.pem"])


@pytest.mark.parametrize("wanted", [[], ["/etc/ssl/server.key"], ["other/server.key"], ["mine.pem"]])
def test_what_minting_would_not_write_is_not_minted(tmp_path: Path, wanted: list[str]) -> None:
    paths = [tmp_path / path for path in wanted]
    assert not would_mint(tmp_path, paths)


@pytest.mark.parametrize("existing", certs.MINTED)
def test_where_one_exists_none_is_minted(tmp_path: Path, existing: str) -> None:
    """The user may be adding their own files, or have lost one of ours: either way, they must decide."""
    (tmp_path / existing).write_text("precious")
    wanted = [tmp_path / "server.key", tmp_path / "server.pem"]
    assert not would_mint(tmp_path, wanted)
    assert contents(tmp_path) == {existing: b"precious"}


def test_where_a_dangling_link_is_none_is_minted(tmp_path: Path) -> None:
    (tmp_path / "ca.key").symlink_to("nowhere")
    assert not would_mint(tmp_path, [tmp_path / "server.key"])


# Interruptions.


class Killed(BaseException):
    """The process has died: nothing after it runs."""


class Mortal:
    """Lets the process die at one of the system calls that change files, and everything after it fail.

    :ivar calls: the system calls so far.
    """

    CALLS = ("mkdir", "open", "chmod", "fsync", "rename", "replace", "link", "unlink", "rmdir")

    def __init__(self, monkeypatch: pytest.MonkeyPatch, dies_at: int, *, afterwards: bool) -> None:
        self.calls = 0
        for name in self.CALLS:
            monkeypatch.setattr(os, name, self._mortal(getattr(os, name), dies_at, afterwards))

    def _mortal(self, call: Callable[..., Any], dies_at: int, afterwards: bool) -> Callable[..., Any]:
        def made(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.calls > dies_at or (self.calls == dies_at and not afterwards):
                raise Killed
            result = call(*args, **kwargs)
            if self.calls == dies_at:
                if call.__name__ == "open":
                    os.close(result)
                raise Killed
            return result

        return made


def whole(directory: Path) -> None:
    """Fail unless *directory* has a whole set, and nothing else."""
    assert names_in(directory) == sorted(certs.MINTED)
    ca = certificate(directory / "ca.pem")
    for name in ("server", "client"):
        certificate(directory / f"{name}.pem").verify_directly_issued_by(ca)
    for name in ("ca", "server", "client"):
        key = load_key(directory / f"{name}.key")
        assert key.public_key() == certificate(directory / f"{name}.pem").public_key()
    assert certs.due(directory) is None


def die(directory: Path, at: int, mint: Callable[[Path], object], *, afterwards: bool = False) -> bool:
    """Let a minting die at its system call number *at*; return whether it came that far."""
    with pytest.MonkeyPatch.context() as patch:
        Mortal(patch, at, afterwards=afterwards)
        try:
            mint(directory)
        except Killed:
            return True
    return False


@pytest.mark.parametrize("afterwards", [False, True], ids=["before the call", "after it"])
def test_wherever_a_minting_is_killed_the_next_one_finishes(tmp_path: Path, afterwards: bool) -> None:
    for at in range(1, 1000):
        directory = tmp_path / str(at)
        directory.mkdir()
        if not die(directory, at, certs.mint_due, afterwards=afterwards):
            break
        certs.mint_due(directory)
        whole(directory)
    assert at > 30


def test_wherever_a_replacing_is_killed_the_next_one_finishes(tmp_path: Path) -> None:
    for at in range(1, 1000):
        directory = tmp_path / str(at)
        certs.mint(directory)
        before = contents(directory)
        if not die(directory, at, lambda directory: certs.mint(directory, force=True)):
            break
        if certs.due(directory) is not None:  # otherwise the files are as before, whole
            certs.mint_due(directory)
        else:
            assert contents(directory) == before
        certs.mint(directory, force=True)
        whole(directory)
    assert at > 30


def test_what_two_kills_leave_is_finished_too(tmp_path: Path) -> None:
    for at in range(20, 60, 3):
        directory = tmp_path / str(at)
        directory.mkdir()
        die(directory, at, certs.mint_due)
        die(directory, 60 - at, certs.mint_due)
        certs.mint_due(directory)
        whole(directory)


def test_the_command_that_the_messages_name_finishes_too(tmp_path: Path) -> None:
    for at in (3, 25, 36, 40):
        directory = tmp_path / str(at)
        directory.mkdir()
        assert die(directory, at, certs.mint_due)
        certs.mint(directory)
        whole(directory)


@pytest.mark.parametrize("count", range(1, 4))
def test_what_an_earlier_version_left_is_completed_with_the_same_ca(pki: Path, count: int) -> None:
    """It wrote one file after the other; a kill or a full disk left the first of them."""
    for name in certs.MINTED[count:]:
        (pki / name).unlink()
    (pki / ".server.pem.abc_d3fg").write_text("a temporary file of --force")
    before = contents(pki)
    assert certs.due(pki) == "incomplete"
    certs.mint_due(pki)
    whole(pki)
    assert (contents(pki)["ca.pem"] == before["ca.pem"]) == (count > 1)  # without its key it cannot sign


@pytest.mark.parametrize("count", range(1, 4))
def test_an_empty_file_at_the_end_is_left_by_an_interruption(pki: Path, count: int) -> None:
    for name in certs.MINTED[count:]:
        (pki / name).unlink()
    (pki / certs.MINTED[count - 1]).write_bytes(b"")
    certs.mint_due(pki)
    whole(pki)


@pytest.mark.parametrize("there", [("ca.pem",), ("ca.pem", "ca.key")])
def test_a_users_ca_is_no_leftover(tmp_path: Path, there: tuple[str, ...]) -> None:
    theirs = trustme.CA(organization_name="Example")
    for name, blob in (("ca.pem", theirs.cert_pem), ("ca.key", theirs.private_key_pem)):
        if name in there:
            blob.write_to_path(tmp_path / name)
    before = contents(tmp_path)
    assert certs.due(tmp_path) is None
    with pytest.raises(CertificateError, match="already exists, and nothing was changed"):
        certs.mint(tmp_path)
    assert certs.mint_due(tmp_path) == []
    assert contents(tmp_path) == before


def test_a_key_of_the_users_beside_our_ca_is_no_leftover(pki: Path) -> None:
    for name in certs.MINTED[2:]:
        (pki / name).unlink()
    trustme.CA().private_key_pem.write_to_path(pki / "ca.key")
    assert certs.due(pki) is None


def test_the_users_files_stay_when_they_come_after_an_interruption(tmp_path: Path) -> None:
    """Killed when a set was ready, or half in place; then the user gave up on us."""
    seen = set()
    for at in range(1, 1000):
        directory = tmp_path / str(at)
        directory.mkdir()
        if not die(directory, at, certs.mint_due):
            break
        if certs.STAGED not in names_in(directory):
            continue
        seen.add(len(contents(directory)))
        for name in ("server.pem", "server.key"):
            (directory / name).unlink(missing_ok=True)
            (directory / name).write_text("precious")
        certs.mint_due(directory)
        assert contents(directory)["server.pem"] == contents(directory)["server.key"] == b"precious"
        assert certs.STAGED not in names_in(directory)
        assert certs.due(directory) is None
    assert seen == set(range(len(certs.MINTED) + 1))


@pytest.mark.parametrize("call", ["mkdir", "fsync", "rename", "link"])
def test_a_full_disk_is_a_failure_and_not_a_wrong_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Systemd does not start a service again that has ended with 2."""

    def full(*args: Any) -> Any:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(UnwritableError, match="cannot be written: No space left on device") as caught:
            certs.mint_due(tmp_path / "certs")
    assert caught.value.exit_code == EXIT_FAILURE
    certs.mint_due(tmp_path / "certs")
    whole(tmp_path / "certs")


def test_without_hard_links_files_are_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on vfat."""

    def unsupported(*args: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", unsupported)
    certs.mint(tmp_path)
    whole(tmp_path)


def test_a_directory_that_stays_locked_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    with certs.locked(tmp_path), pytest.raises(UnwritableError, match="has been locked by another process"):
        certs.mint_due(tmp_path)
    assert sum(slept) == pytest.approx(certs.LOCK_PATIENCE, abs=0.1)
    certs.mint_due(tmp_path)
    whole(tmp_path)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EBADF, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def unsupported(*_args: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    certs.mint_due(tmp_path)
    whole(tmp_path)


# Dates.


def mint_at(directory: Path, when: datetime) -> None:
    """Mint with the clock at *when*."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return when

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certs, "datetime", Clock)
        certs.mint(directory)


@pytest.mark.parametrize(
    ("when", "says"),
    [
        (datetime(2011, 1, 1, tzinfo=UTC), "expired on 2013-04-04"),
        (datetime(2090, 1, 1, tzinfo=UTC), "was not valid before 2089-12-31"),
    ],
    ids=["a first boot in the past", "in the future"],
)
def test_what_was_minted_with_a_wrong_clock_is_minted_anew(tmp_path: Path, when: datetime, says: str) -> None:
    mint_at(tmp_path, when)
    before = contents(tmp_path)
    due = certs.due(tmp_path)
    assert due is not None
    assert due.endswith(f"server.pem {says}")
    assert len(certs.mint_due(tmp_path)) == len(certs.MINTED)
    whole(tmp_path)
    after = contents(tmp_path)
    assert after["ca.pem"] == before["ca.pem"], "clients trust it already"
    assert after["server.pem"] != before["server.pem"]


@pytest.mark.parametrize("name", certs.MINTED)
def test_an_old_set_with_a_file_of_the_users_in_it_is_theirs(tmp_path: Path, name: str) -> None:
    mint_at(tmp_path, datetime(2011, 1, 1, tzinfo=UTC))
    other = trustme.CA()
    (tmp_path / name).write_bytes(
        (other.cert_pem if name.endswith(".pem") else other.private_key_pem).bytes()
    )
    assert certs.due(tmp_path) is None


# Paths, for people.


def test_paths_are_shown_as_they_are_shortest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert text.shown(tmp_path / "certs" / "ca.pem") == "certs/ca.pem"
    assert text.shown("certs/../ca.pem") == "ca.pem"
    assert text.shown("/etc") == "/etc"
