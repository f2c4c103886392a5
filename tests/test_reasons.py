"""`suite.reasons`: the tables of reasons agree with each other."""

from __future__ import annotations

from suite.reasons import REFUSALS, Reason


def test_every_refusal_is_counted_as_one() -> None:
    """Those that say so, and PROXY, which may also come later."""
    said = {reason for reason in Reason if reason.meaning.startswith(("refused: ", "UDP, not answered: "))}
    assert said | {Reason.PROXY} == REFUSALS
