"""Faults in a configuration file: what it says, once it is known to be right."""

from __future__ import annotations

import json
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from suite.config import file as config
from suite.config.fault_text import words
from suite.config.fault_values import OPTIONS
from suite.config.faults import Bursts, Fault, Faults, Kind, Profile, Span
from suite.config.file import Config
from suite.config.profiles import PROFILES
from suite.endpoints.parser import parse
from suite.errors import ConfigError, MistakesError
from tests.helpers import write_config


def as_toml(value: object) -> str:
    """A value of TOML, most of which are written as in JSON."""
    if isinstance(value, float):
        return str(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def inline(table: Mapping[str, str]) -> str:
    """An inline table of TOML."""
    return "{ " + ", ".join(f"{key} = {value}" for key, value in table.items()) + " }"


def load(directory: Path, text: str) -> Config:
    return config.load(write_config(directory, text))


def declared(directory: Path, lines: str, listen: str = "tcp:0") -> Faults:
    """The faults of one endpoint with *lines* in its table, as they are once its transport is known."""
    (description,) = parse(load(directory, f'[endpoints.echo]\nlisten = "{listen}"\n{lines}\n'))
    return description.endpoint.faults


def test_without_a_word_about_them_there_are_none(tmp_path: Path) -> None:
    for text in ('[endpoints]\necho = "tcp:0"', '[endpoints.echo]\nlisten = "tcp:0"\nfaults = []'):
        (endpoint,) = load(tmp_path, text).endpoints
        assert not endpoint.faults
        assert endpoint.faults == Faults()


def test_entries_are_read_in_their_order(tmp_path: Path) -> None:
    faults = declared(
        tmp_path,
        """
        seed = 7
        faults = [
          { latency = "200ms", jitter = "50ms", distribution = "normal" },
          { reset = true, after = "64KiB", chance = 0.1 },
          { slice = "1B", gap = "10ms", direction = "both", every = 3 },
          { bandwidth = "8Mbit", after = "1s", for = "5s", once = true },
          { corrupt = 1, only = ["192.0.2.0/24", "::1"] },
        ]
        """,
    )
    assert faults == Faults(
        (
            Fault(Kind.LATENCY, 0.2, jitter=0.05, distribution="normal"),
            Fault(Kind.RESET, after=Span(size=65536), chance=0.1),
            Fault(Kind.SLICE, 1, gap=0.01, direction="both", every=3),
            Fault(Kind.BANDWIDTH, 1_000_000, after=Span(seconds=1.0), lasts=Span(seconds=5.0), once=True),
            Fault(Kind.CORRUPT, 1.0, networks=(ip_network("192.0.2.0/24"), ip_network("::1/128"))),
        ),
        seed=7,
    )
    assert [fault.place for fault in faults.entries] == [1, 2, 3, 4, 5]


def test_datagrams_and_tls_have_their_own(tmp_path: Path) -> None:
    faults = declared(
        tmp_path,
        """faults = [
          { loss = { p = 0.01, r = 0.3, 1-h = 0.9, 1-k = 0.1 } },
          { loss = 0.5, after = "10KiB" },
          { delay = "0ms", jitter = "1ms" },
          { rate = "56kbit" },
        ]""",
        "udp:0",
    )
    assert faults.entries == (
        Fault(Kind.LOSS, Bursts(0.01, 0.3, 0.9, 0.1)),
        Fault(Kind.LOSS, 0.5, after=Span(size=10240)),
        Fault(Kind.DELAY, 0.0, jitter=0.001),
        Fault(Kind.RATE, 7_000),
    )
    faults = declared(
        tmp_path,
        """faults = [
          { handshake = "stall-after-hello", only = ["*.Example.org", "10.0.0.0/8"] },
          { end = "notify+fin" },
          { alert = "unknown_ca" },
          { key_update = 5 },
        ]""",
        "ssl:0",
    )
    assert faults.entries == (
        Fault(
            Kind.HANDSHAKE,
            "stall-after-hello",
            networks=(ip_network("10.0.0.0/8"),),
            names=("*.example.org",),
        ),
        Fault(Kind.END, "notify+fin"),
        Fault(Kind.ALERT, "unknown_ca"),
        Fault(Kind.KEY_UPDATE, 5),
    )


def test_clients_may_choose(tmp_path: Path) -> None:
    assert declared(tmp_path, 'faults = "requested"') == Faults(requested=True)
    lines = 'faults = "requested"\nallow_faults = ["latency", "reset"]\nfaulty_connections = 5\nseed = 3'
    assert declared(tmp_path, lines) == Faults(
        seed=3, requested=True, allowed=frozenset({Kind.LATENCY, Kind.RESET}), most=5
    )


def test_a_seed_at_the_top_is_every_table_s(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        """
        seed = 3
        [endpoints.own]
        listen = "tcp:0"
        seed = 4
        faults = [{ reset = true }]
        [endpoints.inherited]
        listen = "tcp:0"
        faults = [{ reset = true }]
        """,
    )
    assert [endpoint.faults.seed for endpoint in loaded.endpoints] == [4, 3]


def test_the_rest_of_the_file(tmp_path: Path) -> None:
    plain = load(tmp_path, '[endpoints]\necho = "tcp:0"')
    assert (plain.control, plain.live_faults, plain.profiles) == (None, False, PROFILES)
    loaded = load(
        tmp_path,
        'control = "unix:run/control.sock:mode=600"\n[endpoints]\necho = "tcp:0"\n[faults]\nlive = true',
    )
    assert (loaded.control, loaded.live_faults) == ("unix:run/control.sock:mode=600", True)


PROFILED = """
[profiles.office]
latency = "20ms"
down = "8Mbit"
loss = 0.5
[profiles.3g]
jitter = "0ms"
up = "1KiB"
[endpoints.echo]
listen = "{listen}"
faults = [{{ profile = "office" }}, {{ profile = "3g", chance = 0.5, once = true }}]
"""


def test_profiles_are_changed_and_added_to(tmp_path: Path) -> None:
    loaded = load(tmp_path, PROFILED.format(listen="tcp:0"))
    assert loaded.profiles["office"] == Profile(latency=0.02, down=1_000_000, loss=0.5)
    assert loaded.profiles["3g"] == Profile(latency=0.3, down=200_000, up=1024, loss=0.005)
    assert loaded.profiles["dsl"] is PROFILES["dsl"]
    (description,) = parse(loaded)
    entries = description.endpoint.faults.entries
    assert list(map(words, entries)) == [
        "latency=20ms",
        "bandwidth=1000000B",
        "latency=300ms chance=0.5 once",
        "bandwidth=200000B chance=0.5 once",
        "bandwidth=1KiB direction=up chance=0.5 once",
    ]
    assert [(fault.profile, fault.place) for fault in entries] == [("office", 1)] * 2 + [("3g", 2)] * 3
    (description,) = parse(load(tmp_path, PROFILED.format(listen="udp:0")))
    assert list(map(words, description.endpoint.faults.entries)) == [
        "delay=20ms",
        "rate=1000000B",
        "loss=0.5",
        "delay=300ms chance=0.5 once",
        "rate=1KiB chance=0.5 once",
        "loss=0.005 chance=0.5 once",
    ]


def test_an_inherited_socket_may_have_the_faults_of_whatever_it_turns_out_to_be(tmp_path: Path) -> None:
    faults = declared(tmp_path, "faults = [{ reset = true }, { loss = 0.1 }]", "systemd:domain=INET:index=0")
    assert [fault.kind for fault in faults.entries] == [Kind.RESET, Kind.LOSS]


def test_clients_behind_a_proxy_header_have_an_address_even_over_a_unix_socket(tmp_path: Path) -> None:
    lines = 'faults = [{ reset = true, only = ["192.0.2.0/24"] }]'
    assert declared(tmp_path, lines, "haproxy:unix:echo.sock").entries


def test_what_clients_may_ask_for_has_to_apply_to_the_transport(tmp_path: Path) -> None:
    faults = declared(tmp_path, 'faults = "requested"\nallow_faults = ["handshake", "latency"]', "ssl:0")
    assert faults.allowed == {Kind.HANDSHAKE, Kind.LATENCY}


# Whatever is written there.

values = st.one_of(
    st.sampled_from(["200ms", "0ms", "64KiB", "8Mbit", "", "requested", "down", "3g", "fin", "\x1b[2J"]),
    st.integers(-2, 2**64),
    st.floats(),
    st.booleans(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
).map(as_toml)
items = st.one_of(
    values,
    st.lists(values, max_size=3).map(lambda found: f"[{', '.join(found)}]"),
    st.dictionaries(st.sampled_from(["p", "r", "1-h", "q"]), values, max_size=3).map(inline),
)
entries = st.one_of(
    items,
    st.dictionaries(st.sampled_from([*Kind, *OPTIONS, "profile", "seed", "x"]), items, max_size=4).map(
        inline
    ),
)
lines = st.dictionaries(
    st.sampled_from(["faults", "seed", "allow_faults", "faulty_connections"]),
    items | st.lists(entries, max_size=3).map(lambda found: f"[{', '.join(found)}]"),
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=lines, listen=st.sampled_from(["tcp:0", "udp:0", "ssl:0", "unix:x", "fd:3"]))
def test_a_table_is_read_or_each_mistake_is_a_line(
    tmp_path: Path, lines: dict[str, str], listen: str
) -> None:
    text = "\n".join(f"{key} = {value}" for key, value in lines.items())
    said = "config.toml: "
    try:
        declared(tmp_path, text, listen)
    except (ConfigError, MistakesError) as error:
        said = str(error)
    for line in said.split("\n"):
        assert line.isprintable()
        assert "config.toml: " in line
        assert "not TOML" not in line
