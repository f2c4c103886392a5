"""Options of serving in front of a command: heeded, or refused in one line that says the right form."""

from __future__ import annotations

from pathlib import Path

import pytest

from suite.cli import _IN_FRONT, COMMANDS, build_parser, main
from tests.helpers import write_config

CONFIG = '[endpoints]\ntcp = "tcp:0"\n'


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--workers 2 check", "suite check: --workers goes after the command: check --workers 2 (usage"),
        ("--workers=2 check", "suite check: --workers goes after the command: check --workers 2 (usage"),
        ("--workers 2 load tcp:1", "suite load: --workers goes after the command: load --workers 2 (usage"),
        (
            "--log json status",
            "suite status: --log is for serving, which needs no command; status has no such option",
        ),
        ("--log-level debug probe tcp:1", "--log-level is for serving"),
        ("--config x.toml certs", "suite certs: --config is for serving"),
        ("--reactor poll health", "suite health: --reactor is for serving"),
        ("--replay x faults list", "suite faults: --replay is for serving"),
        ("--workers 2 gallery", "suite gallery: --workers is for serving"),
        ("probe --reactor poll tcp:1", "unknown option --reactor; it goes before the command"),
        ("status --reactor poll", "unknown option --reactor; it is for serving"),
    ],
)
def test_what_a_command_would_not_heed_is_one_line(
    line: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        main(line.split())
    assert error.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err


def test_check_takes_the_number_of_workers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(write_config(tmp_path, CONFIG))
    for line in (["check", "--workers", "3", "--config", file], ["--config", file, "check", "--workers=3"]):
        assert main(line) == 0
        assert capsys.readouterr().out.endswith("1 endpoint, 3 workers, no errors\n")
    file = str(write_config(tmp_path, '[endpoints]\nstdio = "stdio:"\n'))
    assert main(["check", "--config", file]) == 0
    assert main(["check", "--config", file, "--workers", "2"]) == 2
    assert main(["check", "--config", file, "--workers", "x"]) == 2
    said = capsys.readouterr().err
    assert "--workers 'x': cannot be used; expected 1 to 256" in said


def test_every_command_says_what_it_takes_in_front() -> None:
    assert _IN_FRONT.keys() == COMMANDS.keys()
    for options in _IN_FRONT.values():
        assert {*options} <= {*build_parser([]).options}
