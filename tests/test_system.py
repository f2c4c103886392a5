"""The operating system's side: limits, identities, the service manager, and the units in deploy/systemd.

No systemd runs here: what it does to start a service is done by activate.py, and what it checks offline is
checked by ``systemd-analyze``.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import resource
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import pytest

from suite import system
from suite.errors import EXIT_FAILURE, PrivilegeError
from suite.system import (
    SELECTABLE,
    Notifier,
    ProcessIdentity,
    UnknownIdentityError,
    adjust_descriptor_limit,
    become,
    identity,
)
from tests import activate
from tests.helpers import ROOT
from tests.running import (
    PATIENCE,
    RunningSuite,
    TLSClient,
    client_program,
    echo,
    running,
)

pytestmark = pytest.mark.usefixtures("measured")

T = TypeVar("T")

DEPLOY: Final = ROOT / "deploy/systemd"
UNITS: Final = ("echo-suite.service", "echo-suite.socket", "echo-suite-unix.socket")

AS_ROOT: Final = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be no longer root")

NOBODY: Final = 65534  # the overflow id (user_namespaces(7)); it needs no account


# 1. Descriptors.


@pytest.fixture
def descriptor_limit() -> Iterator[tuple[int, int]]:
    """The limits of this process, restored after the test."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield limits
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_the_descriptor_limit_is_raised_as_far_as_it_goes(descriptor_limit: tuple[int, int]) -> None:
    _, hard = descriptor_limit
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    for _ in range(2):
        adjust_descriptor_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)


@pytest.mark.parametrize("soft", [200, 1024, 2000])
def test_the_limit_is_what_select_can_watch(descriptor_limit: tuple[int, int], soft: int) -> None:
    """Raised or lowered; the hard limit, which only root can raise again, is kept."""
    _, hard = descriptor_limit
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    adjust_descriptor_limit(SELECTABLE)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (1024, hard)


@pytest.mark.parametrize(
    ("limits", "most", "expected"),
    [
        ((100, 500), 1024, (500, 500)),
        ((100, resource.RLIM_INFINITY), 1024, (1024, resource.RLIM_INFINITY)),
        ((resource.RLIM_INFINITY,) * 2, 1024, (1024, resource.RLIM_INFINITY)),
        ((resource.RLIM_INFINITY,) * 2, None, (resource.RLIM_INFINITY,) * 2),
    ],
)
def test_a_limit_is_never_above_the_hard_one(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], most: int | None, expected: tuple[int, int]
) -> None:
    set_to: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: set_to.append(limits))
    adjust_descriptor_limit(most)
    assert set_to == [expected]


@pytest.mark.parametrize("refusal", [OSError(1, "Operation not permitted"), ValueError("not allowed")])
@pytest.mark.parametrize("call", ["getrlimit", "setrlimit"])
def test_a_descriptor_limit_that_cannot_be_raised_stays(
    descriptor_limit: tuple[int, int], monkeypatch: pytest.MonkeyPatch, call: str, refusal: Exception
) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, descriptor_limit[1]))
    calls: list[object] = []

    def refuse(*arguments: object) -> None:
        calls.append(arguments)
        raise refusal

    with monkeypatch.context() as patched:
        patched.setattr(resource, call, refuse)
        adjust_descriptor_limit()
    assert calls
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 200


# 2. Identities.


