"""Bad declarations of faults: ``check`` answers each with one line that names it, and exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from suite.cli import main
from tests.commands.test_bad_input import complaint, complaints
from tests.helpers import write_config

#: Listening on each transport.
TCP, UDP, UNIX = "tcp:0", "udp:0", "unix:echo.sock"
TLS = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"

#: One bad entry of an array of faults: what listens, the entry, the key in it, and what the line says.
ENTRIES = [
    # What an entry is.
    (TCP, '"latency"', "", "'latency' is a string; expected a table, such as { latency = \"200ms\" }"),
    (TCP, "{}", "", "names no fault; expected one of latency, bandwidth, slice"),
    (TCP, '{ jitter = "50ms" }', "", "names no fault; expected one of latency"),
    (
        TCP,
        '{ latency = "1s", reset = true }',
        "",
        "names 2 faults, latency and reset; expected an entry for each",
    ),
    (TCP, '{ profile = "3g", reset = true }', "", "names 2 faults, profile and reset"),
    (TCP, '{ latancy = "1s" }', "latancy", "unknown key; did you mean latency?"),
    (TCP, '{ xyzzy = "1s" }', "xyzzy", "unknown key; expected one of latency"),
    (TCP, '{ "a b" = 1, reset = true }', "'a b'", "unknown key"),
    (TCP, "{ reset = true, chanse = 0.1 }", "chanse", "unknown key; did you mean chance?"),
    (TCP, '{ reset_peer = "1s" }', "reset_peer", "unknown key; did you mean reset?"),
    (TCP, "{ reset = true, toxicity = 0.1 }", "toxicity", "unknown key; did you mean chance?"),
    # What others call it.
    (TCP, "{ abort = true }", "abort", "unknown key; did you mean reset?"),
    (UDP, "{ drop = 0.1 }", "drop", "unknown key; did you mean loss?"),
    (TCP, "{ reset = true, percentage = 10 }", "percentage", "unknown key; did you mean chance?"),
    (
        TCP,
        '{ reset = true, direction = "upstream" }',
        "direction",
        "'upstream' is unknown; did you mean up?",
    ),
    (TCP, '{ reset = true, direction = "UP" }', "direction", "'UP' is unknown; did you mean up?"),
    (TLS, '{ alert = "DECODE_ERROR" }', "alert", "'DECODE_ERROR' is unknown; did you mean decode_error?"),
    (TCP, '{ slice = "1" }', "slice", 'such as "64KiB" or "100B"; did you mean "1B"?'),
    (TCP, '{ limit = "64 kB" }', "limit", 'did you mean "64KiB"?'),
    (TCP, '{ bandwidth = "10KB" }', "bandwidth", 'or "8Mbit"; did you mean "10KiB"?'),
    (TCP, '{ stall = true, for = "1KiB" }', "for", "'1KiB' never ends, since no byte passes meanwhile"),
    # Options that do not belong to the kind.
    (
        TCP,
        '{ reset = true, jitter = "1s" }',
        "jitter",
        "does not go with reset; only latency and delay have it",
    ),
    (TCP, '{ latency = "1s", gap = "1s" }', "gap", "does not go with latency; only slice has it"),
    (TCP, '{ refuse = true, after = "1s" }', "after", "does not go with refuse; only latency, bandwidth"),
    (TCP, '{ limit = "1KiB", for = "1s" }', "for", "does not go with limit"),
    (TCP, '{ profile = "3g", jitter = "1s" }', "jitter", "does not go with profile"),
    # Durations.
    (
        TCP,
        "{ latency = 200 }",
        "latency",
        '200 is an integer; expected a duration such as "200ms" or "2s"; did you mean "200ms"?',
    ),
    (TCP, '{ latency = "200" }', "latency", "'200' is not a duration; expected a duration such as"),
    (TCP, '{ latency = "-1s" }', "latency", "'-1s' is not a duration"),
    (TCP, '{ latency = "366d" }', "latency", "'366d' is too long; expected \"365d\" at the most"),
    (TCP, "{ latency = true }", "latency", "True is a boolean; expected a duration"),
    (TCP, '{ latency = "1s", jitter = "x" }', "jitter", "'x' is not a duration"),
    (
        TCP,
        '{ latency = "1s", distribution = "gauss" }',
        "distribution",
        '\'gauss\' is unknown; expected "uniform" or "normal"',
    ),
    (TCP, '{ latency = "1s", distribution = "paretto" }', "distribution", "did you mean pareto?"),
    # Sizes and rates.
    (
        TCP,
        "{ slice = 1 }",
        "slice",
        '1 is an integer; expected a size such as "64KiB" or "100B"; did you mean "1B"?',
    ),
    (TCP, '{ slice = "0B" }', "slice", "'0B' is too small; expected \"1B\" or more"),
    (TCP, '{ slice = "1kib" }', "slice", "'1kib' is not a size"),
    (TCP, '{ limit = "1024TiB" }', "limit", "'1024TiB' is too large; expected \"512TiB\" at the most"),
    (
        TCP,
        '{ bandwidth = "fast" }',
        "bandwidth",
        "'fast' is not a rate; expected a number of bytes or bits a second",
    ),
    (
        TCP,
        '{ bandwidth = "7bit" }',
        "bandwidth",
        '\'7bit\' is too slow; expected "1B" or "8bit" at the least',
    ),
    (TCP, '{ bandwidth = "999999999Gbit" }', "bandwidth", "too fast"),
    (TCP, "{ bandwidth = 10 }", "bandwidth", "10 is an integer; expected a number of bytes"),
    (UDP, '{ truncate = "64KiB" }', "truncate", "'64KiB' is too large; expected \"65507B\" at the most"),
    (TLS, '{ fragment = "32KiB" }', "fragment", "'32KiB' is too large; expected \"16KiB\" at the most"),
    # Shares.
    (
        TCP,
        "{ corrupt = 2 }",
        "corrupt",
        "2 is out of range; expected a share from 0 to 1, such as 0.1; did you mean 0.02?",
    ),
    (TCP, "{ corrupt = -0.1 }", "corrupt", "-0.1 is out of range"),
    (TCP, "{ corrupt = nan }", "corrupt", "nan is out of range"),
    (
        TCP,
        '{ corrupt = "10%" }',
        "corrupt",
        "'10%' is not a share; expected a share from 0 to 1, such as 0.1; did you mean 0.1?",
    ),
    (TCP, "{ corrupt = [] }", "corrupt", "[] is an array; expected a share"),
    (UDP, "{ loss = { r = 0.1 } }", "loss", "p is missing"),
    (
        UDP,
        "{ loss = { p = 0.1, q = 0.1 } }",
        "loss",
        "'q' is not a parameter of bursts; expected 1-h or 1-k or p or r",
    ),
    (UDP, "{ loss = { p = 0.1, r = 2 } }", "loss", "r: 2 is out of range"),
    (UDP, '{ loss = "much" }', "loss", "'much' cannot be used; expected a share from 0 to 1"),
    # Words.
    (TCP, "{ reset = false }", "reset", "false has no effect; expected true, or no such entry"),
    (TCP, '{ reset = "yes" }', "reset", "'yes' cannot be used; expected true"),
    (TCP, "{ reset = 1 }", "reset", "1 is an integer; expected true"),
    (TLS, '{ handshake = "silnet" }', "handshake", "'silnet' is unknown; did you mean silent?"),
    (TLS, '{ end = "xxx" }', "end", '\'xxx\' is unknown; expected "notify+fin" or "notify" or "fin"'),
    (
        TLS,
        '{ alert = "handshake_failed" }',
        "alert",
        "'handshake_failed' is unknown; did you mean handshake_failure?",
    ),
    (TLS, "{ alert = 40 }", "alert", "40 is an integer; expected the name of an alert"),
    (TLS, "{ key_update = 0 }", "key_update", "0 is out of range; expected a whole number from 1 to 100000"),
    (
        TCP,
        '{ latency = "1s", direction = "left" }',
        "direction",
        '\'left\' is unknown; expected "down" or "up" or "both"',
    ),
    # When.
    (TCP, "{ reset = true, chance = 1.5 }", "chance", "1.5 is out of range"),
    (TCP, '{ reset = true, chance = "often" }', "chance", "'often' is not a share"),
    (
        TCP,
        "{ reset = true, every = 0 }",
        "every",
        "0 is out of range; expected a whole number from 1 to 2147483647",
    ),
    (TCP, '{ reset = true, every = "2" }', "every", "'2' is not a whole number"),
    (TCP, "{ reset = true, once = 1 }", "once", "1 is an integer; expected true or false"),
    (
        TCP,
        "{ reset = true, after = 65536 }",
        "after",
        '65536 is an integer; expected a size or a time, such as "64KiB" or "2s"; did you mean "65536B"?',
    ),
    (
        TCP,
        '{ reset = true, after = "soon" }',
        "after",
        "'soon' is neither a size nor a time; expected a size or a time",
    ),
    (
        TCP,
        '{ reset = true, only = "10.0.0.0/8" }',
        "only",
        "'10.0.0.0/8' is a string; expected an array of networks or names",
    ),
    (TCP, "{ reset = true, only = [] }", "only", "[] is nobody"),
    (
        TCP,
        '{ reset = true, only = ["10.0.0.1/8"] }',
        "only",
        "'10.0.0.1/8' is not a network; did you mean 10.0.0.0/8?",
    ),
    (TCP, '{ reset = true, only = ["10.0.0"] }', "only", "'10.0.0' is not a network"),
    (TLS, '{ reset = true, only = ["a..b"] }', "only", "'a..b' is neither a network nor a name"),
    (TLS, "{ reset = true, only = [1] }", "only", "1 is an integer; expected an array"),
    (
        TCP,
        '{ reset = true, only = ["*.example.org"] }',
        "only",
        "'*.example.org' is a name, for which only TLS clients ask",
    ),
    (
        TLS,
        '{ refuse = true, only = ["a.example"] }',
        "only",
        "'a.example' is a name, which is known only after refuse strikes",
    ),
    (TLS, '{ accept_delay = "1s", only = ["a.example"] }', "only", "known only after accept_delay strikes"),
    (
        UNIX,
        '{ reset = true, only = ["10.0.0.0/8"] }',
        "only",
        "10.0.0.0/8 is a network, and clients of a UNIX socket are in none",
    ),
    # Where.
    (UDP, '{ latency = "1s" }', "latency", "does not go with UDP; did you mean delay?"),
    (TCP, '{ delay = "1s" }', "delay", "does not go with TCP; did you mean latency?"),
    (UNIX, '{ rate = "1KiB" }', "rate", "does not go with UNIX; did you mean bandwidth?"),
    (UDP, '{ limit = "1KiB" }', "limit", "does not go with UDP; did you mean truncate?"),
    (UDP, "{ reset = true }", "reset", "does not go with UDP; only streams have it"),
    (TCP, "{ loss = 0.1 }", "loss", "does not go with TCP; only UDP has it"),
    (TCP, '{ handshake = "silent" }', "handshake", "does not go with TCP; only TLS has it"),
    (
        "systemd:domain=INET:index=0",
        '{ handshake = "silent" }',
        "handshake",
        "does not go with TCP or UDP; only TLS has it",
    ),
    (UDP, '{ corrupt = 0.1, direction = "up" }', "direction", "does not go with UDP"),
    # Profiles.
    (TCP, '{ profile = "5g" }', "profile", "'5g' is not a profile"),
    (TCP, '{ profile = "satelite" }', "profile", "did you mean satellite?"),
    (TCP, "{ profile = 3 }", "profile", "3 is an integer; expected the name of a profile"),
]

#: The rest: what is wrong in an endpoint's table, or at the top level.
TABLES = [
    ('faults = { latency = "1s" }', "endpoints.echo.faults", "is one table; expected an array of faults"),
    ("faults = 1", "endpoints.echo.faults", "1 is an integer; expected an array of faults"),
    ('faults = "requestd"', "endpoints.echo.faults", "'requestd' is unknown; did you mean requested?"),
    ('faults = "none"', "endpoints.echo.faults", "'none' is unknown; expected an array of faults, such as"),
    ("seed = -1", "endpoints.echo.seed", "-1 is out of range; expected a whole number, 0 or more"),
    ('seed = "7"', "endpoints.echo.seed", "'7' is a string; expected a whole number"),
    ("seed = true", "endpoints.echo.seed", "True is a boolean; expected a whole number"),
    (
        'allow_faults = ["latency"]',
        "endpoints.echo.allow_faults",
        'does nothing without faults = "requested"',
    ),
    (
        "faulty_connections = 5",
        "endpoints.echo.faulty_connections",
        'does nothing without faults = "requested"',
    ),
    (
        'faults = "requested"\nallow_faults = "latency"',
        "endpoints.echo.allow_faults",
        "'latency' is a string; expected",
    ),
    ('faults = "requested"\nallow_faults = []', "endpoints.echo.allow_faults", "allows nothing"),
    (
        'faults = "requested"\nallow_faults = ["latancy"]',
        "endpoints.echo.allow_faults",
        "'latancy' is not a fault; did you mean latency?",
    ),
    (
        'faults = "requested"\nallow_faults = [1]',
        "endpoints.echo.allow_faults",
        "1 is an integer; expected an array",
    ),
    (
        'faults = "requested"\nallow_faults = ["loss"]',
        "endpoints.echo.allow_faults",
        "loss does not go with TCP; only UDP has it",
    ),
    (
        'faults = "requested"\nallow_faults = ["refuse"]',
        "endpoints.echo.allow_faults",
        "refuse strikes before a client can ask for it; expected other kinds",
    ),
    (
        'faults = "requested"\nfaulty_connections = 0',
        "endpoints.echo.faulty_connections",
        "0 is out of range",
    ),
    ("fault = []", "endpoints.echo.fault", "unknown key; did you mean faults?"),
    ("[faults]\nlive = 1", "faults.live", "1 is an integer; expected true or false"),
    ("[faults]\nlife = true", "faults.life", "unknown key; did you mean live?"),
    ("[profiles]\noffice = 1", "profiles.office", "1 is an integer; expected a table"),
    ("[profiles.office]", "profiles.office", "is empty; expected latency or jitter or down or up or loss"),
    ("[profiles.office]\nlatency = 1", "profiles.office.latency", "1 is an integer; expected a duration"),
    ('[profiles.office]\nlatncy = "1s"', "profiles.office.latncy", "unknown key; did you mean latency?"),
    ('[profiles.office]\ndown = "x"', "profiles.office.down", "'x' is not a rate"),
    ('[profiles."a b"]\ndown = "1KiB"', "profiles", "'a b' cannot name a profile"),
]

TOP = [
    ("seed = 1.5", "seed", "1.5 is a float; expected a whole number, 0 or more"),
    ("faults = []", "faults", "is an array; expected it in the table of an endpoint"),
    ("faults = 1", "faults", "1 is an integer; expected a table"),
    ("profiles = 1", "profiles", "1 is an integer; expected a table of profiles"),
    ("control = 1", "control", "1 is an integer; expected a UNIX socket"),
    ('control = ""', "control", "'' cannot be used; expected a UNIX socket, such as"),
]


def refusal(directory: Path, text: str, capsys: pytest.CaptureFixture[str]) -> str:
    return complaint(write_config(directory, text), capsys)


@pytest.mark.parametrize(
    ("listen", "entry", "key", "said"), ENTRIES, ids=[entry for _, entry, _, _ in ENTRIES]
)
def test_a_bad_entry_is_named_with_its_key(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    listen: str,
    entry: str,
    key: str,
    said: str,
) -> None:
    """It is the second of two, and the line says so."""
    monkeypatch.chdir(tmp_path)
    text = f"[endpoints.echo]\nlisten = '{listen}'\nfaults = [{{ corrupt = 0.5 }}, {entry}]\n"
    line = refusal(tmp_path, text, capsys)
    assert line.startswith(f"config.toml: endpoints.echo.faults[2]{'.' * bool(key)}{key}: ")
    assert said in line


@pytest.mark.parametrize(("lines", "key", "said"), TABLES, ids=[lines for lines, _, _ in TABLES])
def test_a_bad_key_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    lines: str,
    key: str,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    line = refusal(tmp_path, f'[endpoints.echo]\nlisten = "tcp:0"\n{lines}\n', capsys)
    assert line.startswith(f"config.toml: {key}: ")
    assert said in line


@pytest.mark.parametrize(("first", "key", "said"), TOP, ids=[first for first, _, _ in TOP])
def test_a_bad_key_at_the_top_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    first: str,
    key: str,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    line = refusal(tmp_path, f'{first}\n[endpoints]\necho = "tcp:0"\n', capsys)
    assert line.startswith(f"config.toml: {key}: ")
    assert said in line


def test_all_mistakes_are_reported_in_the_order_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two in one entry, in several entries, and in what only the transport tells."""
    monkeypatch.chdir(tmp_path)
    text = """
seed = "x"
[endpoints.flaky]
listen = "tcp:0"
faults = [
  { latency = "soon", jitter = 1 },
  { reset = true, chance = 2 },
  { loss = 0.1 },
]
[endpoints.other]
listen = "udp:0"
faults = [{ resett = true }]
"""
    lines = complaints(write_config(tmp_path, text), capsys)
    assert [line.partition(": ")[0] for line in lines] == [
        "seed",
        "endpoints.flaky.faults[1].latency",
        "endpoints.flaky.faults[1].jitter",
        "endpoints.flaky.faults[2].chance",
        "endpoints.flaky.faults[3].loss",
        "endpoints.other.faults[1].resett",
    ]


