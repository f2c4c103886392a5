"""``certs``: make development certificates."""

from __future__ import annotations

import argparse
from pathlib import Path

from suite import certs
from suite.commands.console import say
from suite.errors import EXIT_OK, UsageError
from suite.text import shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``certs``."""
    parser.add_argument("directory", metavar="DIR", nargs="?", type=_directory, default=Path("certs"))
    parser.add_argument("--force", action="store_true", help="replace files that exist")


def _directory(text: str) -> Path | None:
    """The directory *text*; None if it is empty, as a shell's variable is that is not set."""
    return Path(text) if text else None


def run(options: argparse.Namespace) -> int:
    """Make them; return the exit code.

    :raises UsageError: the directory is a file.
    :raises CertificateError: a file exists already, or cannot be written.
    """
    if options.directory is None:
        raise UsageError("certs: '' is not a directory; expected the one to write to, such as certs")
    if options.directory.suffix == ".toml" or options.directory.is_file():
        raise UsageError(
            f"certs: {str(options.directory)!r} is a file; expected the directory to write to, such as certs"
        )
    for path in certs.mint(options.directory, force=options.force):
        say(f"wrote {shown(path)}")
    say("next: python -m suite --config config.toml")
    return EXIT_OK
