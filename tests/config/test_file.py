"""`suite.config.file.load`: what a configuration file says, once it is known to be right."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from suite import text
from suite.config import file as config
from suite.config.file import Config, Endpoint
from suite.config.tls import TLS
from suite.endpoints import parser
from suite.errors import ConfigError
from tests.helpers import ROOT, write_config

SHIPPED = ROOT / "config.toml"


def load(directory: Path, text: str) -> Config:
    return config.load(write_config(directory, text))


def test_a_plain_string_is_the_short_form_of_listen(tmp_path: Path) -> None:
    short = load(tmp_path, '[endpoints]\ntcp = "tcp:1234"')
    long = load(tmp_path, '[endpoints.tcp]\nlisten = "tcp:1234"')
    assert short == long
    assert short.endpoints == (Endpoint("tcp", "tcp:1234", TLS(), own_tls=None),)


def test_without_a_tls_table_the_defaults_hold(tmp_path: Path) -> None:
    (endpoint,) = load(tmp_path, '[endpoints]\ntls = "ssl:4433"').endpoints
    assert endpoint.tls == TLS(client_ca=None, minimum="1.2", maximum="1.3", alpn=(), chain=None)


def test_endpoints_keep_the_order_of_the_file(tmp_path: Path) -> None:
    loaded = load(tmp_path, '[endpoints]\nz = "tcp:1"\na = "tcp:2"\n[endpoints.m]\nlisten = "tcp:3"')
    assert [endpoint.name for endpoint in loaded.endpoints] == ["z", "a", "m"]


def test_every_endpoint_inherits_the_tls_table(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        '[endpoints]\nshort = "ssl:1"\nlong = { listen = "ssl:2" }\n'
        '[tls]\nminimum = "1.3"\nalpn = ["echo", "http/1.1"]\nchain = "between.pem"\nclient_ca = "ca.pem"',
    )
    inherited = TLS(
        client_ca=tmp_path / "ca.pem",
        minimum="1.3",
        maximum="1.3",
        alpn=("echo", "http/1.1"),
        chain=tmp_path / "between.pem",
    )
    assert [endpoint.tls for endpoint in loaded.endpoints] == [inherited, inherited]
    assert not any(endpoint.own_tls for endpoint in loaded.endpoints)


def test_an_endpoint_overrides_what_it_names_and_inherits_the_rest(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        '[tls]\nminimum = "1.3"\nalpn = ["echo"]\n'
        "[endpoints]\n"
        'own = { listen = "ssl:1", tls = { minimum = "1.2", alpn = [] } }\n'
        'other = "ssl:2"',
    )
    own, other = loaded.endpoints
    assert own.own_tls
    assert own.tls == TLS(minimum="1.2", alpn=())
    assert other.tls == TLS(minimum="1.3", alpn=("echo",))


def test_an_empty_tls_table_of_its_own_changes_nothing(tmp_path: Path) -> None:
    text = '[tls]\nmaximum = "1.2"\n[endpoints.a]\nlisten = "ssl:1"\ntls = {}'
    (endpoint,) = load(tmp_path, text).endpoints
    assert endpoint.tls == TLS(maximum="1.2")


@pytest.mark.parametrize("minimum", ["1.2", "1.3"])
@pytest.mark.parametrize("maximum", ["1.2", "1.3"])
def test_every_range_of_versions_is_accepted_that_is_one(tmp_path: Path, minimum: str, maximum: str) -> None:
    text = f'[endpoints]\na = "tcp:1"\n[tls]\nminimum = "{minimum}"\nmaximum = "{maximum}"'
    if minimum <= maximum:
        tls = load(tmp_path, text).endpoints[0].tls
        assert (tls.minimum, tls.maximum) == (minimum, maximum)
    else:
        with pytest.raises(ConfigError):
            load(tmp_path, text)


def test_paths_are_relative_to_the_file_and_not_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "elsewhere").mkdir()
    write_config(tmp_path / "etc", '[endpoints]\na = "ssl:1"\n[tls]\nclient_ca = "certs/ca.pem"\n')
    monkeypatch.chdir(tmp_path / "elsewhere")
    loaded = config.load(Path("../etc/config.toml"))
    (endpoint,) = loaded.endpoints
    assert endpoint.tls.client_ca is not None
    assert endpoint.tls.client_ca.is_absolute()
    assert endpoint.tls.client_ca.resolve() == (tmp_path / "etc/certs/ca.pem").resolve()
    assert loaded.directory.resolve() == (tmp_path / "etc").resolve()


def test_the_directory_stays_when_the_working_directory_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths in tls tables are absolute from the start: a daemon may change its directory."""
    write_config(tmp_path, '[endpoints]\na = "ssl:1"\n[tls]\nchain = "chain.pem"')
    monkeypatch.chdir(tmp_path)
    (endpoint,) = config.load(Path("config.toml")).endpoints
    monkeypatch.chdir("/")
    assert endpoint.tls.chain == tmp_path / "chain.pem"


