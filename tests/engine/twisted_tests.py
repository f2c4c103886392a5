"""Runs Twisted's own tests of reactors on one reactor; prints the result of each.

    python -m tests.engine.twisted_tests {engine|stock} MODULE…

One line of JSON: the names of the tests, by what became of them.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from functools import cache
from itertools import cycle
from typing import Any

from OpenSSL import crypto
from twisted.internet import epollreactor, ssl
from twisted.trial import reporter, runner

from suite.engine import reactor


class EPollReactor(reactor.EngineReactor):
    """The engine, under the name of the reactor that it replaces."""


class Names(reporter.Reporter):
    """Records the result of every test, and prints nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.names: dict[str, list[str]] = {"passed": [], "failed": [], "skipped": []}
        self.why: dict[str, str] = {}

    def startTest(self, test: Any) -> None:
        super().startTest(test)
        print(test.id(), file=sys.stderr, flush=True)  # if the run hangs, the last one is the cause

    def addSuccess(self, test: Any) -> None:
        super().addSuccess(test)
        self.names["passed"].append(test.id())

    def addFailure(self, test: Any, fail: Any) -> None:
        self.names["failed"].append(test.id())
        self.why[test.id()] = str(fail)

    addError = addFailure  # noqa: N815

    def addSkip(self, test: Any, reason: Any) -> None:
        super().addSkip(test, reason)
        self.names["skipped"].append(test.id())


def main(which: str, modules: list[str]) -> None:
    """Run *modules* on the reactor named *which*."""
    module = reactor if which == "engine" else epollreactor
    module.install()
    from twisted.internet.test.reactormixins import ReactorBuilder

    # Some tests skip epoll reactors by name, so ours has the same name.
    ReactorBuilder._reactors = [
        f"{__spec__.name}.EPollReactor" if which == "engine" else "twisted.internet.epollreactor.EPollReactor"
    ]
    # Imported only now: its classes are made for the reactors named above.
    from twisted.internet.test.test_process import ProcessTestsBuilderBase

    # Its signal handler sets a `threading.Event` whose lock the same thread may hold: it hangs at times, on
    # any reactor.
    early: Any = ProcessTestsBuilderBase.test_spawnProcessEarlyIsReaped
    early.skip = "it may deadlock"
    # What is tested is what is done with keys: a few, made and checked once, will do.
    keys = cycle([ssl.KeyPair.generate() for _ in range(5)])
    key_pair: Any = ssl.KeyPair
    key_pair.generate = staticmethod(lambda *_args, **_options: next(keys))
    key: Any = crypto.PKey
    key.to_cryptography_key = cache(key.to_cryptography_key)
    with tempfile.TemporaryDirectory() as directory, open(os.devnull, "w") as nowhere:
        sys.path[0] = os.getcwd()
        os.chdir(directory)
        trial: Any = runner.TrialRunner(Names, stream=nowhere, workingDirectory="trial")
        suite = runner.TestLoader().loadByNames(modules, recurse=True)
        names = trial.run(suite)
        os.chdir("/")
    result = getattr(names, "original", names)
    # A test may both pass and leave something behind, which fails it.
    failed = set(result.names["failed"])
    result.names["passed"] = [name for name in result.names["passed"] if name not in failed]
    print(json.dumps(result.names | {"why": result.why}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
