"""The command line: which commands there are; what they do is in `suite.commands`.

Rules: a mistake on the command line is answered by one line that names it, what was probably meant, and the
usage of the command that it was made in.
"""

from __future__ import annotations

import argparse
import gc
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NoReturn

from typing_extensions import override

from suite import __version__
from suite.commands import serve
from suite.commands.console import complain, prepare_output, put
from suite.commands.options import add_config
from suite.errors import EXIT_FAILURE, EXIT_USAGE, SuiteError
from suite.signals import Signals
from suite.text import near, one_line, suggest

#: The commands, each a module in `suite.commands`, and what ``--help`` says of them.
COMMANDS: Final = {
    "check": "check the configuration and list what it would bind, without binding anything",
    "certs": "make a development CA, a server certificate and a client certificate",
    "probe": "check that a target returns every byte, and report what is wrong if it does not",
    "connect": "talk to a target, line by line or through a pipe",
    "load": "send many messages and report how long their echoes took",
    "gallery": "serve bad TLS, always fresh: a specimen a port, to see a client refuse it",
    "health": "say whether a running suite is well, for probes",
    "status": "show what a running suite does: connections, refusals, certificates",
    "faults": "show which connections get which faults, and change those of a running suite",
}


#: The options of serving that each command has, too, and takes in front of it.
_IN_FRONT: Final[Mapping[str, Collection[str]]] = {
    "check": ("--config",),
    "certs": (),
    "probe": ("--config", "--reactor"),
    "connect": ("--config", "--reactor"),
    "load": ("--config", "--reactor"),
    "gallery": ("--reactor", "--log", "--log-level", "--log-file"),
    "health": ("--config",),
    "status": ("--config",),
    "faults": ("--config",),
}


#: What argparse says of a subcommand that there is not, whatever the version of Python.
_CHOICE: Final = re.compile(r"argument \[?COMMAND\]?: invalid choice: '(.*)' \(choose from (.*)\)")

#: What other programs call serving, which needs no command here.
_SERVING: Final = frozenset({"serve", "server", "run", "start", "up"})

#: What signals do to a suite that runs.
_SIGNALLED: Final = frozenset({"stop", "down", "quit", "restart", "reload"})

