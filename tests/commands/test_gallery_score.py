"""``gallery score`` as its users see it, against a gallery that shares no code with ours."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from suite.cli import main
from tests.client.score.galleries import fake_gallery
from tests.helpers import ROOT
from tests.running import PATIENCE, client_program, wait_until

pytestmark = pytest.mark.usefixtures("measured")

#: A client that decides by the specimen's name, after proving that it reaches `good`.
CLIENT = """
import socket, ssl, sys, os, signal, time
host, port, ca, name, *conduct = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
if conduct == ["trusting"] and name != "nobody":
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
if name == "untrusted-root":
    if conduct == ["crashing"]:
        os.kill(os.getpid(), signal.SIGSEGV)
    if conduct == ["hanging"]:
        time.sleep(1000)
if name == "either" and conduct == ["refusing"]:
    sys.exit("I do not know this")
sock = socket.create_connection((host, int(port)), 30)
with sock, context.wrap_socket(sock, server_hostname=host) as tls:
    tls.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
    print(tls.recv(100).decode())
"""


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with fake_gallery(tmp_path_factory.mktemp("gallery")) as path:
        found = json.loads(path.read_text())
        found["specimens"] = [each for each in found["specimens"] if each["name"] != "gone"]
        (path.parent / "with-gone.json").write_text(path.read_text())
        path.write_text(json.dumps(found))
        (path.parent / "client.py").write_text(CLIENT)
        yield path


def command_of(gallery: Path) -> list[str]:
    """What runs `CLIENT`; its conduct is to follow."""
    return [sys.executable, str(gallery.parent / "client.py"), "{host}", "{port}", "{ca}", "{name}"]


def score(gallery: Path, *options: str, conduct: str = "careful", manifest: str = "gallery.json") -> int:
    """Score `CLIENT`; the exit code."""
    client = [*command_of(gallery), conduct]
    place = str(gallery.with_name(manifest))
    return main(["gallery", "score", "--gallery", place, "--limit", "60s", *options, "--", *client])


def document(capsys: pytest.CaptureFixture[str]) -> Any:
    (found,) = json.loads(capsys.readouterr().out)["scores"]
    return found


def test_a_careful_client_is_right(gallery: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert score(gallery) == 0
    out, err = capsys.readouterr()
    assert "total: 3 of 3 right\n" in out
    assert "note: left out of the gallery: rc5: nobody speaks it" in out
    assert not err


def test_what_is_wrongly_accepted_is_named_and_fails(
    gallery: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    junit = tmp_path / "junit.xml"
    assert score(gallery, "--junit", str(junit), conduct="trusting") == 1
    out = capsys.readouterr().out
    assert "  untrusted-root  wrongly accepted: About untrusted-root (RFC 5280)" in out
    assert "total: 2 of 3 right, 1 wrongly accepted\n" in out
    (suite,) = ET.parse(junit).getroot()
    assert {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "4",
        "failures": "1",
        "errors": "0",
        "skipped": "1",
    }
    (failure,) = suite.iter("failure")
    assert failure.get("type") == "wrongly accepted"


def test_what_a_client_cannot_see_it_does_not_accept_wrongly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that offers no protocol, and one that offers one; a server that has nothing to do with it."""
    client = (
        "import socket, ssl, sys\n"
        "context = ssl.create_default_context(cafile=sys.argv[2])\n"
        "context.set_alpn_protocols(sys.argv[3:])\n"
        "with socket.create_connection(('localhost', int(sys.argv[1])), 30) as sock:\n"
        "    with context.wrap_socket(sock, server_hostname='localhost') as tls:\n"
        "        tls.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')\n"
        "        assert tls.recv(100)\n"
    )
    with fake_gallery(tmp_path) as path:
        found = json.loads(path.read_text())
        good = found["specimens"][0]
        found["specimens"] = [good, {**good, "name": "alpn-mismatch", "must": "refuse"}]
        path.write_text(json.dumps(found))
        command = ("--gallery", str(path), "--", sys.executable, "-c", client, "{port}", "{ca}")
        assert main(["gallery", "score", *command]) == 0
        said = capsys.readouterr().out
        assert "note: alpn-mismatch says nothing of this client, which offers no protocol (ALPN)" in said
        assert "2 of 2 right" in said
        assert main(["gallery", "score", *command, "h2"]) == 1
        assert "alpn-mismatch  wrongly accepted" in capsys.readouterr().out


