"""``gallery``: bad TLS without a configuration, and a configuration's own."""

from __future__ import annotations

import json
import re
import signal
import urllib.request
from pathlib import Path

import pytest

from suite.config.file import Config, Endpoint, read
from suite.config.gallery import GalleryTable
from suite.config.tls import TLS
from suite.errors import ConfigError, Mistakes
from suite.gallery.places import with_gallery
from tests.running import PATIENCE, run_suite, started


def test_without_a_configuration(tmp_path: Path) -> None:
    """It prints where the index is, where the CA is, and how to try one; the CA's file goes with it."""
    with started(tmp_path, "gallery", "--ports", "0", says=r"(\{[^\n]*\n)*") as process:
        assert process.stdout is not None
        lines: list[str] = []
        while not lines or not lines[-1].startswith("ready"):
            line = process.stdout.readline().decode()
            assert line, lines
            lines.append(line.rstrip())
        index = next(line for line in lines if line.startswith("gallery-index")).split()[-1]
        with urllib.request.urlopen(f"http://{index}/gallery.json", timeout=PATIENCE) as response:
            manifest = json.load(response)
        ports = {entry["name"]: entry["port"] for entry in manifest["specimens"]}
        assert lines[-1].startswith("ready; try: curl --cacert ")
        assert lines[-1].endswith(f" https://localhost:{ports['expired']}/")
        ca = Path(lines[-1].split()[4])
        assert ca.read_text() == manifest["ca"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    assert not ca.exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--ports", "many"], r"--ports 'many' cannot be used; expected 3 to 65535, such as 4500, or 0\n"),
        (["--ports", "65530"], r"gallery: gallery\.ports: 65530 leaves no room for \d+ ports; expected .*\n"),
        (["--host", "here"], r"--host 'here' is not an address; expected one such as 127\.0\.0\.1\n"),
        (["--domain", "a b"], r"--domain 'a b' is not a domain; expected one such as localhost\n"),
        (["--port", "1"], r".*unknown option --port; did you mean --ports\?.*\n"),
    ],
)
def test_mistakes(tmp_path: Path, arguments: list[str], says: str) -> None:
    assert run_suite(tmp_path, "gallery", *arguments, says=says).returncode == 2


#: What a configuration may say wrongly, and what is said of that.
MISTAKES = {
    "gallery = 1": "gallery: 1 is an integer; expected a table",
    "[gallery]\nport = 1": "gallery.port: unknown key; did you mean ports?",
    '[gallery]\nports = "4500"': "gallery.ports: '4500' is a string; expected the port",
    "[gallery]\nports = 1": "gallery.ports: 1 is out of range; expected",
    '[gallery]\nhost = "here"': "gallery.host: 'here' is not an address; expected",
    '[gallery]\ndomain = "-"': "gallery.domain: '-' is not a domain; expected",
    '[gallery]\nonly = "good"': "gallery.only: 'good' is a string; expected an array",
    "[gallery]\nca = 1": "gallery.ca: 1 is an integer; expected the path",
    "[gallery]\n[gallery.limits]\nidle = 1": "gallery.limits.idle: 1 is an integer; expected",
}


@pytest.mark.parametrize("config", MISTAKES)
def test_mistakes_in_a_configuration(tmp_path: Path, config: str) -> None:
    (tmp_path / "config.toml").write_text(config + "\n")
    mistakes = Mistakes()
    read(tmp_path / "config.toml", mistakes)
    with pytest.raises(ConfigError, match=re.escape(MISTAKES[config])):
        mistakes.raise_any()


def test_mistakes_in_what_it_opens(tmp_path: Path) -> None:
    """They are said once, however many specimens there are, and of the key in the file."""
    (tmp_path / "config.toml").write_text(
        "[gallery]\nonly = ['good', 'expired']\nanswer = 'nothing'\nfaults = [{ loss = 0.1 }]\n"
        "[gallery.limits]\nrate = 1\n[endpoints]\ntcp = 'tcp:4499'\n"
    )
    said = (
        r"[^\n]*gallery\.answer: 'nothing' is not an answer[^\n]*\n"
        r"[^\n]*gallery\.faults\[1\]\.loss: [^\n]*\n"
        r"[^\n]*gallery\.limits\.rate: does not go with ssl:; only UDP has it\n"
    )
    taken = r"[^\n]*gallery\.ports: 127\.0\.0\.1:4499 is taken by endpoints\.tcp; expected [^\n]*\n"
    assert run_suite(tmp_path, "check", says=f"{taken}{said}").returncode == 2


@pytest.mark.parametrize(
    ("only", "name", "says"),
    [
        (("expird",), "tcp", "gallery.only: 'expird' is not a specimen; did you mean expired?"),
        ((), "gallery-good", "endpoints.gallery-good: is a name of the gallery's; expected another"),
    ],
)
def test_mistakes_with_specimens(only: tuple[str, ...], name: str, says: str) -> None:
    endpoints = (Endpoint(name, "tcp:0", TLS()),)
    config = Config(Path("config.toml"), endpoints, gallery=GalleryTable(only=only))
    with pytest.raises(ConfigError, match=re.escape(says)):
        with_gallery(config)


def test_check_lists_what_would_be_bound(tmp_path: Path) -> None:
    """The port of a specimen does not depend on what else is served."""
    (tmp_path / "config.toml").write_text("[gallery]\nonly = ['expired']\n")
    lines = run_suite(tmp_path, "check").stdout.splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["gallery-index", "TCP", "127.0.0.1:4498"],
        ["gallery-sni", "TLS", "127.0.0.1:4499"],
        ["gallery-expired", "TLS", "127.0.0.1:4506"],
    ]
    assert "gallery: 1 specimen, 0 left out" in lines
