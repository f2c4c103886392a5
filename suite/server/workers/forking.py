"""From the supervisor's process to a worker's: what a fork leaves behind, and what goes on.

Rules: the worker begins in the middle of the supervisor's turn and never returns to it; of the supervisor's
descriptors it keeps those of the standard streams, of the log and of key logs, because a socket that it kept
would go on listening after everybody else has closed it; what it has inherited in memory stays untouched.
"""

from __future__ import annotations

import ctypes
import gc
import os
import random
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final, NoReturn

from suite.system import descriptor_limit

#: The exit code of a worker that has failed (sysexits.h, EX_SOFTWARE).
EXIT_SOFTWARE: Final = 70

#: prctl(2): the signal that this process gets when its parent ends.
PR_SET_PDEATHSIG: Final = 1

#: Where memory has run out, the kernel ends a worker rather than the supervisor, which would take all of them
#: with it, because of this difference: thousandths of the memory (proc(5), oom_score_adj), as many as systemd
#: gives to users' services.
RATHER_A_WORKER: Final = 100
MOST_OOM_SCORE: Final = 1000

#: Where there is no limit, descriptors up to this one are closed: Linux's highest limit (proc(5), nr_open).
MOST_DESCRIPTORS: Final = 2**20

#: Forget the reactor of the process before: it is the supervisor's.
_REACTOR: Final = "twisted.internet.reactor"


def fork(work: Callable[[], int], kept: Iterable[int], signals: Iterable[int]) -> int:
    """Start a process that does *work*, ends with its result, and does not outlive this one.

    :param kept: the descriptors that it needs, beside the standard streams.
    :param signals: the signals that mean something to this process, and nothing to the new one.
    :returns: the id of the process.
    :raises OSError: none can be started.
    """
    parent = os.getpid()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    pid = os.fork()
    if not pid:
        _begin(work, parent, sorted({0, 1, 2, *kept}), signals)
    return pid


def _begin(work: Callable[[], int], parent: int, kept: list[int], signals: Iterable[int]) -> NoReturn:
    code = EXIT_SOFTWARE
    try:
        signal.set_wakeup_fd(-1)
        for number in signals:
            signal.signal(number, signal.SIG_IGN)  # the supervisor says what is to be done
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:  # otherwise it has ended before we could ask
            _close_all_but(kept)
            _offer_to_the_oom_killer()
            sys.modules.pop(_REACTOR, None)
            random.seed()
            gc.freeze()  # what is not ours is not looked at, either, which would copy it
            code = work()
    except BaseException:  # noqa: BLE001  # there is nobody else to tell
        with suppress(OSError):
            os.write(2, traceback.format_exc().encode(errors="backslashreplace"))
    finally:
        os._exit(code)


def _offer_to_the_oom_killer() -> None:
    with (
        suppress(OSError),
        open("/proc/self/oom_score_adj", "r+") as file,
    ):  # otherwise the kernel chooses alone
        score = min(MOST_OOM_SCORE, int(file.read()) + RATHER_A_WORKER)
        file.seek(0)
        file.write(str(score))


def _close_all_but(kept: list[int]) -> None:
    first = 0
    for descriptor in kept:
        if (
            first < descriptor
        ):  # an empty range would be everything (close_range(2) takes the last one, unsigned)
            os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, descriptor_limit() or MOST_DESCRIPTORS)  # above the limit, none is ours
