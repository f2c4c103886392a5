"""The pytest plugin: an echo suite, and a gallery of bad TLS, as fixtures. It is installed with the package.

Rules: it harms no project that does not use it, nor one that has a ``suite`` of its own. So it has a name of
its own, imports nothing named ``suite`` before a fixture is asked for, and leaves that name to the project;
test runs that do not use the fixtures pay nothing. Errors that `suite.testing` raises when a suite is closed
are errors at the teardown of the test (for the session's suite, of the last test).

What `suite.testing` has can be imported from here as well, also where another ``suite`` hides it::

    from pytest_echo_suite import StartError
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from suite.testing import Configuration, Faults, MakeEchoSuite, RunningSuite, TLSGallery, TLSSpecimen

#: Makes pytest show errors at the line of the test.
__tracebackhide__ = True

#: The package that this plugin belongs to.
PACKAGE = Path(__file__).resolve().with_name("suite")

#: The name of `suite.testing` where the project has a ``suite`` of its own.
ALIAS = f"{__name__}.testing"

#: Of a session: its suite while that runs, and the finder of the project's ``suite``. Of a test: the suites
#: that it has made, and the length of the log of the session's suite when it began. Of a session, again: the
#: specimens of bad TLS.
running = pytest.StashKey["RunningSuite"]()
finder = pytest.StashKey["ProjectFinder"]()
made = pytest.StashKey["list[RunningSuite]"]()
log_start = pytest.StashKey[int]()
bad = pytest.StashKey["list[str]"]()


class ProjectFinder:
    """Finds the project's own ``suite`` where the order of ``sys.path`` would prefer the installed package.

    That is the case with pytest's import mode ``append``, with editable installations, and for a directory
    without ``__init__.py``, which any package on the path precedes.

    :param root: the project's directory.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: Any = None
    ) -> ModuleSpec | None:
        """`importlib.abc.MetaPathFinder.find_spec`."""
        if name != PACKAGE.name:
            return None
        places = [entry for entry in sys.path if self._is_of_project(entry)]
        for other in sys.meta_path:  # pytest's too, which rewrites assertions
            spec = None if isinstance(other, ProjectFinder) else other.find_spec(name, places)
            if spec is not None:
                return spec if _has_modules(spec) else None
        return None

    def _is_of_project(self, entry: object) -> bool:
        if not isinstance(entry, str):  # a Path, which Python ignores
            return False
        try:
            place = Path(entry).resolve()  # "" is the working directory
        except OSError:  # which has been deleted
            return False
        if place == PACKAGE.parent or not place.is_relative_to(self._root):
            return False
        return {"site-packages", "dist-packages"}.isdisjoint(place.relative_to(self._root).parts)


def _has_modules(spec: ModuleSpec) -> bool:
    """Whether *spec* is of a module or package, and not only of a directory of other files."""
    if spec.origin is not None:
        return True
    directories = map(Path, spec.submodule_search_locations or ())
    return any(any(directory.glob(files)) for directory in directories for files in ("*.py", "*/*.py"))


