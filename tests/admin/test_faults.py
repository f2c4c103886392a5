"""`suite.admin.control` and `suite.admin.faults` in memory: requests, answers, and what is in force."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher

from suite.admin.control import Control
from suite.admin.conversation import answer_to
from suite.admin.faults import MOST_FAULTS, FaultRequests
from suite.config.fault_text import words
from suite.config.faults import Fault, Faults, Kind, Replay
from suite.server.pauses import SLICE, Turns
from suite.server.plan import Plan
from suite.server.service import EchoSuite
from tests.helpers import SuiteReactor, write_config

CONFIG = """
[endpoints]
clean = "tcp:0"
udp = "udp:0"

[endpoints.flaky]
listen = "tcp:0"
seed = 7
faults = [
  { latency = "200ms", jitter = "50ms" },
  { reset = true, after = "64KiB", chance = 0.1 },
]
"""


class Asked:
    """A suite in memory that is asked, and what it has logged since."""

    def __init__(self, directory: Path, config: str = CONFIG) -> None:
        plan = Plan(write_config(directory, config), mint=False)
        self.suite = EchoSuite(SuiteReactor(), plan, lambda _: None)
        self.suite.startService()
        self.faults_of_all = FaultRequests(self.suite)
        self.control = Control(self.suite, self.faults_of_all)
        self.said: list[str] = []

    def __call__(self, do: str, **request: object) -> dict[str, Any]:
        return answer_to({"do": do, **request}, self.control.answer)

    def ids(self, endpoint: str = "flaky") -> list[int]:
        """The ids of the faults of *endpoint*."""
        listed = self("list", endpoint=endpoint)["endpoints"][endpoint]["faults"]
        return [fault["id"] for fault in listed]

    def in_force(self, endpoint: str = "flaky") -> str:
        """What the next connection is subject to."""
        return "; ".join(map(words, self.faults(endpoint).entries))

    def faults(self, endpoint: str = "flaky") -> Faults:
        return self.suite.endpoints[endpoint].decider.faults


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Asked]:
    asked = Asked(tmp_path)

    def note(event: LogEvent) -> None:
        if "faults changed" in str(event.get("log_format")):
            where = event["endpoint"] or "all"
            asked.said.append(f"{where}: {event['log_format'].format(**event)}")

    globalLogPublisher.addObserver(note)  # type: ignore[arg-type]  # any callable will do
    yield asked
    globalLogPublisher.removeObserver(note)  # type: ignore[arg-type]
    asked.suite.stopService()


def test_list_says_what_is_in_force(asked: Asked) -> None:
    assert asked("list") == {
        "ok": True,
        "endpoints": {
            "flaky": {
                "transport": "TCP",
                "requested": False,
                "seed": 7,
                "faults": [
                    {"id": 1, "fault": "latency=200ms jitter=50ms"},
                    {"id": 2, "fault": "reset chance=0.1 after=64KiB"},
                ],
            }
        },
    }


def test_list_of_one_endpoint_says_also_that_it_has_none(asked: Asked) -> None:
    found = {"transport": "UDP", "requested": False, "seed": 0, "faults": []}
    assert asked("list", endpoint="udp") == {"ok": True, "endpoints": {"udp": found}}


def test_add_takes_tables_as_the_configuration_does(asked: Asked) -> None:
    answer = asked("add", endpoint="clean", faults=[{"bandwidth": "8Mbit"}, {"close": True, "after": "2s"}])
    assert answer["ids"] == [1, 2]
    assert asked.in_force("clean") == "bandwidth=1000000B; close after=2s"
    assert [*answer["endpoints"]] == ["clean"]
    assert asked.said == [
        "clean: faults changed over the control socket: added 1: bandwidth=1000000B, 2: close after=2s"
    ]


def test_add_takes_words_as_the_command_line_does(asked: Asked) -> None:
    answer = asked("add", endpoint="clean", faults=["latency=1s reset once seed=9", "slice=1B"])
    assert answer["ids"] == [1, 2, 3]
    assert asked.in_force("clean") == "latency=1s; reset once; slice=1B"
    assert asked.faults("clean").seed == 9
    assert asked.said[0].endswith("3: slice=1B, seed=9")


def test_add_adds_to_what_is_there(asked: Asked) -> None:
    asked("add", endpoint="flaky", faults=["slice=1B"])
    assert asked.in_force().endswith("after=64KiB; slice=1B")
    assert asked.faults().seed == 7


def test_a_seed_is_that_of_the_endpoint(asked: Asked) -> None:
    asked("add", endpoint="flaky", faults=["slice=1B"], seed=8)
    assert asked.faults().seed == 8


def test_remove_leaves_the_others_their_ids(asked: Asked) -> None:
    asked("add", endpoint="flaky", faults=["slice=1B", "stall"])
    asked("remove", endpoint="flaky", ids=[1, 3])
    assert asked.ids() == [2, 4]
    assert asked.in_force() == "reset chance=0.1 after=64KiB; stall"
    assert asked.said[-1] == (
        "flaky: faults changed over the control socket: removed 1: latency=200ms jitter=50ms, 3: slice=1B"
    )


def test_an_id_is_never_used_again(asked: Asked) -> None:
    asked("add", endpoint="clean", faults=["stall"])
    asked("clear")
    assert asked("add", endpoint="flaky", faults=["stall"])["ids"] == [4]


def test_clear_of_one_endpoint_leaves_the_others(asked: Asked) -> None:
    asked("add", endpoint="clean", faults=["stall"])
    answer = asked("clear", endpoint="flaky")
    assert answer["endpoints"]["flaky"]["faults"] == []
    assert asked.in_force() == ""
    assert asked.in_force("clean") == "stall"
    assert asked.said[-1] == "flaky: faults changed over the control socket: cleared"


def test_clear_clears_all_and_logs_what_has_changed(asked: Asked) -> None:
    asked("add", endpoint="udp", faults=["loss=0.5"])
    assert asked("clear") == {"ok": True, "endpoints": {}}
    assert not asked.faults()
    assert not asked.faults("udp")
    assert asked.said[1:] == ["all: faults changed over the control socket: cleared of udp, flaky"]


def test_all_are_cleared_in_turns_but_for_those_that_are_closed_meanwhile(asked: Asked) -> None:
    asked("add", endpoint="udp", faults=["loss=0.5"])
    clock = Clock()
    turns = Turns(clock)
    clock.advance(2 * SLICE)  # the next turn is due at once
    clearing = Deferred.fromCoroutine(asked.faults_of_all.clear_all("HTTP", turns))
    closed = asked.suite.endpoints.pop("udp")
    assert asked.faults()
    while clock.getDelayedCalls():
        clock.advance(0)
    assert clearing.called
    assert not asked.faults()
    assert closed.decider.faults
    assert asked.said[1:] == ["all: faults changed over HTTP: cleared of flaky"]
    asked.suite.endpoints["udp"] = closed


def test_a_second_clear_changes_nothing(asked: Asked) -> None:
    asked("clear")
    before = asked.faults()
    assert asked("clear")["ok"] is True
    assert asked.faults() is before


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({}, "do: missing; expected add or clear or list or remove"),
        ({"do": "lst"}, "do: 'lst' is not a request; did you mean list?"),
        ({"do": ["list"]}, "do: ['list'] is not a request; did you mean list?"),
        ({"do": "list", "endpont": "flaky"}, "endpont: unknown key; did you mean endpoint?"),
        ({"do": "list", "a\nb": 1}, r"a\nb: unknown key; expected endpoint"),
        ({"do": "list", "endpoint": "flakey"}, "endpoint: 'flakey' is not an endpoint; did you mean flaky?"),
        ({"do": "list", "endpoint": 7}, "endpoint: 7 is not a string; expected the name of an endpoint"),
        ({"do": "list", "endpoint": None}, "endpoint: None is not a string; expected"),
        ({"do": "add", "faults": ["stall"]}, "endpoint: missing; expected the name of an endpoint"),
        ({"do": "add", "endpoint": "flaky"}, "faults: missing; expected an array of faults, such as"),
        ({"do": "add", "endpoint": "flaky", "faults": []}, "faults: [] cannot be used; expected an array"),
        (
            {"do": "add", "endpoint": "flaky", "faults": "stall"},
            "faults: 'stall' cannot be used; expected an",
        ),
        ({"do": "add", "endpoint": "flaky", "faults": [7]}, "faults[1]: 7 is not a fault; expected an array"),
        ({"do": "add", "endpoint": "flaky", "faults": ["latncy=1s"]}, "latncy: is not a fault; did you mean"),
        (
            {"do": "add", "endpoint": "flaky", "faults": [{"latency": "200"}]},
            "faults[1].latency: '200' is not a duration; expected a duration such as \"200ms\"",
        ),
        (
            {"do": "add", "endpoint": "flaky", "faults": [{"latency": None}]},
            "faults[1].latency: null cannot be used; expected a value, or no such key",
        ),
        (
            {"do": "add", "endpoint": "flaky", "faults": [{"loss": 0.5}]},
            "faults[1].loss: does not go with TCP; only UDP has it",
        ),
        (
            {"do": "add", "endpoint": "udp", "faults": ["reset"]},
            "reset: does not go with UDP; only streams have it",
        ),
        ({"do": "add", "endpoint": "flaky", "faults": ["stall"], "seed": -1}, "seed: -1 cannot be used; "),
        (
            {"do": "add", "endpoint": "flaky", "faults": ["stall"], "seed": True},
            "seed: True cannot be used; ",
        ),
        ({"do": "add", "endpoint": "flaky", "faults": ["stall"], "seed": "7"}, "seed: '7' cannot be used; "),
        (
            {"do": "add", "endpoint": "flaky", "faults": ["stall"] * MOST_FAULTS},
            "faults: flaky would have 102; expected 100 at the most",
        ),
        ({"do": "remove", "endpoint": "flaky"}, "ids: missing; expected an array of ids, such as [3]"),
        ({"do": "remove", "endpoint": "flaky", "ids": 1}, "ids: 1 cannot be used; expected an array of ids"),
        ({"do": "remove", "endpoint": "flaky", "ids": [True]}, "ids: [True] cannot be used; expected"),
        (
            {"do": "remove", "endpoint": "flaky", "ids": [1, 9]},
            "ids: 9 is not a fault of flaky; expected 1 or 2",
        ),
        ({"do": "remove", "endpoint": "clean", "ids": [1]}, "ids: 1 is not a fault of clean; it has none"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_changes(
    asked: Asked, request_: dict[str, object], error: str
) -> None:
    asked("list")
    before = {name: asked.faults(name) for name in asked.suite.endpoints}
    answer = answer_to(request_, asked.control.answer)
    assert answer["ok"] is False
    assert answer["kind"] == "request"
    assert answer["error"].startswith(error)
    assert answer["error"].isprintable()
    assert all(asked.faults(name) is faults for name, faults in before.items())
    assert asked.said == []
    assert asked.ids() == [1, 2]


def test_of_several_faults_one_that_is_wrong_stops_all(asked: Asked) -> None:
    answer = asked("add", endpoint="clean", faults=[{"stall": True}, {"loss": 0.5}], seed=9)
    assert answer["error"].startswith("faults[2].loss: does not go with TCP")
    assert asked.faults("clean") == Faults()


def test_what_a_log_has_recorded_is_not_changed(asked: Asked) -> None:
    asked.suite.endpoints["udp"].decider.faults = Faults(replayed=Replay({}, {}))
    for request in (
        {"do": "add", "endpoint": "udp", "faults": ["loss=0.5"]},
        {"do": "clear", "endpoint": "udp"},
        {"do": "clear"},
    ):
        answer = answer_to(request, asked.control.answer)
        assert answer["error"] == "the faults of a log are replayed here; expected a suite without --replay"
    assert asked.ids() == [1, 2], "of none, if not of all"


def test_an_error_names_no_thousands_of_endpoints(tmp_path: Path) -> None:
    many = Asked(tmp_path, "[endpoints]\n" + "".join(f'e{number} = "tcp:0"\n' for number in range(40)))
    assert many("list", endpoint="e399")["error"].startswith(
        "endpoint: 'e399' is not an endpoint; did you mean"
    )
    assert many("list", endpoint="x")["error"] == "endpoint: 'x' is not an endpoint"
    many.suite.stopService()


def test_faults_that_look_the_same_are_removed_one_by_one(asked: Asked) -> None:
    asked("add", endpoint="clean", faults=["stall"])
    asked("add", endpoint="clean", faults=["stall"])
    asked("remove", endpoint="clean", ids=[1])
    assert asked.ids("clean") == [2]
    assert asked.in_force("clean") == "stall"


def test_once_is_once_for_each_that_is_added(asked: Asked) -> None:
    """The same fault added again strikes again, and one that is already there does not."""
    decider = asked.suite.endpoints["clean"].decider
    asked("add", endpoint="clean", faults=["reset once"])
    assert [bool(decider.connection(number)) for number in (1, 2)] == [True, False]
    asked("add", endpoint="clean", faults=["reset once"])
    assert [bool(decider.connection(number)) for number in (3, 4)] == [True, False]
    asked("clear")
    asked("add", endpoint="clean", faults=["reset once"])
    assert [bool(decider.connection(number)) for number in (5, 6)] == [True, False]


def test_what_strikes_once_strikes_the_same_connection_when_it_is_decided_about_again(asked: Asked) -> None:
    """As a change of faults does with connections that are open, if it is to be live."""
    decider = asked.suite.endpoints["clean"].decider
    asked("add", endpoint="clean", faults=["stall once"])
    assert decider.connection(1)
    assert not decider.connection(2)
    asked("add", endpoint="clean", faults=["reset once after=1MiB"])
    assert [fault.kind for fault in decider.connection(1).faults] == [Kind.STALL, Kind.RESET]
    assert not decider.connection(2)


def test_faults_of_the_code_s_own_making_can_be_shown(asked: Asked) -> None:
    asked.suite.endpoints["clean"].decider.faults = Faults((Fault(Kind.STALL),), seed=3)
    assert asked("list")["endpoints"]["clean"]["faults"] == [{"id": 1, "fault": "stall"}]