def id_says(*arguments: str) -> str:
    return subprocess.run(["id", *arguments], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("user", ["root", "nobody", "daemon"])
def test_a_user_is_who_id_says(user: str) -> None:
    found = identity(user, None)
    assert str(found.uid) == id_says("-u", user)
    assert str(found.gid) == id_says("-g", user)
    assert sorted(map(str, found.groups)) == sorted(id_says("-G", user).split())
    assert found.names == (user, id_says("-gn", user))
    assert found.groups == tuple(sorted(found.groups))
    assert identity(str(found.uid), None) == found, "a number is as good as a name"


def test_supplementary_groups_are_the_users_whatever_its_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in ``initgroups(3)``: the groups that list the user, and the requested one."""
    monkeypatch.setattr(os, "getgrouplist", lambda user, gid: {"nobody": [gid, 50, 20]}[user])
    daemon = grp.getgrnam("daemon").gr_gid
    found = identity("nobody", "daemon")
    assert (found.gid, found.names) == (daemon, ("nobody", "daemon"))
    assert set(found.groups) == {daemon, 20, 50}


def test_a_number_needs_no_account_but_then_a_group() -> None:
    stranger = next(uid for uid in range(54321, 60000) if not has_account(uid))
    assert identity(str(stranger), "54321") == ProcessIdentity(stranger, 54321, (54321,), ("", ""))
    group = grp.getgrgid(0).gr_name
    assert str(identity(str(stranger), "0")) == f"{stranger}:{group} (uid {stranger}, gid 0)"
    with pytest.raises(UnknownIdentityError) as caught:
        identity(str(stranger), None)
    assert str(caught.value) == (
        f"user: '{stranger}' has no account, so its group is unknown; expected group as well"
    )


def has_account(uid: int) -> bool:
    with suppress(KeyError):
        return bool(pwd.getpwuid(uid))
    return False


@pytest.mark.parametrize("name", ["", "no such", "-1", "4294967295", "99999999999", "1.5", "٣", "a\0b", "\n"])
@pytest.mark.parametrize("key", ["user", "group"])
def test_an_unknown_name_is_named(key: str, name: str) -> None:
    asked = {"user": "root", "group": "root"} | {key: name}
    with pytest.raises(UnknownIdentityError) as caught:
        identity(**asked)
    assert caught.value.key == key
    assert caught.value.problem == f"no such {key} {name!r}; expected a {key} name or id"
    assert "\n" not in str(caught.value)


def test_a_group_alone_would_drop_nothing() -> None:
    with pytest.raises(UnknownIdentityError, match="group: 'daemon' is set without a user; expected user"):
        identity(None, "daemon")


def test_nobody_in_particular_is_who_we_are() -> None:
    found = identity(None, None)
    assert [str(found.uid), str(found.gid)] == [id_says("-u"), id_says("-g")]
    assert sorted(map(str, found.groups)) == sorted(id_says("-G").split())
    become(found)
    assert identity(None, None) == found


BECOME: Final = """
import json, os, sys, threading
from suite.errors import PrivilegeError
from suite.system import ProcessIdentity, become
from tests.helpers import ROOT
BEFORE
wanted = ProcessIdentity(*json.loads(sys.argv[1]))
wanted = ProcessIdentity(wanted.uid, wanted.gid, tuple(wanted.groups), tuple(wanted.names))
waiting = threading.Event()
threading.Thread(target=waiting.wait, daemon=True).start()
try:
    become(wanted)
except PrivilegeError as error:
    print(error, flush=True)
else:
    print("became", flush=True)
sys.stdin.readline()
for call in sys.stdin.read().splitlines():
    try:
        eval(call)
    except OSError as error:
        print(type(error).__name__, flush=True)
    else:
        print("done", flush=True)
os._exit(0)
"""


class Becoming:
    """A process that has tried to switch to *wanted*, and waits.

    :param before: a statement that it executes first.
    :ivar answer: ``became``, or the error.
    """

    def __init__(self, wanted: ProcessIdentity, before: str = "") -> None:
        parts = [wanted.uid, wanted.gid, wanted.groups, wanted.names]
        self.process = subprocess.Popen(
            [sys.executable, "-c", BECOME.replace("BEFORE", before), json.dumps(parts)],
            cwd=DEPLOY.parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.answer = self.process.stdout.readline().rstrip("\n")

    def ids(self, key: str) -> list[set[str]]:
        """The value of *key* in the ``status`` of each of its threads (proc(5))."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/status")
        found = [re.findall(rf"^{key}:(.*)$", task.read_text(), re.MULTILINE)[0].split() for task in tasks]
        assert len(found) == 2
        return [set(ids) for ids in found]

    def attempt(self, *calls: str) -> list[str]:
        """The outcome of each of *calls*; the process then exits."""
        output, _ = self.process.communicate("\n".join(["", *calls]), timeout=PATIENCE)
        return output.splitlines()


