"""`suite.errors`: errors carry their data, and their text is one line whatever is in it."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.errors import (
    EXIT_FAILURE,
    EXIT_OK,
    EXIT_USAGE,
    CertificateError,
    ConfigError,
    ListenError,
    Mistakes,
    MistakesError,
    PrivilegeError,
    SuiteError,
    UsageError,
)
from suite.text import one_line

#: All of Unicode, lone surrogates included: undecodable bytes in file names become such.
anything = st.text(st.characters())

#: What ends a line somewhere (`str.splitlines`), or moves a terminal's cursor, or hides.
NASTY = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029\x00\x1b[2J\x07\x7f\u200b\u202e\ufeff\udcff\t\xa0"


@given(anything)
def test_one_line_is_one_line_and_printable(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    assert len(line.splitlines()) <= 1
    line.encode("utf-8")


@given(st.text(st.characters(exclude_categories=("C", "Z"))))
def test_printable_text_stays_as_it_is(text: str) -> None:
    assert one_line(text) == text


def test_what_is_not_printable_is_escaped_and_not_dropped() -> None:
    assert one_line("a\nb\tc\x1b[0m\udcff") == r"a\nb\tc\x1b[0m\udcff"
    assert one_line("quotes ' and \" and \\ stay") == "quotes ' and \" and \\ stay"


@pytest.mark.parametrize(
    "error",
    [
        UsageError(NASTY),
        ConfigError(NASTY, NASTY, NASTY),
        ConfigError(NASTY, None, NASTY),
        CertificateError(NASTY, NASTY),
        ListenError(NASTY, NASTY, NASTY),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_error_is_one_line_whatever_is_in_it(error: SuiteError) -> None:
    assert isinstance(error, SuiteError)
    assert str(error)
    assert str(error).isprintable()


@given(anything, anything, anything)
def test_errors_are_one_line_whatever_is_in_them(one: str, two: str, three: str) -> None:
    for error in (UsageError(one), ConfigError(one, two, three), CertificateError(one, two)):
        assert str(error).isprintable()
    assert str(ListenError(one, two, three)).isprintable()


def test_a_config_error_carries_its_file_key_and_problem() -> None:
    error = ConfigError(Path("etc/config.toml"), "limits.conections", "unknown key")
    assert (error.file, error.key, error.problem) == ("etc/config.toml", "limits.conections", "unknown key")
    assert str(error) == "etc/config.toml: limits.conections: unknown key"


def test_a_config_error_of_the_whole_file_names_no_key() -> None:
    error = ConfigError("config.toml", None, "no such file")
    assert error.key is None
    assert str(error) == "config.toml: no such file"


def fail(error: Exception) -> None:
    raise error


def test_one_mistake_is_raised_itself_and_none_is_not() -> None:
    mistakes = Mistakes()
    mistakes.raise_any()
    error = ConfigError("config.toml", "drain", "is wrong")
    with mistakes.noted():
        fail(error)
    with pytest.raises(ConfigError) as caught:
        mistakes.raise_any()
    assert caught.value is error


def test_several_mistakes_are_in_the_order_of_the_file_and_each_is_there_once() -> None:
    mistakes = Mistakes()
    mistakes.in_order(["drain", "endpoints", "endpoints.a", "endpoints.a.listen", "limits", "limits.idle"])
    for key in ("limits.idle", "endpoints.a.limits.idle", "endpoints.a.listen", "drain", "limits.idle"):
        with mistakes.noted():
            fail(ConfigError("config.toml", key, "is wrong"))
    with pytest.raises(MistakesError) as caught:
        mistakes.raise_any()
    # A key that is missing in the file belongs to the table around it.
    keys = ["drain", "endpoints.a.limits.idle", "endpoints.a.listen", "limits.idle"]
    assert str(caught.value).splitlines() == [f"config.toml: {key}: is wrong" for key in keys]
    assert caught.value.exit_code == EXIT_USAGE


def test_several_mistakes_survive_being_copied() -> None:
    error = MistakesError(ConfigError("a", "b", "c"), ConfigError("a", "d", "e"))
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy)) == (MistakesError, "a: b: c\na: d: e")


def test_a_bug_is_not_collected_as_a_mistake() -> None:
    mistakes = Mistakes()
    with pytest.raises(ZeroDivisionError), mistakes.noted():
        fail(ZeroDivisionError())
    mistakes.raise_any()


def test_a_certificate_error_carries_its_path_and_problem() -> None:
    error = CertificateError(Path("certs/server.key"), "is not a private key")
    assert (error.path, error.problem) == ("certs/server.key", "is not a private key")
    assert str(error) == "certs/server.key: is not a private key"


def test_a_listen_error_carries_its_endpoint_address_and_reason() -> None:
    error = ListenError("tcp", "127.0.0.1:1234", "Address already in use")
    assert (error.endpoint, error.address, error.reason) == (
        "tcp",
        "127.0.0.1:1234",
        "Address already in use",
    )
    assert str(error) == "endpoints.tcp: cannot listen on 127.0.0.1:1234: Address already in use"


def test_a_privilege_error_carries_who_was_wanted_and_the_problem() -> None:
    error = PrivilegeError("echo:echo (uid 5, gid 6)", "Operation not permitted")
    assert (error.wanted, error.problem) == ("echo:echo (uid 5, gid 6)", "Operation not permitted")
    assert str(error) == "cannot run as echo:echo (uid 5, gid 6): Operation not permitted"


def test_a_usage_error_says_why() -> None:
    assert str(UsageError("--reactor 'x': no such reactor")) == "--reactor 'x': no such reactor"


def test_exit_codes() -> None:
    """What fails while running is 1; what the user has to correct first is 2."""
    assert (EXIT_OK, EXIT_FAILURE, EXIT_USAGE) == (0, 1, 2)
    ground = [kind for kind in SuiteError.__subclasses__() if kind.__module__ == "suite.errors"]
    assert {kind.__name__: kind.exit_code for kind in ground} == {
        "UsageError": 2,
        "ConfigError": 2,
        "MistakesError": 2,
        "CertificateError": 2,
        "ListenError": 1,
        "PrivilegeError": 1,
        "StoppingError": 1,
    }


@pytest.mark.parametrize(
    "error",
    [
        UsageError("a"),
        ConfigError("a", "b", "c"),
        CertificateError("a", "b"),
        ListenError("a", "b", "c"),
        PrivilegeError("a", "b"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_survive_being_copied(error: SuiteError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
