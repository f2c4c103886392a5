"""The pytest plugin in separate test runs, found by pytest as an installed package's."""

from __future__ import annotations

import re

import pytest

from tests.helpers import ROOT

pytestmark = pytest.mark.usefixtures("measured")

pytest_plugins = "pytester"

DOCS = ROOT / "docs/testing.md"

#: Options that keep the repository's own configuration out.
OPTIONS = ("-p", "no:cacheprovider", "-W", "error")


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess(*OPTIONS, *arguments, timeout=100)


def test_the_fixtures_are_there_with_a_word_each(pytester: pytest.Pytester) -> None:
    result = run(pytester, "--fixtures")
    result.stdout.fnmatch_lines(
        [
            "echo_suite [[]session scope[]] -- *pytest_echo_suite.py:*",
            "*A suite with a TCP, a UDP, a TLS and a UNIX endpoint, for the whole session.",
            "make_echo_suite -- *pytest_echo_suite.py:*",
        ]
    )


def test_one_suite_serves_the_whole_session(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import socket
        import pytest

        SEEN = []

        @pytest.mark.parametrize("number", range(3))
        def test_it(echo_suite, number):
            SEEN.append(echo_suite.tcp)
            with socket.create_connection(echo_suite.tcp, 10) as sock:
                sock.sendall(b"hola")
                assert sock.recv(4) == b"hola"
            assert len(set(SEEN)) == 1

        def test_no_twisted_here():
            import sys
            assert "twisted" not in sys.modules
        """
    )
    result = run(pytester)
    result.assert_outcomes(passed=4)
    assert result.ret == 0


def test_the_sessions_suite_has_forgotten_earlier_tests_when_the_first_fixture_of_another_begins(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture(scope="module")
        def connected(echo_suite):
            with echo_suite.connect("tcp") as sock:
                yield sock

        @pytest.fixture
        def greeted(connected):
            connected.sendall(b"hola")
            assert connected.recv(4) == b"hola"

        @pytest.mark.parametrize("number", range(3))
        def test_it(echo_suite, greeted, number):
            assert echo_suite.received("tcp") == b"hola"
            assert echo_suite.connections("tcp").opened == (number == 0)
            assert echo_suite.connections("tcp").open == 1
        """
    )
    run(pytester).assert_outcomes(passed=3)


def test_suites_that_a_test_has_made_end_with_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import socket
        import pytest

        MADE = []

        def test_one(make_echo_suite):
            for name in ("first", "second"):
                MADE.append(make_echo_suite({"endpoints": {name: "tcp:0"}}))
            assert [list(suite.addresses) for suite in MADE] == [["first"], ["second"]]
            MADE[1].close()

        def test_two():
            for suite in MADE:
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(suite.tcp, 10)
                assert not suite.directory.exists()
        """
    )
    run(pytester).assert_outcomes(passed=2)


def test_a_connection_left_open_is_an_error_at_teardown(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import socket

        LEAKED = []

        def test_leaks(make_echo_suite):
            suite = make_echo_suite(patience=0.1)
            sock = socket.create_connection(suite.tcp, 10)
            LEAKED.append(sock)
            sock.sendall(b"hola")
            assert sock.recv(4) == b"hola"

        def test_cleans_up():
            LEAKED[0].close()
        """
    )
    result = run(pytester)
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_leaks*",
            "E *suite.testing.StillOpenError: 1 connection still open:",
            "* tcp: 127.0.0.1:*, which has sent 4 bytes",
        ]
    )


def test_of_two_suites_with_connections_left_open_both_are_named(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import socket

        LEAKED = []

        def test_leaks(make_echo_suite):
            for name in ("first", "second"):
                suite = make_echo_suite({"endpoints": {name: "tcp:0"}}, patience=0)
                LEAKED.append(suite.connect(name))
                suite.wait_for(name, opened=1)

        def test_cleans_up():
            for sock in LEAKED:
                sock.close()
        """
    )
    result = run(pytester)
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*  first: 127.0.0.1:*", "*  second: 127.0.0.1:*"])


def test_a_mistake_in_a_configuration_is_one_line_of_the_report(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_it(make_echo_suite):
            make_echo_suite("[endpoints]\\ntcp = 'tcp:99999'")
        """
    )
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E *suite.testing.StartError: config.toml: endpoints.tcp.listen: port '99999' is out of range;"
            " expected 0 to 65535",
        ]
    )


def test_a_run_that_does_not_use_it_starts_and_imports_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_it(pytestconfig):
            assert pytestconfig.pluginmanager.hasplugin("echo-suite")
            assert {"suite", "twisted"}.isdisjoint(sys.modules)
        """
    )
    run(pytester).assert_outcomes(passed=1)


def blocks(language: str) -> list[str]:
    """The code blocks of one language in the documentation."""
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCS.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.timeout(300)  # two whole test runs
def test_what_the_documentation_shows_is_what_happens(pytester: pytest.Pytester) -> None:
    """Every test in it passes, except the one that shows what a leak looks like."""
    files = {}
    for block in blocks("python"):
        found = re.match(r"# (\w+)\.py\n", block)
        assert found, f"a block that is no file: {block}"
        assert found[1] not in files
        files[found[1]] = block
    leaks = files.pop("test_leaks")
    pytester.makepyfile(**files)
    result = run(pytester)
    assert result.ret == 0, "all of them pass"
    for name in files:
        result.stdout.fnmatch_lines([f"{name}.py *"])
    for name in files:
        pytester.path.joinpath(f"{name}.py").unlink()
    pytester.makepyfile(test_leaks=leaks)
    result = run(pytester)
    result.assert_outcomes(passed=1, errors=1)
    shown = next(block for block in blocks("text") if "StillOpenError" in block)
    lines = shown[shown.index("suite.testing.StillOpenError") :].splitlines()[:2]
    result.stdout.fnmatch_lines(["*" + re.sub(r"(127\.0\.0\.1):\d+", r"\1:*", line) for line in lines])
