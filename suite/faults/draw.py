"""Numbers that look random and follow from a seed, the same on every platform and version of Python.

The generator is SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA
2014). Its first state is the beginning of the SHA-256 of a key in text, so that what is drawn for one purpose
does not depend on how often something was drawn for another. Only integers, and operations that IEEE 754
rounds correctly, are used: no ``pow``, no ``log``.
"""

from __future__ import annotations

from hashlib import sha256
from math import sqrt
from typing import Final

_MASK: Final = 2**64 - 1

#: The odd number nearest to 2**64 divided by the golden ratio.
_GAMMA: Final = 0x9E3779B97F4A7C15

#: The longest delay of the pareto distribution, in jitters above the shortest: its mean is 1, and without a
#: limit its tail would never end.
LONGEST_TAIL: Final = 20.0


def _mixed(state: int) -> int:
    """*state* with its bits mixed (variant 13 of Stafford's)."""
    state = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    state = ((state ^ state >> 27) * 0x94D049BB133111EB) & _MASK
    return state ^ state >> 31


class Draws:
    """A sequence of numbers.

    :param key: what they are for; the same key draws the same numbers.
    """

    __slots__ = ("_state",)

    def __init__(self, *key: object) -> None:
        self._state = int.from_bytes(sha256("/".join(map(str, key)).encode()).digest()[:8], "big")

    def integer(self) -> int:
        """A whole number of 64 bits."""
        self._state = (self._state + _GAMMA) & _MASK
        return _mixed(self._state)

    def split(self, number: int) -> Draws:
        """A sequence of its own for each *number*, found without drawing those before it.

        The number that would be drawn then is its first state. Without a digest, it costs little more than
        that.
        """
        found = Draws.__new__(Draws)
        found._state = _mixed((self._state + number * _GAMMA) & _MASK)  # noqa: SLF001  # of this class
        return found

    def _numerator(self) -> int:
        """That of a fraction with the denominator 2**53: as many bits as a float has."""
        return self.integer() >> 11

    def fraction(self) -> float:
        """A number from 0 to below 1."""
        return self._numerator() * 2.0**-53

    def happens(self, chance: float) -> bool:
        """Whether something with this *chance* happens; a number is drawn in any case."""
        return self.fraction() < chance

    def around(self, delay: float, jitter: float, distribution: str) -> float:
        """*delay*, varied by *jitter*: seconds, never below 0.

        ``uniform``: from ``delay - jitter`` to ``delay + jitter``. ``normal``: with *jitter* as the standard
        deviation (a sum of twelve uniform numbers, Irwin-Hall). ``pareto``: from *delay* up, by *jitter* on
        average, with the long tail of a Lomax distribution of shape 2, up to `LONGEST_TAIL` jitters.
        """
        if not jitter:
            return delay
        if distribution == "normal":
            # Of integers: a sum of floats is another one since Python 3.12, which compensates for rounding.
            offset = sum(self._numerator() for _ in range(12)) * 2.0**-53 - 6.0
        elif distribution == "pareto":
            offset = min(LONGEST_TAIL, 1.0 / sqrt(1.0 - self.fraction()) - 1.0)
        else:
            offset = 2.0 * self.fraction() - 1.0
        return max(0.0, delay + jitter * offset)
