"""`suite.files`: what is read is a regular file of a sensible size, and reading it waits for nobody."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from suite import certs
from suite.cli import main
from suite.config.file import load
from suite.errors import CertificateError
from suite.files import MAX_FILE, make_directory, read_file
from suite.identities import load_certificates, load_key
from tests.helpers import write_config
from tests.running import ONE_LINE, run_suite


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def make_link_to_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


def make_huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(100 * 2**30)


#: What may be where a file should be, how it is made, and what is said of it.
ODD: Final[dict[str, tuple[Callable[[Path], object], str]]] = {
    "FIFO": (os.mkfifo, "it is a named pipe; expected a regular file"),
    "link to a FIFO": (
        make_link_to_pipe,
        "it is a named pipe; expected a regular file",
    ),
    "device": (lambda path: path.symlink_to("/dev/zero"), "it is a device; expected a regular file"),
    "terminal": (lambda path: path.symlink_to("/dev/ptmx"), "it is a device; expected a regular file"),
    "socket": (make_socket, "it is a socket; expected a regular file"),
    "huge": (make_huge, f"it has more than {MAX_FILE:,} bytes; expected a smaller file"),
    "circle": (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    "directory": (Path.mkdir, "Is a directory"),
}

odd = pytest.mark.parametrize(("make", "said"), ODD.values(), ids=list(ODD))


@odd
def test_what_is_no_file_to_be_read_is_named(
    tmp_path: Path, make: Callable[[Path], object], said: str
) -> None:
    path = tmp_path / "odd"
    make(path)
    with pytest.raises(OSError) as caught:  # noqa: PT011  # what it says is looked at
        read_file(path)
    assert caught.value.strerror == said


@odd
def test_a_configuration_that_is_no_file_is_one_line(
    tmp_path: Path, make: Callable[[Path], object], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.toml"
    make(path)
    assert main(["check", "--config", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert said in err or "is a directory; expected a configuration file" in err


@odd
@pytest.mark.parametrize("load", [load_key, load_certificates], ids=["key", "certificate"])
def test_a_key_or_certificate_that_is_no_file_is_named(
    tmp_path: Path, load: Callable[[Path], object], make: Callable[[Path], object], said: str
) -> None:
    path = tmp_path / "odd.pem"
    make(path)
    with pytest.raises(CertificateError) as caught:
        load(path)
    assert said in str(caught.value)


@pytest.mark.parametrize("place", ["dhParameters", "client_ca", "chain"])
def test_other_files_of_an_endpoint_are_no_pipes_either(tmp_path: Path, place: str) -> None:
    certs.mint(tmp_path / "certs")
    os.mkfifo(tmp_path / "pipe")
    listen = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"
    config = f'[endpoints]\ntls = "{listen}:dhParameters=pipe"'
    if place != "dhParameters":
        config = f'[endpoints.tls]\nlisten = "{listen}"\ntls = {{ {place} = "pipe" }}'
    write_config(tmp_path, config)
    checked = run_suite(tmp_path, "check", says=ONE_LINE)
    assert checked.returncode == 2
    assert "pipe: " in checked.stderr


def test_a_file_is_found_through_the_links_that_kubernetes_mounts(tmp_path: Path) -> None:
    version = tmp_path / "..2026_11_26"
    version.mkdir()
    (version / "config.toml").write_text('[endpoints]\ntcp = "tcp:0"')
    (tmp_path / "..data").symlink_to(version.name)
    (tmp_path / "config.toml").symlink_to("..data/config.toml")
    (endpoint,) = load(tmp_path / "config.toml").endpoints
    assert endpoint.listen == "tcp:0"


def test_a_file_of_the_greatest_size_is_read_and_no_byte_more(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1000)
    assert read_file(path, limit=1000) == b"x" * 1000
    with pytest.raises(OSError, match="more than 999 bytes"):
        read_file(path, limit=999)


def test_a_file_that_has_no_size_is_read() -> None:
    assert b"MemTotal" in read_file("/proc/meminfo")


def test_a_file_replaced_by_a_pipe_while_it_is_opened_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first look is at a regular file, then there is a pipe, which `open` would wait for."""
    path = tmp_path / "file"
    path.write_text("")
    regular = os.stat(path)
    path.unlink()
    os.mkfifo(path)
    assert stat.S_ISREG(regular.st_mode)
    monkeypatch.setattr(os, "stat", lambda _path: regular)
    with pytest.raises(OSError, match="it is a named pipe"):
        read_file(path)


def test_a_byte_order_mark_is_no_part_of_a_configuration(tmp_path: Path) -> None:
    path = write_config(tmp_path, b"\xef\xbb\xbf" + b'drain = "5s"\r\n[endpoints]\r\ntcp = "tcp:0"\r\n')
    assert load(path).drain == 5


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_a_directory_that_is_made_is_0755_at_most_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    there = tmp_path / "there"
    there.mkdir()
    there.chmod(0o777)  # somebody else's decision
    before = os.umask(mask)
    try:
        for _ in range(2):
            make_directory(there / "a" / "b")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (there, there / "a", there / "a" / "b")]
    assert modes == [0o777, 0o755 & ~mask, 0o755 & ~mask]


def test_a_file_where_a_directory_is_to_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_directory(tmp_path / "file")
    with pytest.raises(NotADirectoryError):
        make_directory(tmp_path / "file" / "below")