@contextmanager
def becoming(wanted: ProcessIdentity, before: str = "") -> Iterator[Becoming]:
    child = Becoming(wanted, before)
    try:
        yield child
    finally:
        child.process.kill()
        child.process.communicate()


@AS_ROOT
def test_root_becomes_somebody_for_good() -> None:
    """In every thread, with all three ids, and with no other groups."""
    wanted = ProcessIdentity(NOBODY, 54321, (54321, 54322), ("somebody", "some"))
    with becoming(wanted, "os.setgroups([0, 4, 20, 24])") as child:
        assert child.answer == "became"
        assert child.ids("Uid") == [{str(NOBODY)}] * 2
        assert child.ids("Gid") == [{"54321"}] * 2
        assert child.ids("Groups") == [{"54321", "54322"}] * 2
        assert child.ids("CapEff") == child.ids("CapPrm") == [{"0" * 16}] * 2
        ways_back = [
            "os.setuid(0)",
            "os.seteuid(0)",
            "os.setresuid(0, 0, 0)",
            "os.setresuid(0, -1, -1)",
            "os.setgid(0)",
            "os.setegid(0)",
            "os.setgroups([0])",
            "os.kill(1, 0)",
        ]
        assert child.attempt(*ways_back) == ["PermissionError"] * len(ways_back)


@AS_ROOT
def test_somebody_stays_who_it_is_and_becomes_nobody_else() -> None:
    before = f"os.setgroups([]); os.setresgid(*[{NOBODY}] * 3); os.setresuid(*[{NOBODY}] * 3)"
    with becoming(ProcessIdentity(NOBODY, NOBODY, (NOBODY,), ("a", "b")), before) as child:
        assert child.answer == "became"
        assert child.ids("Uid") == [{str(NOBODY)}] * 2
    with becoming(ProcessIdentity(54321, 54322, (54322, 54323), ("echo", "echoes")), before) as child:
        started_as = identity(str(NOBODY), str(NOBODY)).names
        assert child.answer == (
            "cannot run as echo:echoes (uid 54321, gid 54322, groups 54323): Operation not permitted;"
            f" started as {':'.join(started_as)} (uid {NOBODY}, gid {NOBODY});"
            " expected a start as root or as that user"
        )
        assert child.ids("Uid") == [{str(NOBODY)}] * 2


@AS_ROOT
def test_another_group_is_another_identity() -> None:
    """A process with additional groups has not dropped them."""
    before = f"os.setgroups([4]); os.setresgid(*[{NOBODY}] * 3); os.setresuid(*[{NOBODY}] * 3)"
    with becoming(ProcessIdentity(NOBODY, NOBODY, (NOBODY,), ("a", "b")), before) as child:
        assert child.answer.startswith(f"cannot run as a:b (uid {NOBODY}, gid {NOBODY}): ")
        assert f"gid {NOBODY}, groups 4); expected" in child.answer


@AS_ROOT
@pytest.mark.parametrize("gid", [0, NOBODY])
def test_a_drop_that_can_be_undone_is_found_out(gid: int) -> None:
    """With the wrong securebits (capabilities(7)), the kernel leaves capabilities with the new user."""
    no_setuid_fixup = "import ctypes; assert ctypes.CDLL(None).prctl(28, 1 << 2, 0, 0, 0) == 0"
    with becoming(ProcessIdentity(NOBODY, gid, (gid,), ("a", "b")), no_setuid_fixup) as child:
        assert child.answer == (
            f"cannot run as a:b (uid {NOBODY}, gid {gid}): the process could become root again;"
            " expected root to be given up for good"
        )