def test_a_crash_has_not_refused(gallery: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert score(gallery, "--json", conduct="crashing") == 1
    found = document(capsys)
    (crashed,) = [each for each in found["specimens"] if each["verdict"] == "crashed"]
    assert (crashed["name"], crashed["signal"], crashed["exit_code"]) == ("untrusted-root", 11, None)
    assert found["totals"]["wrongly accepted"] == 0


def test_a_hang_has_not_refused(gallery: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The limit is long enough for those that do not hang."""
    assert score(gallery, "--limit", "5s", conduct="hanging") == 1
    assert "  untrusted-root  hung: " in capsys.readouterr().out


def test_either_is_right_and_all_are_listed_when_asked_for(
    gallery: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(gallery, "--all", conduct="refusing") == 0
    out = capsys.readouterr().out
    assert "  either          right: refused: exit code 1: I do not know this" in out
    assert "  good            right: accepted" in out


def test_the_output_of_each_is_kept_and_the_error_compared(
    gallery: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(gallery, "--json", "--stack", "python") == 0
    found = {each["name"]: each for each in document(capsys)["specimens"]}
    assert found["good"]["stdout"].startswith("HTTP/1.0 200 OK")
    assert "CERTIFICATE_VERIFY_FAILED" in found["untrusted-root"]["stderr"]
    assert found["untrusted-root"]["error_as_expected"] is True
    assert found["good"]["error_as_expected"] is None


def test_a_baseline_fails_only_on_what_is_new(
    gallery: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline = tmp_path / "baseline.json"
    assert score(gallery, "--json", conduct="trusting") == 1
    baseline.write_text(capsys.readouterr().out)
    assert score(gallery, "--baseline", str(baseline), conduct="trusting") == 0
    out = capsys.readouterr().out
    assert "wrongly accepted (known)" in out
    assert "total: 2 of 3 right, 1 wrongly accepted, nothing new" in out
    found = json.loads(baseline.read_text())
    found["scores"][0]["client"] = found["scores"][0]["client"].replace("trusting", "crashing")
    baseline.write_text(json.dumps(found))
    assert score(gallery, "--baseline", str(baseline), conduct="crashing") == 1
    assert "1 of the wrong ones new" in capsys.readouterr().out


def test_what_nobody_serves_is_not_refused(gallery: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert score(gallery, "--json", manifest="with-gone.json") == 1
    found = document(capsys)
    assert found["totals"] | {"right": 3, "unknown": 1} == found["totals"]
    (gone,) = [each for each in found["specimens"] if each["name"] == "gone"]
    assert (gone["outcome"], gone["exit_code"], gone["seconds"]) == ("unreachable", None, None)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("true {port}", "it succeeds where nobody listens, so its exit code says nothing"),
        (
            "sh -c 'echo no CA >&2; exit 4' {port}",
            "it does not accept even `good`: refused (exit code 4): no CA",
        ),
        (
            "sh -c 'kill -9 $$' {port}",
            "it does not accept even `good`: crashed (signal 9): it has printed nothing",
        ),
    ],
)
def test_there_is_no_score_for_a_client_whose_exit_means_nothing(
    command: str, says: str, gallery: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gallery", "score", "--gallery", str(gallery), "--", *shlex.split(command)]) == 1
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("no score for ")
    assert err.endswith(f": {says}\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("-- no-such-program {port}", "no command 'no-such-program'; expected a program"),
        ("-- curl -f {host}", "no {port} in 'curl -f {host}'; expected a command with {host} {port} {ca}"),
        ("opensll", "'opensll' is not a client known by name; did you mean openssl?"),
        ("--limit soon openssl", "--limit 'soon' is not a duration"),
        ("--jobs 0 openssl", "--jobs '0' is out of range; expected 1 to 256"),
        ("--stack opensl -- sh {port}", "--stack 'opensl' is not known; did you mean openssl?"),
        (
            "--baseline missing.json -- sh {port}",
            "--baseline missing.json: No such file or directory; expected what",
        ),
        ("--junit nowhere/junit.xml -- sh {port}", "--junit nowhere/junit.xml: there is no such directory"),
        (
            "--gallery missing.json -- sh {port}",
            "--gallery missing.json: No such file or directory; expected",
        ),
    ],
)
def test_a_wrong_command_line_is_one_line(
    words: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["gallery", "score", *words.split()]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith(says)
    assert err.count("\n") == 1


def test_no_client_names_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["gallery", "score"])
    err = capsys.readouterr().err
    assert "no client; expected a command with {host} {port} {ca}, or one of openssl, gnutls, curl" in err


def test_a_file_that_is_no_baseline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for content in ("", "[]", "{}", '{"format": "echo-suite score 1", "scores": [1]}'):
        Path("some.json").write_text(content)
        assert main(["gallery", "score", "--baseline", "some.json", "--", "sh", "{port}"]) == 2
        assert (
            capsys.readouterr().err
            == "--baseline some.json is not a score; expected what --json has printed\n"
        )


def test_the_clients_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gallery", "score", "--list"]) == 0
    assert "python-ssl  installed\n" in capsys.readouterr().out


def test_ctrl_c_ends_it_with_what_there_is(gallery: Path, tmp_path: Path) -> None:
    """In a process of its own, whose clients must be gone with it."""
    mark = tmp_path / "pid"
    script = f'case $5 in untrusted-root) echo $$ > {mark};; esac; exec "$0" "$@"'
    command = [sys.executable, "-m", "suite", "gallery", "score", "--gallery", str(gallery), "--limit", "10m"]
    command += ["--", "sh", "-c", script, *command_of(gallery), "hanging"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            wait_until(lambda: mark.exists() and mark.read_text().endswith("\n"), "it hangs")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert process.returncode == 1
    assert not err
    assert " not tried, interrupted\n" in out
    assert not Path(f"/proc/{mark.read_text().strip()}").exists()


def test_by_default_it_starts_a_gallery_of_its_own() -> None:
    """All of it, in the way that the documentation shows."""
    client_program("curl")
    result = subprocess.run(
        [sys.executable, "-m", "suite", "gallery", "score", "curl", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
        check=False,
    )
    assert not result.stderr
    (found,) = json.loads(result.stdout)["scores"]
    assert found["totals"]["unknown"] == 0
    right = {each["name"] for each in found["specimens"] if each["verdict"] == "right"}
    assert {"good", "expired", "untrusted-root", "wrong-host", "self-signed", "hang-in-handshake"} <= right
    assert result.returncode == (0 if found["ok"] else 1)
