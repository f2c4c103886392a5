"""What handlers answer with."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from suite.admin.exchange import Response, as_json, as_json_in_turns
from suite.server.pauses import Turns
from tests.admin.metrics.test_exposition import SlowClock

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def written(document: dict[str, Any], clock: Clock) -> Response:
    """*document*, once it has been written."""
    found: list[Response] = []
    Deferred.fromCoroutine(as_json_in_turns(document, Turns(clock))).addCallback(found.append)
    while clock.getDelayedCalls():
        clock.advance(0)
    [response] = found
    return response


@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_in_turns_it_is_the_same_text(document: dict[str, Any]) -> None:
    assert written(document, Clock()) == as_json(document)


@pytest.mark.parametrize("entries", [[*range(100)], {str(number): number for number in range(100)}])
def test_a_long_list_lets_others_have_their_turn(entries: Any) -> None:
    clock = SlowClock()
    document = {"entries": entries, "next": None}
    assert written(document, clock) == as_json(document)
    assert clock.turns >= 10
