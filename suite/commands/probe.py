"""``probe``: check that a target returns every byte, and report what is wrong if it does not."""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path
from typing import Final

from twisted.internet.error import ReactorNotRunning

from suite.client.dial.datagrams import MAX_UDP_PAYLOAD
from suite.client.dial.target import Target, parse_target, targets_of_config
from suite.client.probe import prometheus
from suite.client.probe.fetch import run_fetch
from suite.client.probe.output import JSONOutput, Output, TextOutput
from suite.client.probe.run import run_probe
from suite.client.probe.settings import Settings
from suite.commands.console import say, warn
from suite.commands.options import add_config, duration, environment_of, file_path, number, size
from suite.commands.reach import TARGET_HELP, add_reach, add_starttls, check_reach, parse_reach
from suite.errors import EXIT_FAILURE, EXIT_OK, UsageError
from suite.server import process

#: The largest payload on a stream: the payload and its echo are held in memory.
MAX_PAYLOAD: Final = 64 * 2**20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``probe``."""
    parser.add_argument(
        "targets", metavar="TARGET", nargs="*", help=f"{TARGET_HELP}; default: every endpoint of --config"
    )
    add_config(parser, default=argparse.SUPPRESS)
    parser.add_argument(
        "--count", metavar="N", default="5", help="payloads for each target; default: 5; 0: until interrupted"
    )
    parser.add_argument(
        "--interval", metavar="TIME", default="200ms", help="from one payload to the next; default: 200ms"
    )
    parser.add_argument(
        "--size",
        metavar="SIZE",
        action="append",
        help="default: 64; several, separated by commas, are used in turn",
    )
    parser.add_argument("--deadline", metavar="TIME", help="time limit for everything; default: none")
    add_reach(parser)
    add_starttls(parser)
    parser.add_argument(
        "--handshake",
        action="store_true",
        help="only connect, for servers that do not echo; with --starttls it is always so",
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help='only show what an endpoint with answer = "report" tells about the connection',
    )
    parser.add_argument(
        "--min-days", metavar="N", help="fail if a certificate is valid for fewer days than this"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON document instead; with --count 0, a line for each payload before it",
    )
    parser.add_argument(
        "--prometheus",
        metavar="FILE",
        type=file_path,
        help="also write metrics to FILE, which ends with .prom, for node_exporter's textfile collector",
    )


def run(options: argparse.Namespace) -> int:
    """Probe the targets; return the exit code.

    :raises SuiteError: they cannot be probed.
    """
    settings = parse_settings(options)
    if options.report:
        check_report(options)
    targets = parse_targets(options, settings)
    file: Path | None = options.prometheus
    if file is not None:
        prometheus.check_file(file, targets)
        if settings.count == 0 and settings.deadline is None:
            raise UsageError("--prometheus writes its file at the end; expected a --count or a --deadline")
    reactor = process.install_reactor(options.reactor)

    def say_or_stop(line: str) -> None:
        if not say(line):
            with suppress(ReactorNotRunning):  # it has stopped already
                reactor.stop()

    if options.report:
        ok = run_fetch(reactor, targets, settings.reach, say_or_stop, as_json=options.json)
        return EXIT_OK if ok else EXIT_FAILURE
    output: Output = (
        JSONOutput(say_or_stop, each=settings.count == 0) if options.json else TextOutput(say_or_stop)
    )
    ended = run_probe(reactor, targets, settings, output)
    if file is not None:
        prometheus.write_file(ended.reports, file)
    return EXIT_OK if ended.ok else EXIT_FAILURE


def parse_settings(options: argparse.Namespace) -> Settings:
    """What the options of the command line mean.

    :raises UsageError: one of them has a value that cannot be used.
    """
    sizes = tuple(
        size("--size", part, MAX_PAYLOAD) for text in options.size or ["64"] for part in text.split(",")
    )
    return Settings(
        count=number("--count", options.count, 10**9),
        interval=duration("--interval", options.interval, zero=True),
        sizes=sizes,
        deadline=None if options.deadline is None else duration("--deadline", options.deadline),
        min_days=None if options.min_days is None else number("--min-days", options.min_days, 36500),
        handshake=options.handshake or options.starttls is not None,
        reach=parse_reach(options),
    )


def check_report(options: argparse.Namespace) -> None:
    """Check that nothing is asked for that ``--report`` does not do.

    :raises UsageError: something is.
    """
    given = {
        "--size": options.size is not None,
        "--deadline": options.deadline is not None,
        "--handshake": options.handshake,
        "--min-days": options.min_days is not None,
        "--prometheus": options.prometheus is not None,
    }
    for option, is_given in given.items():
        if is_given:
            raise UsageError(f"--report makes one connection and sends nothing; expected no {option} with it")


def parse_targets(options: argparse.Namespace, settings: Settings) -> list[Target]:
    """The targets on the command line; if there are none, those of the configuration.

    :raises UsageError: there is none, or *settings* do not suit it.
    :raises ConfigError: the configuration cannot be used.
    """
    targets = [parse_target(text) for text in options.targets]
    if not targets:
        answer = "report" if options.report else "echo"
        targets = targets_of_config(options.config, warn, answer, environment_of(options.config))
    if settings.count == 0 and len(targets) > 1:
        raise UsageError(
            f"--count 0 would never get to {targets[1].text!r}; expected a single target with it"
        )
    if settings.min_days is not None and all(target.transport != "tls" for target in targets):
        raise UsageError(f"--min-days needs a certificate; expected a tls: target, not {targets[0].text}")
    check_reach(settings.reach, *targets)
    for target in targets:
        if settings.handshake and target.transport == "udp":
            raise UsageError(f"--handshake: UDP has none; expected no {target.text} with it")
        for length in settings.sizes:
            if target.transport == "udp" and length > MAX_UDP_PAYLOAD:
                raise UsageError(
                    f"--size {length} does not fit into a datagram for {target.text};"
                    f" expected at most {MAX_UDP_PAYLOAD}"
                )
            if target.transport != "udp" and length == 0:
                raise UsageError(f"--size 0 sends nothing on a stream, {target.text}; expected at least 1")
    return targets
