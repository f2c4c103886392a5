"""Two network namespaces with a cable between them that loses packets, and sockets in them."""

from __future__ import annotations

import ctypes
import itertools
import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.running import PATIENCE, cannot_run, client_program

_CLONE_NEWNET = 0x40000000  # sched.h

_numbers = itertools.count()


def command(*words: str) -> str:
    """What the program *words* prints; it must succeed."""
    program = client_program(words[0])
    result = subprocess.run(
        [program, *words[1:]], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert result.returncode == 0, f"{' '.join(words)}: {result.stderr}"
    return result.stdout


@dataclass(frozen=True)
class Namespace:
    """A network namespace with one address."""

    name: str
    address: str

    def inside(self, *words: str) -> list[str]:
        """The command line that runs *words* in it."""
        return [client_program("ip"), "netns", "exec", self.name, *words]

    def socket(self, kind: socket.SocketKind, family: int = socket.AF_INET) -> socket.socket:
        """A socket that belongs to it, whoever uses it."""
        made: list[socket.socket | OSError] = []

        def make() -> None:
            # Only this thread moves, and it ends here.
            libc = ctypes.CDLL(None, use_errno=True)
            with open(f"/run/netns/{self.name}", "rb") as file:
                if libc.setns(file.fileno(), _CLONE_NEWNET):
                    made.append(OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno())))
                    return
            made.append(socket.socket(family, kind))

        thread = threading.Thread(target=make)
        thread.start()
        thread.join(PATIENCE)
        (sock,) = made
        if isinstance(sock, OSError):
            raise sock
        sock.settimeout(PATIENCE)
        return sock

    def lost(self) -> int:
        """How many packets that were for it have been lost."""
        table = command(*self.inside("iptables", "-nvxL", "INPUT"))
        (count,) = re.findall(r"^ *(\d+) +\d+ DROP ", table, re.MULTILINE)
        return int(count)


@contextmanager
def lossy_cable(probability: float) -> Iterator[tuple[Namespace, Namespace]]:
    """Two namespaces; what is sent from one to the other is lost with *probability*, each way.

    They are gone afterwards, whatever happens; so is what runs in them, which is the caller's to end.
    """
    if os.geteuid() != 0:
        cannot_run("only root may make network namespaces")
    for program in ("ip", "iptables"):
        client_program(program)
    number = f"{os.getpid()}-{next(_numbers)}"
    ends = [Namespace(f"echo-{number}-{end}", f"192.0.2.{end}") for end in (1, 2)]
    with ExitStack() as stack:
        for end in ends:
            made = subprocess.run(
                [client_program("ip"), "netns", "add", end.name],
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
            if made.returncode:
                cannot_run(f"network namespaces cannot be made here: {made.stderr.strip()}")
            stack.callback(command, "ip", "netns", "delete", end.name)
        # Packets as small as on a wire, not as large as the kernel would pass from one end to the other.
        cable = ("type", "veth", "peer", "name", "cable", "netns", ends[1].name)
        command("ip", "link", "add", "name", "cable", "netns", ends[0].name, "gso_max_segs", "1", *cable)
        for end in ends:
            inside = ("ip", "-n", end.name)
            command(*inside, "link", "set", "cable", "gso_max_segs", "1")
            command(*inside, "address", "add", f"{end.address}/24", "dev", "cable")
            command(*inside, "link", "set", "cable", "up")
            # Lost on arrival: what is dropped on its way out, the sender is told of.
            rule = ("-m", "statistic", "--mode", "random", "--probability", str(probability), "-j", "DROP")
            command(*end.inside("iptables", "-A", "INPUT", *rule))
        yield ends[0], ends[1]