def test_absolute_paths_stay_as_they_are(tmp_path: Path) -> None:
    text = '[endpoints]\na = "ssl:1"\n[tls]\nclient_ca = "/etc/ssl/ca.pem"'
    assert load(tmp_path, text).endpoints[0].tls.client_ca == Path("/etc/ssl/ca.pem")


def test_names_may_be_up_to_64_letters_digits_dashes_and_underscores(tmp_path: Path) -> None:
    names = ["a", "7", "-", "_", "Tcp_v4-2", "x" * 64]
    text = "[endpoints]\n" + "\n".join(f'{name} = "tcp:0"' for name in names)
    assert [endpoint.name for endpoint in load(tmp_path, text).endpoints] == names


def test_alpn_names_may_have_1_to_255_characters(tmp_path: Path) -> None:
    text = f'[endpoints]\na = "tcp:1"\n[tls]\nalpn = ["x", "{"x" * 255}"]'
    assert load(tmp_path, text).endpoints[0].tls.alpn == ("x", "x" * 255)


def test_what_is_loaded_cannot_be_changed(tmp_path: Path) -> None:
    loaded = load(tmp_path, '[endpoints]\na = "tcp:1"')
    for value, field in (
        (loaded, "file"),
        (loaded.endpoints[0], "listen"),
        (loaded.endpoints[0].tls, "alpn"),
    ):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field, None)


def test_a_suggestion_is_the_nearest_known_word_or_else_all_of_them() -> None:
    assert text.suggest("minimun", ["minimum", "maximum"]) == "; did you mean minimum?"
    assert text.suggest("xyz", ["minimum", "alpn"]) == "; expected alpn or minimum"


# The file that the suite comes with.


def test_the_shipped_file_declares_the_four_endpoints() -> None:
    loaded = config.load(SHIPPED)
    assert [(endpoint.name, endpoint.listen.partition(":")[0]) for endpoint in loaded.endpoints] == [
        ("tcp", "tcp"),
        ("udp", "udp"),
        ("tls", "ssl"),
        ("unix", "unix"),
    ]
    assert all(endpoint.tls == TLS() for endpoint in loaded.endpoints)


def test_the_shipped_endpoints_are_open_to_this_machine_only() -> None:
    hosts = {
        description.kind: description.arguments.get("interface")
        for description in parser.parse(config.load(SHIPPED))
    }
    assert hosts == {"tcp": "127.0.0.1", "udp": "127.0.0.1", "ssl": "127.0.0.1", "unix": None}


def uncommented(text: str) -> str:
    """*text* with its examples, which are TOML behind ``# ``, made to count."""
    return re.sub(r"^# (?=\[[a-z.]+\]$|\w+ += )", "", text, flags=re.MULTILINE)


def test_the_examples_in_the_shipped_file_are_right(tmp_path: Path) -> None:
    """Take the comment signs away, and it still is a configuration, of nine endpoints."""
    text = uncommented(SHIPPED.read_text("utf-8"))
    loaded = load(tmp_path, text)
    assert [endpoint.name for endpoint in loaded.endpoints] == (
        ["tcp", "udp", "tls", "unix", "tcp6", "udp6", "inherited", "balanced", "mutual"]
    )
    by_name = {description.endpoint.name: description for description in parser.parse(loaded)}
    assert by_name["tcp6"].address == by_name["udp6"].address == "[::1]:1234"
    assert by_name["balanced"].proxied
    assert by_name["mutual"].endpoint.tls.client_ca == tmp_path / "certs/ca.pem"
    assert by_name["mutual"].endpoint.tls.minimum == "1.3"


def test_the_defaults_that_the_shipped_file_names_are_the_defaults(tmp_path: Path) -> None:
    """`client_ca` and `chain` are said there not to be set; everything else is."""
    text = uncommented(SHIPPED.read_text("utf-8"))
    text = re.sub(r"^(client_ca|chain) = .*$", "", text, flags=re.MULTILINE)
    assert load(tmp_path, text).endpoints[0].tls == TLS()
