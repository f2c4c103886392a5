"""`suite.faults.draw`: the same numbers everywhere, and of the distributions that they are said to be of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.config.faults import DISTRIBUTIONS
from suite.faults.draw import LONGEST_TAIL, Draws


def test_it_is_splitmix64() -> None:
    """The first numbers of the state 1234567 are those that Rosetta Code has for it."""
    draws = Draws()
    draws._state = 1234567
    assert [draws.integer() for _ in range(5)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_the_first_numbers_of_a_key() -> None:
    """On every platform and version of Python: a recorded seed means the same next year."""
    draws = Draws(7, "connection", 1, 0)
    assert [draws.integer() for _ in range(4)] == [
        3390665804473020706,
        1585155923249940194,
        10379392547687800293,
        16016640859699309923,
    ]
    draws = Draws(7, "connection", 1, 0)
    assert [draws.fraction() for _ in range(2)] == [0.18380836156909797, 0.08593147478579244]


@pytest.mark.parametrize(
    ("distribution", "first"),
    [
        ("uniform", [0.22533514349392644, 0.23176143684530262, 0.21274778317759957]),
        ("normal", [0.25395461585342993, 0.1375502951518501, 0.14424798716805004]),
        ("pareto", [0.2506771024388678, 0.2670778379075385, 0.23192075445376026]),
    ],
)
def test_the_first_delays_of_a_key(distribution: str, first: list[float]) -> None:
    draws = Draws(7, "delay")
    assert [draws.around(0.2, 0.05, distribution) for _ in first] == first


@given(st.integers(), st.floats(0, 100), st.floats(0.001, 100), st.sampled_from(DISTRIBUTIONS))
def test_a_delay_is_in_its_range_and_the_same_for_the_same_key(
    seed: int, delay: float, jitter: float, distribution: str
) -> None:
    draws, again = Draws(seed, "x"), Draws(seed, "x")
    for _ in range(20):
        found = draws.around(delay, jitter, distribution)
        assert found == again.around(delay, jitter, distribution)
        assert found >= 0
        if distribution == "uniform":
            assert delay - jitter - 1e-9 <= found <= delay + jitter + 1e-9
        elif distribution == "normal":
            assert found <= delay + 6 * jitter + 1e-9
        else:
            assert delay <= found <= delay + LONGEST_TAIL * jitter + 1e-9


def test_chances_and_means_are_as_said() -> None:
    """Of 20,000, which are always the same ones."""
    draws = Draws("statistics")
    count = 20_000
    assert sum(draws.happens(0.1) for _ in range(count)) / count == pytest.approx(0.1, abs=0.01)
    assert not any(draws.happens(0.0) for _ in range(1000))
    assert all(draws.happens(1.0) for _ in range(1000))
    for distribution, mean in (("uniform", 10.0), ("normal", 10.0), ("pareto", 11.0)):
        drawn = [draws.around(10.0, 1.0, distribution) for _ in range(count)]
        assert sum(drawn) / count == pytest.approx(mean, abs=0.1), distribution
    assert Draws("x").around(3.0, 0.0, "pareto") == 3.0


def test_other_keys_draw_other_numbers() -> None:
    keys = [(seed, what, number) for seed in range(10) for what in ("a", "b") for number in range(10)]
    assert len({Draws(*key).integer() for key in keys}) == len(keys)
