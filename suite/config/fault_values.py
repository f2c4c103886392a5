"""The values of faults: how each is read from a file or a word, written as a word, and shown.

Rules: a file has the values of TOML (``latency = "200ms"``, ``chance = 0.1``), a word is text alone
(``latency=200ms``, ``chance=0.1``), and both mean the same. In words, letters may be large or small, and a
bare number is one of bytes where bytes are meant. What a reader returns can be used; what it raises says
what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

from suite.config.faults import ALERTS, DIRECTIONS, DISTRIBUTIONS, ENDS, HANDSHAKES, Bursts, Kind, Span
from suite.config.limits import Network
from suite.config.values import as_network, type_of
from suite.text import SIZES, UNITS, is_address, near, suggest

_DURATION: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h|d)")
_SIZE: Final = re.compile(r"([0-9]{1,15})(B|KiB|MiB|GiB|TiB)")
#: A size in the units of other programs.
_OTHER_SIZE: Final = re.compile(r"([0-9]{1,15}) ?(?:([kmgt])?i?b?)", re.IGNORECASE)
_BITS: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(bit|kbit|mbit|gbit)", re.IGNORECASE)
_WHOLE: Final = re.compile(r"[0-9]{1,18}")
_DECIMAL: Final = re.compile(r"(?=[0-9.]{1,30}(?:[eE]|$))(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE]-?[0-9]{1,3})?")

#: A name that a client may ask for (RFC 6066, section 3: a DNS host name), also with a leading ``*.``.
_NAME: Final = re.compile(r"(?:\*\.)?[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*", re.IGNORECASE)
#: What looks like one, and is an address that lacks something.
_NUMERIC: Final = re.compile(r"[0-9.*]+")

#: Bits a second in the units of ``tc`` (tc(8), "PARAMETERS": powers of 1,000).
BITS: Final = {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9}

#: The longest duration, in seconds: a year. It is read and written exactly, to the nanosecond.
LONGEST: Final = 365 * 86_400.0
DIGITS: Final = 9

#: The longest record of TLS, in bytes (RFC 8446, section 5.1), and the longest datagram over IPv4.
LONGEST_RECORD: Final = 2**14
LONGEST_DATAGRAM: Final = 65_507

#: The largest size, in bytes, and the fastest rate, in bytes a second: words can hold them exactly.
MOST_BYTES: Final = 2**49

#: The most messages of one storm.
MOST_MESSAGES: Final = 100_000

#: What ``only`` holds: networks and names.
Only = tuple[tuple[Network, ...], tuple[str, ...]]


@dataclass(frozen=True)
class Reader:
    """How one kind of value is read and written.

    :ivar expected: what can be read, for people.
    :ivar read: the value, from what a TOML file may have; raises ValueError.
    :ivar typed: the text of a word as a TOML file would have it.
    :ivar text: the text of a word that means the value.
    :ivar shown: the value for people.
    """

    expected: str
    read: Callable[[object], Any]
    typed: Callable[[str], object]
    text: Callable[[Any], str]
    shown: Callable[[Any], str]


def _wrong_type(value: object, expected: str, hint: str = "") -> ValueError:
    return ValueError(f"{value!r} is {type_of(value)}; expected {expected}{hint}")


# Durations.

_A_DURATION: Final = 'a duration such as "200ms" or "2s"'


def _duration(value: object) -> float:
    """Seconds, to the nanosecond."""
    if not isinstance(value, str):
        whole = isinstance(value, int) and not isinstance(value, bool)
        raise _wrong_type(value, _A_DURATION, f'; did you mean "{value}ms"?' if whole else "")
    found = _DURATION.fullmatch(value)
    if not found:
        hint = f'; did you mean "{value}ms"?' if _WHOLE.fullmatch(value) else ""
        raise ValueError(f"{value!r} is not a duration; expected {_A_DURATION}{hint}")
    seconds = round(float(found[1]) * UNITS[found[2]], DIGITS)
    if seconds > LONGEST:
        raise ValueError(f'{value!r} is too long; expected "365d" at the most')
    return seconds


def _duration_text(seconds: float) -> str:
    if seconds < 1:
        return _plain(f"{seconds * 1000:.{DIGITS - 3}f}") + "ms"
    return _plain(f"{seconds:.{DIGITS}f}") + "s"


def _duration_shown(seconds: float) -> str:
    return _plain(f"{seconds * 1000:.3f}") + " ms" if seconds < 1 else _plain(f"{seconds:,.3f}") + " s"


def _plain(digits: str) -> str:
    """A number without the zeros at its end."""
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


DURATION: Final = Reader(_A_DURATION, _duration, str.lower, _duration_text, _duration_shown)


# Sizes and rates.

_A_SIZE: Final = 'a size such as "64KiB" or "100B"'


def _size(value: object, lowest: int = 0, highest: int = MOST_BYTES) -> int:
    if not isinstance(value, str):
        whole = isinstance(value, int) and not isinstance(value, bool)
        raise _wrong_type(value, _A_SIZE, f'; did you mean "{value}B"?' if whole else "")
    found = _SIZE.fullmatch(value)
    if not found:
        raise ValueError(f"{value!r} is not a size; expected {_A_SIZE}{_meant_size(value)}")
    size = int(found[1]) * SIZES[found[2]]
    if size < lowest:
        raise ValueError(f'{value!r} is too small; expected "{lowest}B" or more')
    if size > highest:
        raise ValueError(f'{value!r} is too large; expected "{_size_text(highest)}" at the most')
    return size


def _meant_size(text: str) -> str:
    """The size that *text* probably was meant to be, as a hint; nothing, if it is nothing like that."""
    found = _OTHER_SIZE.fullmatch(text)
    return (
        f'; did you mean "{found[1]}{(found[2] or "").upper()}{"iB" if found[2] else "B"}"?' if found else ""
    )


def _size_text(size: int) -> str:
    for unit, factor in reversed(SIZES.items()):
        if size >= factor and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"


def _typed_size(text: str) -> str:
    """*text* with its unit as TOML files have it; a bare number is one of bytes."""
    number = text.rstrip("BbIiKkMmGgTt")
    if not number.isdigit():
        return text
    units = {unit.lower(): unit for unit in SIZES}
    return number + units.get(text[len(number) :].lower() or "b", text[len(number) :])


def _grouped(size: int) -> str:
    return f"{size:,}"


def _sizes(lowest: int = 0, highest: int = MOST_BYTES) -> Reader:
    return Reader(_A_SIZE, lambda value: _size(value, lowest, highest), _typed_size, _size_text, _grouped)


_A_RATE: Final = 'a number of bytes or bits a second, such as "10KiB" or "8Mbit"'


def _rate(value: object) -> int:
    """Bytes a second."""
    if not isinstance(value, str):
        raise _wrong_type(value, _A_RATE)
    found = _BITS.fullmatch(value)
    if found:
        rate = int(Decimal(found[1]) * BITS[found[2].lower()]) // 8
    elif _SIZE.fullmatch(value):
        rate = _size(value)
    else:
        raise ValueError(f"{value!r} is not a rate; expected {_A_RATE}{_meant_size(value)}")
    if not rate:
        raise ValueError(f'{value!r} is too slow; expected "1B" or "8bit" at the least')
    if rate > MOST_BYTES:
        raise ValueError(f'{value!r} is too fast; expected "{_size_text(MOST_BYTES)}" at the most')
    return rate


RATE: Final = Reader(
    _A_RATE,
    _rate,
    lambda text: text if _BITS.fullmatch(text) else _typed_size(text),
    _size_text,
    lambda rate: f"{rate:,} B/s",
)


# Numbers.

_A_SHARE: Final = "a share from 0 to 1, such as 0.1"


def _share(value: object) -> float:
    if isinstance(value, str):
        found = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,9})?) ?%", value)
        hint = f"; did you mean {float(found[1]) / 100:g}?" if found else ""
        raise ValueError(f"{value!r} is not a share; expected {_A_SHARE}{hint}")
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise _wrong_type(value, _A_SHARE)
    if not 0 <= value <= 1:
        hint = f"; did you mean {value / 100:g}?" if 1 < value <= 100 else ""
        raise ValueError(f"{value!r} is out of range; expected {_A_SHARE}{hint}")
    return float(value)


def _typed_number(text: str) -> object:
    """The number that *text* is, or else *text*."""
    if _WHOLE.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text):
        return float(text)
    return text


def _share_text(share: float) -> str:
    return repr(share).removesuffix(".0")


SHARE: Final = Reader(_A_SHARE, _share, _typed_number, _share_text, _share_text)


def _counts(highest: int) -> Reader:
    expected = f"a whole number from 1 to {highest}"

    def read(value: object) -> int:
        if isinstance(value, str):
            raise ValueError(f"{value!r} is not a whole number; expected {expected}")
        if not isinstance(value, int) or isinstance(value, bool):
            raise _wrong_type(value, expected)
        if not 1 <= value <= highest:
            raise ValueError(f"{value} is out of range; expected {expected}")
        return value

    return Reader(expected, read, _typed_number, str, _grouped)


# Loss, which is a share, or bursts.

_BURSTS: Final = {"p": "p", "r": "r", "1-h": "bad", "1-k": "good"}
_A_LOSS: Final = f"{_A_SHARE}, or bursts, such as {{ p = 0.01, r = 0.3 }}"


def _loss(value: object) -> float | Bursts:
    if not isinstance(value, dict):
        if isinstance(value, (list, str)):
            raise ValueError(f"{value!r} cannot be used; expected {_A_LOSS}")
        return _share(value)
    for name in value:
        if name not in _BURSTS:
            raise ValueError(f"{name!r} is not a parameter of bursts{suggest(str(name), _BURSTS)}")
    if "p" not in value:
        raise ValueError("p is missing; expected the probability that a burst begins")
    read = {}
    for name, share in value.items():
        try:
            read[_BURSTS[name]] = _share(share)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    read.setdefault("r", 1.0 - read["p"])  # tc-netem(8): with p alone, losses are independent
    return Bursts(**read)


def _typed_loss(text: str) -> object:
    if ":" not in text:
        return _typed_number(text)
    pairs = (part.partition(":") for part in text.lower().split(","))
    return {name: _typed_number(share) for name, _, share in pairs}


def _loss_text(loss: float | Bursts) -> str:
    if not isinstance(loss, Bursts):
        return _share_text(loss)
    return ",".join(f"{name}:{_share_text(getattr(loss, field))}" for name, field in _BURSTS.items())


def _loss_shown(loss: float | Bursts) -> str:
    if not isinstance(loss, Bursts):
        return _share_text(loss)
    shares = " ".join(f"{name} {_share_text(getattr(loss, field))}" for name, field in _BURSTS.items())
    return f"in bursts ({shares})"


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
            raise _wrong_type(value, expected)
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
        raise _wrong_type(value, "true")
    return True


def _yes_or_no(value: object) -> bool:
    if isinstance(value, str):
        raise ValueError(f"{value!r} cannot be used; expected true or false")
    if not isinstance(value, bool):
        raise _wrong_type(value, "true or false")
    return value


def _typed_boolean(text: str) -> object:
    return {"true": True, "false": False}.get(text.lower(), text)


FLAG: Final = Reader("true", _yes, _typed_boolean, lambda _: "true", lambda _: "")
BOOLEAN: Final = Reader("true or false", _yes_or_no, _typed_boolean, lambda value: str(value).lower(), str)


# Where it begins, how long it lasts, and for whom.

_A_SPAN: Final = 'a size or a time, such as "64KiB" or "2s"'


def _span(value: object) -> Span:
    if not isinstance(value, str):
        whole = isinstance(value, int) and not isinstance(value, bool)
        raise _wrong_type(value, _A_SPAN, f'; did you mean "{value}B"?' if whole else "")
    if _DURATION.fullmatch(value):
        return Span(seconds=_duration(value))
    if _SIZE.fullmatch(value):
        return Span(size=_size(value))
    raise ValueError(f"{value!r} is neither a size nor a time; expected {_A_SPAN}")


def _typed_span(text: str) -> str:
    return text.lower() if _DURATION.fullmatch(text.lower()) else _typed_size(text)


def _span_text(span: Span) -> str:
    return _duration_text(span.seconds) if span.seconds is not None else _size_text(span.size or 0)


def _span_shown(span: Span) -> str:
    return _duration_shown(span.seconds) if span.seconds is not None else _grouped(span.size or 0)


SPAN: Final = Reader(_A_SPAN, _span, _typed_span, _span_text, _span_shown)

_AN_ONLY: Final = 'an array of networks or names, such as ["192.0.2.0/24", "*.example.org"]'


def _only(value: object) -> Only:
    if not isinstance(value, list):
        raise _wrong_type(value, _AN_ONLY)
    if not value:
        raise ValueError(f"[] is nobody; expected {_AN_ONLY}, or the key to be left out")
    networks: list[Network] = []
    names: list[str] = []
    for item in value:
        if not isinstance(item, str):
            raise _wrong_type(item, _AN_ONLY)
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
    Kind.SLICE: _sizes(1),
    Kind.CORRUPT: SHARE,
    Kind.STALL: FLAG,
    Kind.BLACKHOLE: FLAG,
    Kind.LIMIT: _sizes(),
    Kind.CLOSE: FLAG,
    Kind.HALF_CLOSE: FLAG,
    Kind.RESET: FLAG,
    Kind.REFUSE: FLAG,
    Kind.ACCEPT_DELAY: DURATION,
    Kind.SLOW_CLOSE: DURATION,
    Kind.LOSS: Reader(_A_LOSS, _loss, _typed_loss, _loss_text, _loss_shown),
    Kind.DUPLICATE: SHARE,
    Kind.REORDER: SHARE,
    Kind.DELAY: DURATION,
    Kind.TRUNCATE: _sizes(0, LONGEST_DATAGRAM),
    Kind.RATE: RATE,
    Kind.HANDSHAKE: _words(HANDSHAKES, _dashed),
    Kind.ALERT: _words(tuple(ALERTS), _underscored),
    Kind.END: _words(ENDS, _plus),
    Kind.FRAGMENT: _sizes(1, LONGEST_RECORD),
    Kind.EARLY_CLOSE: FLAG,
    Kind.KEY_UPDATE: _counts(MOST_MESSAGES),
}

#: How the options beside it are read.
OPTIONS: Final[Mapping[str, Reader]] = {
    "jitter": DURATION,
    "distribution": _words(DISTRIBUTIONS),
    "gap": DURATION,
    "direction": _words(DIRECTIONS, elsewhere={"downstream": "down", "upstream": "up"}),
    "chance": SHARE,
    "every": _counts(2**31 - 1),
    "once": BOOLEAN,
    "only": ONLY,
    "after": SPAN,
    "for": SPAN,
}