# The command line.

CONFIG = """
[endpoints]
clean = "tcp:0"
[endpoints.flaky]
listen = "tcp:0"
faults = [{ reset = true }]
[endpoints.chosen]
listen = "tcp:0"
faults = "requested"
"""

COMMANDS = [
    (["--endpoint", "flakey"], "--endpoint 'flakey' is not an endpoint; did you mean flaky?"),
    ([], "--endpoint NAME is missing; expected one of flaky, chosen"),
    (["--endpoint", "chosen"], "endpoints.chosen: clients choose their faults"),
    (
        ["--endpoint", "flaky", "--connections", "0"],
        "--connections '0' is out of range; expected 1 to 1000000",
    ),
    (["--endpoint", "flaky", "--datagrams", "x"], "--datagrams 'x' is not a number"),
    (["--endpoint", "flaky", "--host", "localhost"], "--host 'localhost' is not an address"),
    (
        ["--endpoint", "flaky", "--name", "a.example"],
        "--name: TCP clients ask for no name; only those of TLS do",
    ),
]


@pytest.mark.parametrize(("arguments", "said"), COMMANDS, ids=[said for _, said in COMMANDS])
def test_a_bad_command_line_of_explain_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    file = write_config(tmp_path, CONFIG)
    assert main(["faults", "explain", "--config", str(file), *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert said in err


@pytest.mark.parametrize("arguments", [["faults"], ["faults", "explan"], ["faults", "explain", "extra"]])
def test_a_command_that_is_missing_or_wrong_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert "explain" in err
    assert ("'explan' is not a command; did you mean explain?" in err) is ("explan" in arguments)
