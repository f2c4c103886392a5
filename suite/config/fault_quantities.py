"""The quantities of faults: durations, sizes, rates, shares, losses, counts and spans.

Rules: those of `suite.config.fault_values`; a quantity is read and written exactly.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from suite.config.faults import Bursts, Span
from suite.config.values import type_of
from suite.text import SIZES, UNITS, suggest

_DURATION: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h|d)")
_SIZE: Final = re.compile(r"([0-9]{1,15})(B|KiB|MiB|GiB|TiB)")
#: A size in the units of other programs.
_OTHER_SIZE: Final = re.compile(r"([0-9]{1,15}) ?(?:([kmgt])?i?b?)", re.IGNORECASE)
_BITS: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(bit|kbit|mbit|gbit)", re.IGNORECASE)
_WHOLE: Final = re.compile(r"[0-9]{1,18}")
_DECIMAL: Final = re.compile(r"(?=[0-9.]{1,30}(?:[eE]|$))(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE]-?[0-9]{1,3})?")

#: Bits a second in the units of ``tc`` (tc(8), "PARAMETERS": powers of 1,000).
BITS: Final = {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9}

#: The longest duration, in seconds: a year. It is read and written exactly, to the nanosecond.
LONGEST: Final = 365 * 86_400.0
DIGITS: Final = 9

#: The largest size, in bytes, and the fastest rate, in bytes a second: words can hold them exactly.
MOST_BYTES: Final = 2**49


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


def wrong_type(value: object, expected: str, hint: str = "") -> ValueError:
    """The error that says that *value* is of a type that cannot be used, and what was *expected*."""
    return ValueError(f"{value!r} is {type_of(value)}; expected {expected}{hint}")


# Durations.

_A_DURATION: Final = 'a duration such as "200ms" or "2s"'


def _duration(value: object) -> float:
    """Seconds, to the nanosecond."""
    if not isinstance(value, str):
        whole = isinstance(value, int) and not isinstance(value, bool)
        raise wrong_type(value, _A_DURATION, f'; did you mean "{value}ms"?' if whole else "")
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
        raise wrong_type(value, _A_SIZE, f'; did you mean "{value}B"?' if whole else "")
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


def sizes(lowest: int = 0, highest: int = MOST_BYTES) -> Reader:
    """Sizes in bytes, from *lowest* to *highest*."""
    return Reader(_A_SIZE, lambda value: _size(value, lowest, highest), _typed_size, _size_text, _grouped)


_A_RATE: Final = 'a number of bytes or bits a second, such as "10KiB" or "8Mbit"'


def _rate(value: object) -> int:
    """Bytes a second."""
    if not isinstance(value, str):
        raise wrong_type(value, _A_RATE)
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
        raise wrong_type(value, _A_SHARE)
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


def counts(highest: int) -> Reader:
    """Whole numbers from 1 to *highest*."""
    expected = f"a whole number from 1 to {highest}"

    def read(value: object) -> int:
        if isinstance(value, str):
            raise ValueError(f"{value!r} is not a whole number; expected {expected}")
        if not isinstance(value, int) or isinstance(value, bool):
            raise wrong_type(value, expected)
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


LOSS: Final = Reader(_A_LOSS, _loss, _typed_loss, _loss_text, _loss_shown)


# A size or a time.

_A_SPAN: Final = 'a size or a time, such as "64KiB" or "2s"'


def _span(value: object) -> Span:
    if not isinstance(value, str):
        whole = isinstance(value, int) and not isinstance(value, bool)
        raise wrong_type(value, _A_SPAN, f'; did you mean "{value}B"?' if whole else "")
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
