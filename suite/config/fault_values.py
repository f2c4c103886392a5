"""The values of faults: how each is read from a file or a word, written as a word, and shown.

Rules: a file has the values of TOML (``latency = "200ms"``, ``chance = 0.1``), a word is text alone
(``latency=200ms``, ``chance=0.1``), and both mean the same. In words, letters may be large or small, and a
bare number is one of bytes where bytes are meant. What a reader returns can be used; what it raises says
what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from suite.config.fault_quantities import DURATION, LOSS, RATE, SHARE, SPAN, Reader, counts, sizes, wrong_type
from suite.config.faults import ALERTS, DIRECTIONS, DISTRIBUTIONS, ENDS, HANDSHAKES, Kind
from suite.config.limits import Network
from suite.config.values import as_network
from suite.text import is_address, near

#: A name that a client may ask for (RFC 6066, section 3: a DNS host name), also with a leading ``*.``.
_NAME: Final = re.compile(r"(?:\*\.)?[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*", re.IGNORECASE)
#: What looks like one, and is an address that lacks something.
_NUMERIC: Final = re.compile(r"[0-9.*]+")

#: The longest record of TLS, in bytes (RFC 8446, section 5.1), and the longest datagram over IPv4.
LONGEST_RECORD: Final = 2**14
LONGEST_DATAGRAM: Final = 65_507

#: The most messages of one storm.
MOST_MESSAGES: Final = 100_000

#: What ``only`` holds: networks and names.
Only = tuple[tuple[Network, ...], tuple[str, ...]]


# Words, and yes or no.


def _words(
    known: tuple[str, ...],
    typed: Callable[[str], str] = str.lower,
    elsewhere: Mapping[str, str] = MappingProxyType({}),
) -> Reader:
    """One of the *known* words.

    :param elsewhere: what other programs call them.
    """
    expected = " or ".join(f'"{word}"' for word in known) if len(known) < 10 else "the name of an alert"

    def read(value: object) -> str:
        if not isinstance(value, str):
            raise wrong_type(value, expected)
        if value not in known:
            hint = near(elsewhere.get(value, value.lower()), known) or f"; expected {expected}"
            raise ValueError(f"{value!r} is unknown{hint}")
        return value

    return Reader(expected, read, typed, str, str)


def _yes(value: object) -> bool:
    if value is False:
        raise ValueError("false has no effect; expected true, or no such entry")
    if isinstance(value, str):
        raise ValueError(f"{value!r} cannot be used; expected true")
    if value is not True:
        raise wrong_type(value, "true")
    return True


def _yes_or_no(value: object) -> bool:
    if isinstance(value, str):
        raise ValueError(f"{value!r} cannot be used; expected true or false")
    if not isinstance(value, bool):
        raise wrong_type(value, "true or false")
    return value


def _typed_boolean(text: str) -> object:
    return {"true": True, "false": False}.get(text.lower(), text)


FLAG: Final = Reader("true", _yes, _typed_boolean, lambda _: "true", lambda _: "")
BOOLEAN: Final = Reader("true or false", _yes_or_no, _typed_boolean, lambda value: str(value).lower(), str)


# For whom.

_AN_ONLY: Final = 'an array of networks or names, such as ["192.0.2.0/24", "*.example.org"]'


def _only(value: object) -> Only:
    if not isinstance(value, list):
        raise wrong_type(value, _AN_ONLY)
    if not value:
        raise ValueError(f"[] is nobody; expected {_AN_ONLY}, or the key to be left out")
    networks: list[Network] = []
    names: list[str] = []
    for item in value:
        if not isinstance(item, str):
            raise wrong_type(item, _AN_ONLY)
        if "/" in item or ":" in item or _NUMERIC.fullmatch(item) or is_address(item):
            networks.append(as_network(item))
        elif _NAME.fullmatch(item):
            names.append(item.lower())
        else:
            raise ValueError(f"{item!r} is neither a network nor a name; expected {_AN_ONLY}")
    return tuple(networks), tuple(names)


def _only_text(only: Only) -> str:
    networks, names = only
    return ",".join([*map(str, networks), *names])


ONLY: Final = Reader(_AN_ONLY, _only, lambda text: text.split(","), _only_text, _only_text)


def _dashed(text: str) -> str:
    return text.lower().replace("_", "-")


def _underscored(text: str) -> str:
    return text.lower().replace("-", "_")


def _plus(text: str) -> str:
    """An end as it is called here: a host name, which may say it, has no plus sign."""
    return "notify+fin" if text.lower() in ("notify-fin", "notify_fin") else text.lower()


#: How the value of each kind of fault is read.
VALUES: Final[Mapping[Kind, Reader]] = {
    Kind.LATENCY: DURATION,
    Kind.BANDWIDTH: RATE,
    Kind.SLICE: sizes(1),
    Kind.CORRUPT: SHARE,
    Kind.STALL: FLAG,
    Kind.BLACKHOLE: FLAG,
    Kind.LIMIT: sizes(),
    Kind.CLOSE: FLAG,
    Kind.HALF_CLOSE: FLAG,
    Kind.RESET: FLAG,
    Kind.REFUSE: FLAG,
    Kind.ACCEPT_DELAY: DURATION,
    Kind.SLOW_CLOSE: DURATION,
    Kind.LOSS: LOSS,
    Kind.DUPLICATE: SHARE,
    Kind.REORDER: SHARE,
    Kind.DELAY: DURATION,
    Kind.TRUNCATE: sizes(0, LONGEST_DATAGRAM),
    Kind.RATE: RATE,
    Kind.HANDSHAKE: _words(HANDSHAKES, _dashed),
    Kind.ALERT: _words(tuple(ALERTS), _underscored),
    Kind.END: _words(ENDS, _plus),
    Kind.FRAGMENT: sizes(1, LONGEST_RECORD),
    Kind.EARLY_CLOSE: FLAG,
    Kind.KEY_UPDATE: counts(MOST_MESSAGES),
}

#: How the options beside it are read.
OPTIONS: Final[Mapping[str, Reader]] = {
    "jitter": DURATION,
    "distribution": _words(DISTRIBUTIONS),
    "gap": DURATION,
    "direction": _words(DIRECTIONS, elsewhere={"downstream": "down", "upstream": "up"}),
    "chance": SHARE,
    "every": counts(2**31 - 1),
    "once": BOOLEAN,
    "only": ONLY,
    "after": SPAN,
    "for": SPAN,
}
