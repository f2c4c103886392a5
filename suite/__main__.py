"""``python -m suite`` and ``echo-suite``."""

# As `signal`, but without its enumerations, whose import takes 10 ms.
import _signal  # type: ignore[import-not-found]  # no stub
import gc
import os
import sys


def main() -> int:
    """Run the command line; return the exit code.

    Signals are remembered from here on: a service manager may stop or reload what it has only just started.
    As process 1 of a container, a process that does not handle SIGTERM does not even see it
    (pid_namespaces(7)). Before that, Ctrl-C would end an import, with a traceback.

    What is imported stays: to look for garbage in it, again and again, would take a quarter of the start.
    """
    gc.disable()
    handler = _signal.getsignal(_signal.SIGINT)
    if handler is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, lambda *_: os._exit(1))
    from suite.signals import Signals  # noqa: PLC0415  # takes a while

    if handler is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, handler)
    signals = Signals()
    signals.catch()
    from suite import cli  # noqa: PLC0415  # takes a while

    return cli.main(signals=signals)


if __name__ == "__main__":
    sys.exit(main())
