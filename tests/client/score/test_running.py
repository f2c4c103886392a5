"""One run of a client: its end, its output, and what it leaves behind."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.client.score.running import KEPT, Bounded, Exchange, Ran, run
from tests.running import PATIENCE, is_gone, wait_until


def ran(*command: str, limit: float = PATIENCE, exchange: Exchange | None = None) -> Ran:
    return asyncio.run(run(command, limit, directory=Path.cwd(), exchange=exchange))


def shell(text: str, limit: float = PATIENCE) -> Ran:
    return ran("sh", "-c", text, limit=limit)


def test_the_streams_are_kept_apart() -> None:
    found = shell("echo out; echo err >&2; exit 3")
    assert (found.exit_code, found.signal, found.hung) == (3, None, False)
    assert (found.output, found.errors) == (b"out\n", b"err\n")


def test_a_signal_is_no_exit_code() -> None:
    found = shell("kill -SEGV $$")
    assert (found.exit_code, found.signal) == (None, signal.SIGSEGV)


def test_at_the_time_limit_its_whole_group_is_ended_and_what_it_has_said_is_kept() -> None:
    found = shell("sleep 1000 & echo $!; wait", limit=1)
    assert found.hung
    assert found.exit_code is None
    assert found.signal is None
    wait_until(lambda: is_gone(int(found.output)), "its child has ended")


def test_a_child_that_it_leaves_behind_is_ended_and_holds_nothing_up() -> None:
    found = shell("sleep 1000 & echo $!")
    assert found.exit_code == 0
    wait_until(lambda: is_gone(int(found.output)), "its child has ended")


def test_a_huge_output_is_read_and_bounded() -> None:
    found = ran(sys.executable, "-c", "print('a' * 10 + 'b' * 5_000_000 + 'c' * 10)")
    assert found.exit_code == 0
    assert found.output.startswith(b"aaaaaaaaaab")
    assert found.output.endswith(b"bcccccccccc\n")
    assert b" bytes left out ..." in found.output
    assert len(found.output) < 2 * KEPT + 100


def test_standard_input_ends_after_the_answer() -> None:
    script = 'read line; echo "got $line"; echo done; cat'
    found = ran("sh", "-c", script, exchange=Exchange(b"hola\n", b"done"))
    assert found.output == b"got hola\ndone\n"
    assert found.exit_code == 0


def test_cancelling_ends_it() -> None:
    async def cancel(pid_file: Path) -> None:
        task = asyncio.ensure_future(
            run(("sh", "-c", "echo $$ > pid; sleep 1000"), PATIENCE, directory=pid_file.parent)
        )
        while not (pid_file.exists() and pid_file.read_text().endswith("\n")):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(cancel(Path(directory, "pid")))
        assert is_gone(int(Path(directory, "pid").read_text()))


@given(st.lists(st.binary(max_size=30)), st.integers(1, 20))
def test_what_is_kept_is_the_beginning_and_the_end(parts: list[bytes], kept: int) -> None:
    bounded = Bounded(kept)
    for part in parts:
        bounded.add(part)
    whole = b"".join(parts)
    assert bounded.size == len(whole)
    if len(whole) <= 2 * kept:
        assert bytes(bounded) == whole
    else:
        note = b"\n[... %d bytes left out ...]\n" % (len(whole) - 2 * kept)
        assert bytes(bounded) == whole[:kept] + note + whole[-kept:]
