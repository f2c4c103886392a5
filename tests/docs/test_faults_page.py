"""docs/faults.md and the reference of its keys say what is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from suite.cli import main
from suite.config import file as config
from suite.config.fault_text import kind_misfit
from suite.config.fault_values import OPTIONS
from suite.config.faults import ALWAYS, USAGE, Kind
from suite.config.profiles import PROFILES
from suite.endpoints.parser import parse
from tests.docs.test_docs import rows
from tests.helpers import ROOT, write_config

PAGE = (ROOT / "docs/faults.md").read_text()
REFERENCE = (ROOT / "docs/configuration.md").read_text().partition("\n## Faults\n")[2].partition("\n## ")[0]

#: The files on the page: a block of TOML that begins with the name of one.
FILES = re.findall(r"^```toml\n# (\S+\.toml)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def keys(cell: str) -> list[str]:
    """The words in a cell that are code."""
    return re.findall(r"`(\w+)", cell)


def test_every_fault_is_on_the_page_with_its_options() -> None:
    declared: dict[str, set[str]] = {}
    for fault, _, options in rows(section("Declaring faults"), "fault"):
        declared.setdefault(keys(fault)[0], set(keys(options)))
    assert set(declared) == set(Kind)
    for kind in Kind:
        assert declared[kind] == USAGE[kind].options, kind


def test_every_condition_is_on_the_page() -> None:
    found = {keys(key)[0] for key, _, _ in rows(section("When they strike"), "key")}
    assert found == ALWAYS | {"after", "for"}


def test_every_profile_is_on_the_page_with_its_figures() -> None:
    table = {keys(name)[0]: figures for name, *figures in rows(section("Profiles"), "profile")}
    assert list(table) == list(PROFILES)
    for name, profile in PROFILES.items():
        latency, jitter, down, up, loss = (float(cell.split()[0]) for cell in table[name][:5])
        assert (latency / 1000, jitter / 1000, loss) == (profile.latency, profile.jitter, profile.loss)
        assert (down * 125, up * 125) == (profile.down, profile.up)


def test_every_key_is_in_the_reference_with_where_it_goes() -> None:
    transports = {
        "streams": {"TCP", "UNIX", "TLS"},
        "all": {"TCP", "UNIX", "TLS", "UDP"},
        "UDP": {"UDP"},
        "TLS": {"TLS"},
    }
    kinds = {key: where for names, _, where in rows(REFERENCE, "keys") for key in keys(names)}
    assert set(kinds) - {"profile"} == set(Kind)
    for kind in Kind:
        fits = {each for each in transports["all"] if kind_misfit(kind, frozenset({each})) is None}
        assert fits == transports[kinds[kind]], kind
    options = {keys(key)[0]: beside for key, _, beside in rows(REFERENCE, "key |")}
    assert list(options) == [
        "jitter", "distribution", "gap", "direction", "after", "for", "chance", "every", "once", "only",
    ]  # fmt: skip
    assert set(options) == set(OPTIONS)
    for option in ("jitter", "distribution", "gap", "direction"):
        assert keys(options[option]) == [kind for kind in Kind if option in USAGE[kind].options], option
    without = [kind for kind in Kind if "after" not in USAGE[kind].options]
    assert set(keys(options["after"])) == set(without)
    only_after = [
        kind for kind in Kind if "after" in USAGE[kind].options and "for" not in USAGE[kind].options
    ]
    assert set(keys(options["for"])) == set(only_after)


@pytest.mark.parametrize(("name", "text"), FILES, ids=[name for name, _ in FILES])
def test_every_file_on_the_page_is_a_configuration(tmp_path: Path, name: str, text: str) -> None:
    assert parse(config.load(write_config(tmp_path, text, name)))


def test_what_check_and_explain_print_is_what_they_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES:
        write_config(tmp_path, text, name)
    commands = re.findall(
        r"^    \$ python -m suite ((?:check|faults explain) .*)\n((?:    [^$].*\n)+)", PAGE, re.MULTILINE
    )
    assert len(commands) >= 3
    for command, printed in commands:
        assert main(command.split()) == 0
        assert capsys.readouterr().out.splitlines() == [line[4:] for line in printed.splitlines()]
