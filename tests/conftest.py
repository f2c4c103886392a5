"""How the tests are spread over processes, what these processes inherit, and minted certificates."""

from __future__ import annotations

import gc
import os
import signal
import tempfile
from collections.abc import Generator, Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import Final

import pytest
from hypothesis import settings

from suite import certs
from tests import measuring
from tests.forking import template

#: How long the path of temporary files may be, so that sockets in directories of tests fit into 107 bytes.
ROOM_FOR_TEMPORARY: Final = 24

template.environment.update(measuring.MEASURING)

# What a developer's shell has is for what the developer starts, not for what the tests start.
for variable in (
    *("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD"),
    *("PYTHONWARNINGS", "PYTHONDONTWRITEBYTECODE", "PYTHONIOENCODING", "PYTHONUTF8", "PYTHONOPTIMIZE"),
    *("PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONVERBOSE", "PYTHONDEVMODE", "PYTHONASYNCIODEBUG"),
    *("LANGUAGE", "NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "PY_COLORS", "COLUMNS", "LINES"),
    *("SSLKEYLOGFILE", "OPENSSL_CONF"),
    *("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"),
    *measuring.MEASURING,
    *(name for name in os.environ if name.startswith("ECHO_SUITE_")),
):
    os.environ.pop(variable, None)
os.environ["LC_ALL"] = "C.UTF-8"
os.environ.pop("TZ", None)
# A proxy may be the way to the packages, but never to a suite.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "localhost,127.0.0.1,::1"
os.umask(0o022)
if len(tempfile.gettempdir()) > ROOM_FOR_TEMPORARY:
    os.environ["TMPDIR"] = tempfile.tempdir = "/tmp"

# A test that waits for a processor has not failed.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

# A shell lets what it starts in the background ignore SIGINT, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


#: What takes longest, longest first: it begins first, so that nobody waits for the last of it at the end. The
#: browser is last: it drops what it is loading when containers that run beside the first of the tests
#: change the network.
LONG: Final = (
    "tests/client/load/test_load.py",
    "tests/packaging/test_plugin.py",
    "tests/client/load/test_locust.py",
    "tests/server/test_clock.py",
    "tests/tutorial/test_transcripts.py",
    "tests/server/test_surroundings.py",
    "tests/server/test_reload.py",
    "tests/testing/test_pytest_plugin.py",
    "tests/engine/test_twisted_own.py",
    "tests/client/probe/test_fetch.py",
    "tests/admin/api/test_schemathesis.py",
    "tests/admin/page/test_browser.py",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """How many processes ``-n auto`` makes: three for each core, since most tests wait for others."""
    return 3 * len(os.sched_getaffinity(0))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Measure the processes that pytest-xdist is about to start, rather than this one, which runs no test.

    Only the first one measures its imports: the others would take as long for nothing new.
    """
    os.environ.update(measuring.MEASURING)
    if measuring.MEASURING:
        measuring.current().stop()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_newgateway() -> None:
    """See `pytest_xdist_setupnodes`."""
    os.environ.pop(measuring.STARTS, None)


def pytest_sessionstart() -> None:
    """Look for no garbage in what is imported and collected, nor later, in any test: all of it stays."""
    gc.disable()


def pytest_collection_finish() -> None:
    """See `pytest_sessionstart` and `pytest_xdist_setupnodes`."""
    gc.freeze()
    gc.enable()
    measuring.begin()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, bool | None, bool | None]:
    """Measure neither the tests in `measuring.REPETITIVE` nor what they start."""
    if not item.nodeid.startswith(measuring.REPETITIVE):
        return (yield)
    template.measured = False
    go_on = measuring.pause()
    try:
        return (yield)
    finally:
        go_on()
        template.measured = True


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let each of several processes begin with modules of `LONG`.

    With ``--dist worksteal``, each has an equal part of all tests in their order, of which those that run out
    of tests take the last ones.
    """
    if not hasattr(config, "workerinput"):
        return
    modules = [list(tests) for _, tests in groupby(items, lambda item: item.nodeid.partition("::")[0])]
    names = [tests[0].nodeid.partition("::")[0] for tests in modules]
    count: int = config.workerinput["workercount"]
    begin: list[list[pytest.Item]] = [[] for _ in range(count)]
    for place, name in enumerate(name for name in LONG if name in names):
        begin[place % count] += modules[names.index(name)]
    others = iter(
        [item for tests, name in zip(modules, names, strict=True) if name not in LONG for item in tests]
    )
    size = len(items) // count
    items[:] = [
        *(item for first in begin for item in (*first, *islice(others, max(0, size - len(first))))),
        *others,
    ]


def pytest_unconfigure() -> None:
    """End what the tests have started that outlives them."""
    template.close()


@pytest.fixture(scope="module")
def minted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of minted certificates that tests only read."""
    directory = tmp_path_factory.mktemp("certs")
    certs.mint(directory)
    return directory


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    """A directory of minted certificates that a test may change."""
    certs.mint(tmp_path)
    return tmp_path


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure what the test executes, too (see `tests.measuring`): it is what runs in no other process."""
    for name, value in measuring.MEASURING.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def entered_by_all() -> Iterator[Path]:
    """A directory that a suite can still enter once it runs as the user nobody, and not write to.

    Those of pytest are closed to others, again by every pytest that starts.
    """
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)
