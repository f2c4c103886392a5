"""``python -m suite`` and ``echo-suite``."""

import sys

from suite.signals import Signals


def main() -> int:
    """Run the command line; return the exit code.

    Signals are remembered from here on: a service manager may stop or reload what it has only just started.
    As process 1 of a container, a process that does not handle SIGTERM does not even see it
    (pid_namespaces(7)).
    """
    signals = Signals()
    signals.catch()
    from suite import cli  # noqa: PLC0415  # takes a while

    return cli.main(signals=signals)


if __name__ == "__main__":
    sys.exit(main())