def other(present: ProcessIdentity) -> ProcessIdentity:
    return ProcessIdentity(present.uid + 1, present.gid + 1, (present.gid + 1,), ("other", "others"))


def test_a_refusal_names_both_whom_we_are_and_whom_we_should_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "setgroups", refuse)
    present = identity(None, None)
    with pytest.raises(PrivilegeError) as caught:
        become(other(present))
    assert str(caught.value) == (
        f"cannot run as {other(present)}: Operation not permitted; started as {present};"
        " expected a start as root or as that user"
    )


def test_a_system_that_does_nothing_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("setgroups", "setresgid", "setresuid"):
        monkeypatch.setattr(os, name, lambda *_: None)
    present = identity(None, None)
    with pytest.raises(PrivilegeError) as caught:
        become(other(present))
    assert str(caught.value) == (
        f"cannot run as {other(present)}: setresuid reported success, but the process is still {present};"
        " expected the new identity"
    )
    assert caught.value.exit_code == EXIT_FAILURE


@pytest.mark.parametrize("regained", ["setresuid", "setresgid", None])
def test_both_ways_back_are_tried(monkeypatch: pytest.MonkeyPatch, regained: str | None) -> None:
    """The order of system calls: groups first, the user last, then attempts to go back."""
    wanted = ProcessIdentity(5, 6, (6, 7), ("a", "b"))
    calls: list[tuple[Any, ...]] = []
    state: dict[str, Any] = {"resuid": (0, 0, 0), "resgid": (0, 0, 0), "groups": [0, 4]}

    def setter(name: str) -> Callable[..., None]:
        def set_ids(*ids: Any) -> None:
            calls.append((name, *ids))
            if ids == (-1, 0, -1):
                if name != regained:
                    raise PermissionError(1, "Operation not permitted")
                return
            state[name.removeprefix("set")] = list(ids[0]) if name == "setgroups" else ids

        return set_ids

    for name in ("groups", "resgid", "resuid"):
        monkeypatch.setattr(os, f"set{name}", setter(f"set{name}"))
        monkeypatch.setattr(os, f"get{name}", lambda name=name: state[name])
    if regained is None:
        become(wanted)
    else:
        with pytest.raises(PrivilegeError, match="the process could become root again"):
            become(wanted)
    assert calls[:3] == [("setgroups", (6, 7)), ("setresgid", 6, 6, 6), ("setresuid", 5, 5, 5)]
    back = [("setresuid", -1, 0, -1), ("setresgid", -1, 0, -1)]
    assert calls[3:] == (back[:1] if regained == "setresuid" else back)


def test_a_system_without_the_calls_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "setresuid")
    with pytest.raises(PrivilegeError, match="this system has no setresuid; expected to be started as"):
        become(other(identity(None, None)))


# 3. The service manager.


class Manager:
    """A service manager's end of sd_notify(3).

    :ivar address: the value of ``NOTIFY_SOCKET``.
    """

    def __init__(self, path: str) -> None:
        self.address = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + path[1:] if path.startswith("@") else path)
        self.socket.setblocking(False)  # messages arrive at once

    def heard(self) -> dict[str, str]:
        """The fields of the next message."""
        fields = [line.split("=", 1) for line in self.socket.recv(65536).decode().split("\n")]
        assert len(dict(fields)) == len(fields)
        return dict(fields)

    def silent(self) -> bool:
        """Whether there is no message."""
        with suppress(BlockingIOError):
            return not self.socket.recv(65536)
        return True


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    path = tmp_path / "notify"
    manager = Manager(str(path) if request.param == "path" else f"@echo-suite-test{path}")
    yield manager
    manager.socket.close()


@contextmanager
def notifier(**environ: str) -> Iterator[Notifier]:
    notifier = Notifier(environ)
    try:
        yield notifier
    finally:
        notifier.close()
        notifier.close()  # a second call is harmless


