"""docs/recipes.md can be followed: its commands exist, its files are right, its words are the suite's.

Rules: nothing on the page is run here, which needs HAProxy, socat and minutes; what the commands do is
tested elsewhere. What is looked at changes behind a page's back: options, keys, words, links.
"""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

from suite import certs
from suite.cli import build_parser
from suite.client.dial.failures import WORDS
from suite.client.dial.target import parse_target
from suite.config import file as config
from suite.identities import load_certificates
from suite.reasons import Reason
from tests.helpers import ROOT

PAGE = (ROOT / "docs/recipes.md").read_text()

#: (language, name of the file, content) of each fenced block that begins with the name of a file.
FILES = re.findall(r"^```(\w+)\n# (\S+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)

PROGRAMS = (["python", "-m", "suite"], ["echo-suite"])


def command_lines() -> list[list[str]]:
    """The arguments of each call of the suite on the page: in examples, and in the crontab."""
    found = []
    joined = PAGE.replace("\\\n", " ")
    for line in re.findall(r"(?m)^(?: {4}\$|0 7 \* \* \*) (.*)$", joined):
        # Up to whatever ends a command in a shell; no argument on this page has one of these.
        found += [
            shlex.split(re.split(r"[|;&>']|\d>", rest)[0])
            for rest in re.split(r"(?:python -m suite|echo-suite)(?= |$)", line)[1:]
        ]
    return found


def exec_forms() -> list[list[str]]:
    """The same of ``CMD ["echo-suite", …]``, in the Dockerfile."""
    forms = re.findall(r"(?m)^ *(?:CMD|ENTRYPOINT) (\[.*\])$", PAGE)
    words: list[list[str]] = [ast.literal_eval(form) for form in forms]
    return [form[len(program) :] for form in words for program in PROGRAMS if form[: len(program)] == program]


def test_the_page_has_what_is_looked_at_here() -> None:
    assert len(re.findall(r"(?m)^## ", PAGE)) == 5
    assert len(command_lines()) > 20
    assert len(exec_forms()) == 1
    languages = [language for language, _, _ in FILES]
    assert languages.count("toml") == 5
    assert languages.count("python") == 4
    assert any("echo.example.org" in target for line in command_lines() for target in line)


@pytest.mark.parametrize("arguments", command_lines() + exec_forms(), ids=" ".join)
def test_every_command_exists(arguments: list[str]) -> None:
    options = build_parser(arguments).parse_args(arguments)
    for target in [*getattr(options, "targets", ()), *filter(None, [getattr(options, "target", None)])]:
        parse_target(target)


@pytest.mark.parametrize(
    ("name", "content"), [file[1:] for file in FILES if file[0] == "toml"], ids=lambda value: value[:20]
)
def test_every_configuration_is_one(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert config.load(tmp_path / name).endpoints


@pytest.mark.parametrize(
    ("name", "content"), [file[1:] for file in FILES if file[0] == "python"], ids=lambda value: value[:20]
)
def test_every_program_is_one(name: str, content: str) -> None:
    compile(content, name, "exec")


def test_the_expired_certificate_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (program,) = (content for _, name, content in FILES if name == "expired.py")
    certs.mint(tmp_path / "certs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.umask", lambda mask: mask)  # that of this process stays what it is
    exec(compile(program, "expired.py", "exec"), {})
    (old,) = load_certificates(tmp_path / "certs/old.pem")
    (good,) = load_certificates(tmp_path / "certs/server.pem")
    assert old.not_valid_after_utc < good.not_valid_before_utc


def test_every_failure_word_is_one() -> None:
    said = re.findall(r"(?m)^    seq=\d+: ([\w-]+): ", PAGE)
    assert {"closed", "timeout", "refused", "cert-expired"} <= set(said)
    table = PAGE[PAGE.index("| word |") :].split("\n\n")[0]
    told = re.findall(r"(?m)^\| `([\w-]+)`", table) + re.findall(r"for instance `([\w-]+)`", table)
    assert len(told) == 4
    assert set(said + told) <= set(WORDS)


def test_every_reason_in_a_log_is_one() -> None:
    said = re.findall(r"(?m)^    \d{4}-\d\d-\d\dT\S+ \w+ .*\(([a-z-]+)[,)]", PAGE)
    assert set(said) == {"closed", "per-peer"}
    assert set(said) <= set(Reason)