def _testing() -> Any:
    """The module `suite.testing` of this package, whatever is called ``suite`` in this process."""
    if ALIAS in sys.modules:
        return sys.modules[ALIAS]
    try:
        spec = find_spec(PACKAGE.name)
    except ValueError:  # a module that a test has made by hand
        spec = None
    if spec is not None and spec.origin is not None and Path(spec.origin).resolve().parent == PACKAGE:
        return import_module("suite.testing")
    directory = PACKAGE / "testing"
    spec = spec_from_file_location(
        ALIAS, directory / "__init__.py", submodule_search_locations=[str(directory)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {directory}")
    module = sys.modules[ALIAS] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def __getattr__(name: str) -> object:
    if not name[0].isupper():  # what pytest and others look for in a plugin
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_testing(), name)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--echo-suite-log``."""
    parser.getgroup("echo suite").addoption(
        "--echo-suite-log",
        action="store_true",
        help="show the logs of the echo suites that a failing test has used",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Leave the name ``suite`` to the project, before its first file is imported."""
    early_config.stash[finder] = ProjectFinder(early_config.rootpath)
    sys.meta_path.insert(0, early_config.stash[finder])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Undo `pytest_load_initial_conftests`."""
    ours = config.stash.get(finder, None)
    if ours in sys.meta_path:
        sys.meta_path.remove(ours)


@pytest.fixture(scope="session")
def echo_suite(pytestconfig: pytest.Config) -> Iterator[RunningSuite]:
    """A suite with a TCP, a UDP, a TLS and a UNIX endpoint, for the whole session."""
    with _testing().RunningSuite() as suite:
        pytestconfig.stash[running] = suite
        yield suite


@pytest.fixture
def make_echo_suite(request: pytest.FixtureRequest) -> MakeEchoSuite:
    """Starts a suite with any configuration; it is closed after the test."""
    testing = _testing()
    suites = request.node.stash.setdefault(made, [])

    def make(
        config: Configuration = None,
        *,
        faults: Faults | None = None,
        seed: int | None = None,
        patience: float = testing.PATIENCE,
    ) -> RunningSuite:
        suite: RunningSuite = testing.RunningSuite(config, faults=faults, seed=seed, patience=patience)
        suites.append(suite)
        request.addfinalizer(suite.close)
        return suite

    return make


@pytest.fixture(scope="session")
def tls_gallery() -> Iterator[TLSGallery]:
    """A gallery of bad TLS, and of some good, for the whole session."""
    with _testing().TLSGallery() as gallery:
        yield gallery


@pytest.fixture
def bad_tls(request: pytest.FixtureRequest, tls_gallery: TLSGallery) -> TLSSpecimen:
    """A TLS server that a correct client refuses; a test that asks for it runs once for each there is."""
    if request.param in tls_gallery.left_out:
        pytest.skip(f"{request.param}: {tls_gallery.left_out[request.param]}")
    return tls_gallery[request.param]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each specimen, for a test that asks for ours, and has not chosen some of them itself."""
    if "bad_tls" not in metafunc.fixturenames:
        return
    for mark in metafunc.definition.iter_markers("parametrize"):
        chosen = mark.args[0] if mark.args else mark.kwargs.get("argnames", ())
        if "bad_tls" in (chosen.replace(",", " ").split() if isinstance(chosen, str) else chosen):
            return
    found = getattr(metafunc, "_arg2fixturedefs", {}).get("bad_tls")
    if found and getattr(found[-1].func, "__module__", __name__) != __name__:  # the project's own
        return
    names = metafunc.config.stash.get(bad, None)
    if names is None:
        names = metafunc.config.stash[bad] = _testing().bad_specimens()
    metafunc.parametrize("bad_tls", names, indirect=True)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Clear the records and the faults of the session's suite before any fixture of this test runs.

    Of every test: one that asks for the suite later (``request.getfixturevalue``) does not say so before.
    """
    suite = item.config.stash.get(running, None)
    if suite is None:
        return
    try:
        suite.clear()
        suite.clear_faults()
    except (_testing().CrashError, RuntimeError):  # it has crashed, or a test has closed it
        if "echo_suite" in getattr(item, "fixturenames", ()):
            raise
    if item.config.option.echo_suite_log:
        item.stash[log_start] = len(suite.log)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """With ``--echo-suite-log``, attach the logs of the suites that a failing test has used."""
    outcome: Any = yield
    report: pytest.TestReport = outcome.get_result()
    if report.failed and item.config.option.echo_suite_log:
        report.sections += [("echo suite log", log) for log in _logs(item) if log]


def _logs(item: pytest.Item) -> Iterator[str]:
    """What each suite that *item* may have used has logged since the test began."""
    session = item.config.stash.get(running, None)
    suites = [] if session is None else [(session, item.stash.get(log_start, 0))]
    for suite, start in suites + [(suite, 0) for suite in item.stash.get(made, ())]:
        try:
            suite.open_connections()  # answered when everything that has happened before is in the log
        except (_testing().CrashError, RuntimeError):
            pass  # it has crashed, as the log says, or has been closed
        yield suite.log[start:]