#: Short options that other programs have for ``--version``.
_VERSION: Final = frozenset({"-v", "-V"})


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line.

    :ivar options: its options, and whether each is followed by a value.
    :ivar of_serving: the options of serving, of which a command's are none.
    :ivar in_front: those of them that this command takes in front of it.
    """

    of_serving: Collection[str] = ()
    in_front: Collection[str] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.options: dict[str, bool] = {}
        self._subparsers_action: Any = None
        super().__init__(*args, **kwargs)
        self.allow_abbrev = False

    @property
    def commands(self) -> Mapping[str, Parser]:
        """The parsers of its commands, by name."""
        return {} if self._subparsers_action is None else self._subparsers_action.choices

    @override
    def add_subparsers(self, **settings: Any) -> Any:
        self._subparsers_action = super().add_subparsers(**settings)
        return self._subparsers_action

    @override
    def _add_action(self, action: Any) -> Any:  # also of options that exclude each other
        self.options.update(dict.fromkeys(action.option_strings, action.nargs != 0))
        added = super()._add_action(action)
        # `-4` and `-6` are options, but `--count -1` has a value, which is out of range.
        self._has_negative_number_optionals.clear()
        return added

    @override
    def error(self, message: str) -> NoReturn:
        choice = _CHOICE.fullmatch(message)
        if choice is not None:  # of a subcommand, such as `faults explain`
            known = re.findall(r"[a-z-]+", choice[2])
            message = f"{choice[1]!r} is not a command{suggest(choice[1], known)}"
        usage = " ".join(self.format_usage().split())
        complain(one_line(f"{self.prog}: {message} ({usage})"))
        self.exit(EXIT_USAGE)

    @override
    def _print_message(self, message: str, file: Any = None) -> None:
        """Print help or the version; argparse says nothing if that cannot be written."""
        if file is None or file is not sys.stdout:
            super()._print_message(message, file)
            return
        try:
            put(message)
        except SuiteError as error:
            complain(error)
            self.exit(error.exit_code)

    def refuse_option(self, option: str) -> NoReturn:
        """End with what is wrong with *option*, which there is not."""
        name = option.partition("=")[0]
        if name in _VERSION:
            other = "; did you mean --version?" if self.options is self.of_serving else ""
        elif self.options is self.of_serving:
            other = "; endpoints and their ports are declared in the configuration file"
        elif name == "--version" or name in self.in_front:
            other = "; it goes before the command"
        else:
            other = "; it is for serving, which needs no command" if name in self.of_serving else ""
        of_serving = self.options is not self.of_serving and name in self.of_serving
        close = "" if of_serving or len(name) <= 2 else near(name, self.options)
        self.error(f"unknown option {name}{close or other}")

    def refuse_word(self, word: str, options: argparse.Namespace) -> NoReturn:
        """End with what is wrong with *word*, which is more than this command takes."""
        hint = ""
        target = getattr(options, "target", None)
        if target is not None and ":" not in target and word.isdigit():
            hint = f"; did you mean tcp:{target}:{word}?"
        elif "--endpoint" in self.options and re.fullmatch(r"[\w-]+", word):
            hint = f"; did you mean --endpoint {word}?"
        elif _is_configuration(word):
            hint = f"; did you mean --config {word}?"
        self.error(f"unexpected argument {word!r}{hint}")


def _is_configuration(word: str) -> bool:
    """Whether *word* was probably meant for ``--config``."""
    return word.endswith(".toml") or Path(word).is_file()


def build_parser(argv: Sequence[str]) -> Parser:
    """The options and commands.

    :param argv: the command line. Only the modules of commands it names are imported.
    """
    parser = Parser(
        prog="python -m suite",
        description="Echo servers for TCP, UDP, TLS and UNIX sockets, declared in one file."
        " Without a command: serve.",
    )
    parser.add_argument("--version", action="version", version=f"echo-suite {__version__}")
    parser.of_serving = parser.options
    add_config(parser)
    serve.add_arguments(parser)
    parser.set_defaults(run=None, parser=parser)
    commands = parser.add_subparsers(title="commands", metavar="[COMMAND]")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        command.set_defaults(parser=command)
        command.of_serving = parser.options
        command.in_front = _IN_FRONT[name]
        if name in argv:
            module: Any = import_module(f"suite.commands.{name}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


def check_command(parser: Parser, argv: Sequence[str]) -> None:
    """Find what is wrong with *argv* up to its command, in better words than argparse has.

    :raises SystemExit: something is.
    """
    words = iter(argv)
    given: list[tuple[str, str]] = []
    for word in words:
        if word == "--":
            return
        if word in COMMANDS:
            _check_given(parser, word, given)
            _check_options(parser, word, words)
            return
        if not word.startswith("-") or word == "-":
            _refuse_command(parser, word, next(words, ""))
        option, equals, value = word.partition("=")
        if option not in parser.options:
            parser.refuse_option(word)
        if parser.options[option] and not equals:
            value = next(words, "")
        given.append((option, value))


def _check_given(parser: Parser, command: str, given: Sequence[tuple[str, str]]) -> None:
    """Refuse an option in front of *command* that is for serving: nobody would heed it."""
    found = parser.commands[command]
    for option, value in given:
        if option in found.in_front or not parser.options[option]:  # --help and --version end here
            continue
        if option in found.options:
            found.error(f"{option} goes after the command: {command} {option} {value}".rstrip())
        found.error(f"{option} is for serving, which needs no command; {command} has no such option")


def _check_options(parser: Parser, command: str, words: Iterator[str]) -> None:
    """Refuse an option that *command* does not have, in front of its own command, such as `gallery score`.

    argparse would take the value of such an option for the command, and complain of that.
    """
    found = parser.commands[command]
    if not found.commands:
        return
    for word in words:
        if not word.startswith("-") or word == "--":
            return
        option, equals, _ = word.partition("=")
        if option not in found.options:
            found.refuse_option(word)
        if found.options[option] and not equals:
            next(words, None)


def _refuse_command(parser: Parser, word: str, following: str) -> NoReturn:
    if word in _SERVING:
        hint = "; serving needs no command: python -m suite --config FILE"
    elif word in _SIGNALLED:
        hint = "; signals do that: SIGTERM ends a suite that runs, SIGHUP has it read its configuration again"
    elif word == "version":
        hint = "; did you mean --version?"
    elif word == "help":
        hint = f"; did you mean {following + ' ' if following in COMMANDS else ''}--help?"
    elif _is_configuration(word):
        hint = f"; did you mean --config {word}?"
    else:
        hint = near(word, COMMANDS) or f"; expected {', '.join(COMMANDS)}, or none to serve"
    parser.error(f"{word!r} is not a command{hint}")


def main(argv: Sequence[str] | None = None, signals: Signals | None = None) -> int:
    """Run the command line *argv*; return the exit code (see `suite.errors`).

    :param signals: the signals that have been caught so far. Serving needs them; what they mean to a command
        is what they mean to every program.
    :raises SystemExit: for ``--help``, ``--version`` and a wrong command line, as argparse does.
    """
    prepare_output()
    argv = sys.argv[1:] if argv is None else argv
    parser = build_parser(argv)
    check_command(parser, argv)
    options, extra = parser.parse_known_args(argv)
    if extra:
        command: Parser = options.parser
        for word in extra:
            if word.startswith("-"):
                command.refuse_option(word)
        if not getattr(options, "targets", None):
            command.refuse_word(extra[0], options)
        options.targets += extra  # argparse takes only those that stand together
    signals = Signals() if signals is None else signals
    try:
        if options.run is None:
            return serve.run(options, signals)
        signals.release()
        if not gc.isenabled():  # since `suite.__main__`
            gc.freeze()
            gc.enable()
        code: int = options.run(options)
    except SuiteError as error:
        complain(error)
        return error.exit_code
    except KeyboardInterrupt:
        complain("interrupted")
        return EXIT_FAILURE
    return code
