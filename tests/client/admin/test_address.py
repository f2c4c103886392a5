"""Where the admin interface is: ``--admin``, and the configuration."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from suite.client.admin.address import (
    Address,
    configured,
    has_only_admin,
    parse_address,
    read_client_token,
)
from suite.errors import ConfigError, MistakesError, UsageError
from tests.helpers import write_config


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:run/admin.sock", Address(path="run/admin.sock")),
        ("unix:admin.sock", Address(path="admin.sock")),
        ("unix:/run/a:b.sock", Address(path="/run/a:b.sock")),
        ("run/admin.sock", Address(path="run/admin.sock")),
        ("tcp:localhost:9901", Address(host="localhost", port=9901)),
        ("tcp:[::1]:9901", Address(host="::1", port=9901)),
        ("http://192.0.2.1:80", Address(host="192.0.2.1", port=80)),
        ("http://echo.example:9901/", Address(host="echo.example", port=9901)),
    ],
)
def test_what_the_user_says(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "unix:",
        "tcp:localhost",
        "tcp:a b:1",
        "http://localhost:9901/metrics",
        "http://user@localhost:9901",
        "https://localhost:9901",
        "ssl:localhost:9901",
    ],
)
def test_what_is_no_admin_interface(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_address(text)
    expected = "expected unix:run/admin.sock, tcp:localhost:9901 or http://localhost:9901"
    assert str(raised.value) == f"--admin {text!r} is not an admin interface; {expected}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("localhost:9901", " is not an admin interface; did you mean tcp:localhost:9901?"),
        (":9901", " is not an admin interface; did you mean tcp:localhost:9901?"),
        ("tcp:9901", " is not an admin interface; did you mean tcp:localhost:9901?"),
        ("9901", " is not an admin interface; did you mean tcp:localhost:9901?"),
        ("[::1]:9901", " is not an admin interface; did you mean tcp:[::1]:9901?"),
        ("tcp:localhost:65536", ": port '65536' is out of range; expected 1 to 65535"),
        ("tcp:localhost:0", ": port '0' is out of range; expected 1 to 65535"),
    ],
)
def test_what_was_probably_meant_is_said(text: str, problem: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_address(text)
    assert str(raised.value) == f"--admin {text!r}{problem}"


@pytest.mark.parametrize(
    ("listen", "addresses"),
    [
        ('"tcp:9901"', ["127.0.0.1:9901"]),
        ('"TCP:9901:interface=0.0.0.0"', ["127.0.0.1:9901"]),
        ('"tcp:9901:interface="', ["127.0.0.1:9901"]),
        ('"tcp:9901:192.0.2.1:5"', ["192.0.2.1:9901"]),
        ('"tcp:port=9901:backlog=5"', ["127.0.0.1:9901"]),
        ("'tcp:9901:interface=\\:\\:1'", ["[::1]:9901"]),
        ('"tcp6:9901"', ["[::1]:9901"]),
        ('"tcp6:9901:interface="', ["[::1]:9901"]),
        ("'tcp6:9901:interface=\\:\\:'", ["[::1]:9901"]),
        ('["tcp:9901", "unix:a.sock:mode=660", "tcp:9902"]', ["a.sock", "127.0.0.1:9901", "127.0.0.1:9902"]),
        ('["tcp:0", "unix:address=run/../b.sock"]', ["b.sock"]),
        ("'unix:with\\:colon.sock'", ["with:colon.sock"]),
    ],
)
def test_what_the_configuration_says(tmp_path: Path, listen: str, addresses: list[str]) -> None:
    """UNIX sockets come first; their paths are relative to the file."""
    file = write_config(tmp_path, f'[endpoints]\ntcp = "nonsense"\n[admin]\nlisten = {listen}\nhots = []\n')
    found = [
        os.path.relpath(each.path, tmp_path) if each.path else str(each)
        for each in configured(file).addresses
    ]
    assert found == addresses


def test_a_token_file_is_relative_to_the_configuration(tmp_path: Path) -> None:
    file = write_config(tmp_path, '[admin]\nlisten = "tcp:9901"\ntoken_file = "secrets/token"\n')
    assert configured(file).token_file == tmp_path / "secrets/token"


def test_a_long_way_to_a_socket_is_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    file = write_config(deep, '[admin]\nlisten = "unix:run/admin.sock"\n')
    monkeypatch.chdir(deep)
    assert configured(file).addresses == (Address(path="run/admin.sock"),)


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        ('[endpoints]\na = "tcp:1"', "admin", 'missing; expected a table [admin] with listen = "unix:run/'),
        ("[admin]", "admin.listen", "missing; expected an endpoint description"),
        ("admin = 7", "admin", "7 is an integer; expected a table"),
        ("[admin]\nlisten = 7", "admin.listen", "7 is an integer; expected an endpoint description"),
        ("[admin]\nlisten = 'ssl:1'", "admin.listen", "'ssl:1' cannot be used; expected a tcp:, tcp6: or"),
        ("[admin]\nlisten = 'unix:'", "admin.listen", "'unix:' cannot be used; expected a tcp:, tcp6: or"),
        ("[admin]\nlisten = 'tcp:'", "admin.listen", "'tcp:' cannot be used; expected a tcp:, tcp6: or unix"),
        ("[admin]\nlisten = 'tcp:0'", "admin.listen", "'tcp:0' has a port that the system chooses; name the"),
    ],
)
def test_a_configuration_without_one_says_how_to_have_one(
    tmp_path: Path, text: str, key: str, problem: str
) -> None:
    with pytest.raises((ConfigError, MistakesError)) as raised:
        configured(write_config(tmp_path, text))
    assert isinstance(raised.value, ConfigError)
    assert raised.value.key == key
    assert raised.value.problem.startswith(problem)
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "only"),
    [
        ("[admin]", True),
        ('control = "unix:c"\n[admin]', False),
        ('control = "unix:c"', False),
        ("", False),
    ],
)
def test_a_control_socket_is_preferred(tmp_path: Path, text: str, *, only: bool) -> None:
    assert has_only_admin(write_config(tmp_path, text)) is only


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "token: cannot be read: No such file or directory; expected the file with the suite's token"),
        (b"", "token: contains no token; expected one on one line"),
        (b"two words\n", "token: contains no token; expected one on one line"),
        (b"\xff\n", "token: contains no token; expected one on one line"),
        (b"a\x00b", "token: contains no token; expected one on one line"),
        (b"x" * 5000, "token: cannot be read: it has more than 4,096 bytes"),
    ],
)
def test_a_file_without_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    with pytest.raises(UsageError, match="token") as raised:
        read_client_token(Path("token"))
    assert str(raised.value).startswith(problem)


def test_a_token_without_the_end_of_its_line(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(" 0123456789abcdef\r\n")
    assert read_client_token(tmp_path / "token") == "0123456789abcdef"
