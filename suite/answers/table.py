"""Every answer by its name.

To add one: a file beside this, which ends with its `ANSWER`; a line in `ANSWERS`; a test beside those of
the others. Those in `tests/answers/test_rules.py` hold for it at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from suite.answers import chargen, daytime, discard, qotd, report, seconds
from suite.answers.answer import Answer
from suite.echo import Echo, EchoDatagram

#: The default.
ECHO: Final = Answer("echo", "every byte comes back (RFC 862)", Echo, EchoDatagram)

#: In the order in which people read of them.
ANSWERS: Final[Mapping[str, Answer]] = MappingProxyType(
    {
        answer.name: answer
        for answer in (
            ECHO,
            report.ANSWER,
            discard.ANSWER,
            chargen.ANSWER,
            daytime.ANSWER,
            seconds.ANSWER,
            qotd.ANSWER,
        )
    }
)
