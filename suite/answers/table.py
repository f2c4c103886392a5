"""Every answer by its name.

To add one: a file beside this, which ends with its `ANSWER`; its module in `ANSWERS`; a test beside those of
the others. Those in `tests/answers/test_rules.py` hold for it at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from suite.answers import discard
from suite.answers.answer import Answer
from suite.echo import Echo, EchoDatagram

#: The default.
ECHO: Final = Answer("echo", "every byte comes back (RFC 862)", Echo, EchoDatagram)

#: In the order in which people read of them.
ANSWERS: Final[Mapping[str, Answer]] = MappingProxyType(
    {answer.name: answer for answer in (ECHO, *(module.ANSWER for module in (discard,)))}
)
