"""Faults that a client asks for: in its first line or datagram, or in the name that it asks for (SNI).

Rules: what is asked for is read as everywhere (`suite.config.fault_text`), and has to be allowed; it is what
the first connection of an endpoint would get that declares just this, with this seed, so that the same
request always gets the same. Conditions that tell clients apart cannot be asked for.
"""

from __future__ import annotations

from typing import Final

from suite.config.fault_text import KINDS, parse
from suite.config.fault_values import OPTIONS
from suite.config.faults import TOO_EARLY, Fault, Faults
from suite.config.profiles import PROFILES
from suite.faults.decide import CLEAN, Decider, Decision

#: What a word of a name may begin with, the longest first, and the key that it means.
_KEYS: Final = {
    key.replace("_", "-"): key
    for key in sorted([*KINDS, *OPTIONS, "profile", "seed"], key=lambda key: -len(key))
}

#: Keys whose values are words, in which an underscore stands for itself.
_WORDS: Final = frozenset({"alert", "distribution", "direction", "end", "handshake", "profile"})


def request(text: str, transport: str, faults: Faults) -> Decision:
    """What a client gets that asks for *text*; nothing, if it asks for nothing.

    For datagrams, chance and jitter are left in it, since they are drawn for each.

    :param transport: the transport of the connection.
    :param faults: what may be asked for (`Faults.allowed`), and the seed if *text* has none.
    :raises ValueError: it cannot be had; the message is one line.
    """
    if not text.strip(" ;\t\r\n"):
        return CLEAN
    entries, seed = parse(text, transport, faults.profiles or PROFILES)
    for fault in entries:
        _check(fault, faults)
    seed = faults.seed if seed is None else seed
    if transport == "UDP":
        return Decision(entries, seed)
    return Decider(Faults(entries, seed)).connection(1)


def _check(fault: Fault, faults: Faults) -> None:
    """Check that a client may have *fault*.

    :raises ValueError: it may not.
    """
    if fault.kind in TOO_EARLY:
        raise ValueError(f"{fault.kind}: strikes before a request is read; expected another fault")
    if faults.allowed and fault.kind not in faults.allowed:
        allowed = " or ".join(sorted(faults.allowed))
        raise ValueError(f"{fault.kind}: is not allowed here; expected {allowed}")
    for option, given in (
        ("every", fault.every != 1),
        ("once", fault.once),
        ("only", bool(fault.networks or fault.names)),
    ):
        if given:
            raise ValueError(f"{option}: cannot be requested, since it is about several clients")


def in_name(name: str) -> str | None:
    """The request in *name*, which a TLS client asks for; None if it names no fault.

    The first labels are words, with a dash for the equals sign, as in ``latency-200ms.reset.localhost``; in
    one label, two dashes separate them (``latency-200ms--reset.localhost``), since a certificate for
    ``*.localhost`` is good for one label only. In numbers, ``_`` stands for the point. What follows, from the
    first label on that begins with no known word, is the host.
    """
    found: list[str] = []
    for label in name.lower().rstrip(".").split("."):
        words = [_word(part) for part in label.split("--")]
        if None in words:
            break
        found += [word for word in words if word is not None]
    named = any(word.partition("=")[0] in KINDS or word.startswith("profile=") for word in found)
    return " ".join(found) if named else None


def _word(part: str) -> str | None:
    """*part* of a label as a word; None if it is none."""
    for dashed, key in _KEYS.items():
        beginning, rest = part[: len(dashed)].replace("_", "-"), part[len(dashed) :]
        if beginning != dashed:
            continue
        if not rest:
            return key if key in KINDS or key == "once" else None
        if rest[0] == "-" and rest[1:]:
            return f"{key}={rest[1:] if key in _WORDS else rest[1:].replace('_', '.')}"
    return None