def monotonic_usec() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_the_manager_hears_how_it_is(manager: Manager) -> None:
    with notifier(NOTIFY_SOCKET=manager.address) as sender:
        assert manager.silent()
        sender.ready("4 endpoints")
        assert manager.heard() == {"READY": "1", "STATUS": "4 endpoints"}
        before = monotonic_usec()
        sender.reloading("reading config.toml")
        heard = manager.heard()
        assert before <= int(heard.pop("MONOTONIC_USEC")) <= monotonic_usec()
        assert heard == {"RELOADING": "1", "STATUS": "reading config.toml"}
        sender.status("3 connections")
        assert manager.heard() == {"STATUS": "3 connections"}
        sender.watchdog()
        assert manager.heard() == {"WATCHDOG": "1"}
        sender.stopping("1 connection left")
        assert manager.heard() == {"STOPPING": "1", "STATUS": "1 connection left"}
        assert manager.silent()
    sender.ready("but closed")
    assert manager.silent()


def test_a_status_is_one_line_and_no_other_field(manager: Manager) -> None:
    """Any text is allowed: bytes from a peer must not stop the service."""
    with notifier(NOTIFY_SOCKET=manager.address) as sender:
        sender.status("hola\nMAINPID=1\r\0\udcff año")
        assert manager.heard() == {"STATUS": r"hola\nMAINPID=1\r\x00\udcff año"}


def test_what_is_for_this_process_is_taken_from_the_environment(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "NOTIFY_SOCKET": manager.address,
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": str(os.getpid()),
    }.items():
        monkeypatch.setenv(name, value)
    sender = Notifier()
    assert sender.watchdog_interval == 15
    sender.ready("")
    assert manager.heard() == {"READY": "1", "STATUS": ""}
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & os.environ.keys()
    child = "import os; print([name for name in os.environ if 'NOTIFY' in name or 'WATCHDOG' in name])"
    shown = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
    again = Notifier()
    assert again.watchdog_interval is None
    again.ready("")
    assert manager.silent()
    sender.close()


@pytest.mark.parametrize("address", ["", "relative/notify", "vsock:2:1234"])
def test_without_a_manager_nothing_is_said_and_nothing_opened(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "socket", lambda *_: pytest.fail("a socket was opened"))
    environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000"}
    sender = Notifier(environ)
    assert sender.watchdog_interval is None
    say_everything(sender)
    assert environ == {}


def say_everything(sender: Notifier) -> None:
    sender.ready("")
    sender.reloading("")
    sender.status("")
    sender.watchdog()
    sender.stopping("")


def gone(manager: Manager) -> None:
    manager.socket.close()
    with suppress(FileNotFoundError):
        os.unlink(manager.address)


def refusing(manager: Manager) -> None:
    manager.socket.close()


def somebody_else(manager: Manager) -> None:
    gone(manager)
    manager.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    manager.socket.bind("\0" + manager.address[1:] if manager.address.startswith("@") else manager.address)


def full(manager: Manager) -> None:
    """The manager no longer reads, and its queue is full."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler, suppress(BlockingIOError):
        filler.setblocking(False)
        filler.connect(manager.socket.getsockname())
        while True:
            filler.send(b"STATUS=filler")


@pytest.mark.parametrize("fate", [gone, refusing, somebody_else, full])
def test_a_manager_that_does_not_hear_takes_nobody_down(
    manager: Manager, fate: Callable[[Manager], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "MANAGER_PATIENCE", 0.01)
    with notifier(NOTIFY_SOCKET=manager.address) as sender:
        fate(manager)
        say_everything(sender)


def test_a_change_of_state_waits_for_room_and_a_status_does_not(manager: Manager) -> None:
    with notifier(NOTIFY_SOCKET=manager.address) as sender:
        full(manager)
        sender.status("lost")
        reader = threading.Thread(target=sender.ready, args=["waited for"])
        reader.start()
        heard = []
        for _ in range(PATIENCE * 100):
            with suppress(BlockingIOError):
                while True:
                    heard.append(manager.heard())
            if not reader.is_alive():
                break
            reader.join(0.01)
        with suppress(BlockingIOError):
            while True:
                heard.append(manager.heard())
    assert heard.pop() == {"READY": "1", "STATUS": "waited for"}
    assert heard
    assert all(fields == {"STATUS": "filler"} for fields in heard)


def test_once_it_serves_nothing_waits_for_the_manager(manager: Manager) -> None:
    """Connections would wait with it: a hundred changes of state take less than the first might."""
    with notifier(NOTIFY_SOCKET=manager.address) as sender:

        def patience() -> float:
            packed = cast(Any, sender)._socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, 16)
            seconds, microseconds = struct.unpack("ll", packed)
            return float(seconds + microseconds / 1e6)

        assert 0.9 < patience() <= 1.1, "the kernel rounds to its clock ticks"
        sender.ready("")
        assert 0 < patience() < 0.03


def test_it_needs_no_further_descriptor(manager: Manager, descriptor_limit: tuple[int, int]) -> None:
    """Otherwise a watchdog would end the service when connections have used them all."""
    with notifier(NOTIFY_SOCKET=manager.address) as sender:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, descriptor_limit[1]))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                os.open("/", os.O_RDONLY)
            sender.watchdog()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, descriptor_limit)  # pytest needs some
        assert manager.heard() == {"WATCHDOG": "1"}


def test_a_mistake_of_ours_is_not_hidden(manager: Manager) -> None:
    with notifier(NOTIFY_SOCKET=manager.address) as sender, pytest.raises(TypeError):
        sender.status(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("watchdog", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "1"}, 0.5e-6),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getppid())}, None),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": ""}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "٣"}, None),
        ({"WATCHDOG_PID": str(os.getpid())}, None),
    ],
)
def test_the_watchdog_is_told_twice_in_its_time(
    manager: Manager, watchdog: dict[str, str], interval: float | None
) -> None:
    with notifier(NOTIFY_SOCKET=manager.address, **watchdog) as sender:
        assert sender.watchdog_interval == interval


# 4. Socket activation, as activate.py does it.


def listening(family: int, address: Any) -> socket.socket:
    """A listening socket of the parent process, which is this one."""
    sock = socket.socket(family)
    sock.settimeout(PATIENCE)
    sock.bind(address)
    sock.listen()
    return sock


@contextmanager
def activated(
    directory: Path, config: str, *words: str, sockets: dict[str, socket.socket], reactor: str = "echo-engine"
) -> Iterator[RunningSuite]:
    """A suite that has inherited *sockets*, by name and in that order.

    :param words: options of activate.py.
    """
    inherited = [f"{name}={sock.fileno()}" for name, sock in sockets.items()]
    command = [sys.executable, activate.__file__, *words, *inherited, "--"]
    descriptors = [sock.fileno() for sock in sockets.values()]
    with running(directory, config, "--reactor", reactor, command=command, pass_fds=descriptors) as suite:
        yield suite


def echoed(sock: socket.socket, data: bytes = b"hola") -> bool:
    """Whether *data* comes back, followed by the end of the stream."""
    with sock:
        sock.settimeout(PATIENCE)
        return echo(sock, data, lambda: sock.shutdown(socket.SHUT_WR)) == data


def connected(listener: socket.socket, patience: float = PATIENCE) -> socket.socket:
    sock = socket.socket(listener.family)
    try:
        sock.settimeout(patience)
        sock.connect(listener.getsockname())
    except OSError:
        sock.close()
        raise
    return sock


@contextmanager
def tcp_and_unix(directory: Path) -> Iterator[dict[str, socket.socket]]:
    """Two listening sockets, named after their kinds."""
    path = str(directory / "inherited.sock")
    with listening(socket.AF_INET, ("127.0.0.1", 0)) as tcp, listening(socket.AF_UNIX, path) as unix:
        yield {"tcp": tcp, "unix": unix}


@pytest.mark.parametrize("reactor", ["echo-engine", "select"])
@pytest.mark.parametrize("keys", [("index=0", "index=1"), ("name=tcp", "name=unix")], ids=["index", "name"])
def test_inherited_sockets_are_served(tmp_path: Path, keys: tuple[str, str], reactor: str) -> None:
    config = f'[endpoints]\na = "systemd:domain=INET:{keys[0]}"\nb = "systemd:domain=UNIX:{keys[1]}"'
    with (
        tcp_and_unix(tmp_path) as sockets,
        activated(tmp_path, config, sockets=sockets, reactor=reactor) as suite,
    ):
        assert suite.addresses["a"] == sockets["tcp"].getsockname()
        assert suite.addresses["b"] == sockets["unix"].getsockname()
        assert all(echoed(connected(sock)) for sock in sockets.values())


# unix.Port treats every socket as its own: it changes mode and backlog, and finally shuts it down.


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_inherited_sockets_stay_their_owners(tmp_path: Path, kind: str) -> None:
    """Connections made between two services wait in the queue, and are served by the next one."""
    config = f'[endpoints]\nit = "systemd:domain={"INET" if kind == "tcp" else "UNIX"}:name={kind}"'
    with tcp_and_unix(tmp_path) as sockets, ExitStack() as stack:
        listener = sockets[kind]

        def in_the_queue() -> socket.socket:
            sock = stack.enter_context(connected(listener))
            sock.sendall(b"in the queue")
            return sock

        waiting = in_the_queue()
        for _ in range(2):
            with activated(tmp_path, config, sockets={kind: listener}):
                assert waiting.recv(100) == b"in the queue"
                assert echoed(connected(listener))
            waiting = in_the_queue()
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.recv(100) == b"in the queue"
        assert (tmp_path / "inherited.sock").is_socket()


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_inherited_sockets_keep_their_queue(tmp_path: Path, kind: str) -> None:
    """The backlog that the owner set, 200 here, holds even while the server does nothing."""
    if int(Path("/proc/sys/net/core/somaxconn").read_text()) < 200:
        pytest.skip("net.core.somaxconn cuts the queue off")
    config = f'[endpoints]\nit = "systemd:domain={"INET" if kind == "tcp" else "UNIX"}:name={kind}"'
    with tcp_and_unix(tmp_path) as sockets, ExitStack() as stack:
        sockets[kind].listen(200)
        suite = stack.enter_context(activated(tmp_path, config, sockets={kind: sockets[kind]}))
        suite.process.send_signal(signal.SIGSTOP)
        stack.callback(suite.process.send_signal, signal.SIGCONT)
        for _ in range(200):  # connecting to a UNIX socket succeeds at once, or fails
            stack.enter_context(connected(sockets[kind], patience=0 if kind == "unix" else PATIENCE))


def test_an_inherited_unix_socket_keeps_its_mode(tmp_path: Path) -> None:
    """Only SocketMode= decides who may connect."""
    config = '[endpoints]\nunix = "systemd:domain=UNIX:name=unix"'
    path = tmp_path / "inherited.sock"
    with tcp_and_unix(tmp_path) as sockets:
        path.chmod(0o640)
        with activated(tmp_path, config, sockets={"unix": sockets["unix"]}):
            assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_sockets_meant_for_another_process_are_not_taken(tmp_path: Path) -> None:
    """``LISTEN_PID`` names the process that they are for; environments are inherited by accident."""
    (tmp_path / "config.toml").write_text('[endpoints]\na = "systemd:domain=INET:name=tcp"')
    with listening(socket.AF_INET, ("127.0.0.1", 0)) as sock:
        result = subprocess.run(
            [sys.executable, "-m", "suite"],
            cwd=tmp_path,
            env=os.environ | {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "tcp"},
            pass_fds=[sock.fileno()],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert result.returncode == EXIT_FAILURE
    assert re.fullmatch(
        "endpoints.a: cannot listen on systemd:domain=INET:name=tcp: no such descriptor was inherited:"
        r" LISTEN_PID is 1, and this is process \d+; expected no process in between \(a shell: exec\)\n",
        result.stderr,
    )


# 5. The units in deploy/systemd.


def settings(unit: str) -> dict[str, list[str]]:
    """The settings of a shipped unit, by key."""
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / unit).read_text().splitlines():
        if line and not line.startswith(("#", "[")):
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value)
    return found


def in_network_of(pid: int, make: Callable[[], T]) -> T:
    """Call *make* in the network namespace of the process *pid*, in which its sockets stay."""

    def there() -> T:
        with open(f"/proc/{pid}/ns/net") as network:
            activate.call("setns", network.fileno(), activate.CLONE_NEWNET)
        return make()

    with ThreadPoolExecutor(1) as executor:  # only this thread enters the namespace
        return executor.submit(there).result()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a network where its ports are free")
def test_the_shipped_configuration_serves_on_the_shipped_sockets(tmp_path: Path) -> None:
    config = (DEPLOY / "config.toml").read_text()
    with ExitStack() as stack:
        sockets = {}
        for unit in UNITS[1:]:
            (name,), (address,) = (settings(unit)[key] for key in ("FileDescriptorName", "ListenStream"))
            if address.startswith("/"):
                sock = listening(socket.AF_UNIX, str(tmp_path / Path(address).name))
            else:
                sock = listening(socket.AF_INET, (address.partition(":")[0], 0))
            sockets[name] = stack.enter_context(sock)
        suite = stack.enter_context(activated(tmp_path, config, "--own-network", sockets=sockets))
        assert suite.addresses.keys() == {"tcp", "unix", "udp", "tls"}
        assert {name for name, sock in sockets.items() if echoed(connected(sock))} == {"tcp", "unix"}
        with in_network_of(suite.process.pid, lambda: suite.connect("udp")) as udp:
            udp.send(b"hola")
            assert udp.recv(100) == b"hola"
        with in_network_of(suite.process.pid, lambda: suite.connect("tls")) as sock:
            client = TLSClient(sock, suite.client_context())
            assert echo(client, b"hola", client.close_notify) == b"hola"  # type: ignore[arg-type]


def test_the_units_know_each_other() -> None:
    service = settings("echo-suite.service")
    assert service["Sockets"] == service["Also"] == ["echo-suite.socket echo-suite-unix.socket"]
    assert settings("echo-suite-unix.socket")["Service"] == ["echo-suite.service"]
    assert "/etc/echo-suite/config.toml" in service["ExecStart"][0]


def test_the_service_is_not_exposed(tmp_path: Path) -> None:
    """At most 1.5 of 10, by systemd's own rating."""
    result = subprocess.run(
        [
            client_program("systemd-analyze"),
            "security",
            "--offline=yes",
            "--no-pager",
            "--threshold=15",
            DEPLOY / "echo-suite.service",
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    (level,) = re.findall(r"Overall exposure level for echo-suite.service: ([0-9.]+)", result.stdout)
    assert float(level) <= 1.5, result.stdout
    assert result.returncode == 0, "systemd-analyze has its own opinion of the threshold"


def test_systemd_understands_the_units(tmp_path: Path) -> None:
    """All of them, except the service's type with a systemd before 253."""
    program = client_program("systemd-analyze")
    for unit in UNITS:
        # Here the package is not in /opt, but where these tests run.
        text = (DEPLOY / unit).read_text()
        (tmp_path / unit).write_text(text.replace("/opt/echo-suite/bin/echo-suite", sys.executable))
    result = subprocess.run(
        [program, "verify", "--man=no", *(tmp_path / unit for unit in UNITS)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    about = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    complaints = [line for line in result.stderr.splitlines() if "echo-suite" in line]
    if int(about.split()[1]) < 253:
        assert "notify-reload" in complaints.pop(0)
    assert complaints == []
    assert result.returncode == 0
