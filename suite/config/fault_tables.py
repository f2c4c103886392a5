"""The parts of a configuration file that are about faults: entries, profiles, and what clients may ask for.

Rule: a mistake names the entry by its number, counted from 1, and the key in it: ``faults[2].jitter``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from suite.config.fault_quantities import RATE, SHARE, Reader
from suite.config.fault_text import A_SEED, KINDS, SEEDS, placed, read_entry
from suite.config.fault_values import OPTIONS
from suite.config.faults import TOO_EARLY, Fault, Faults, Kind, Profile
from suite.config.profiles import PROFILES
from suite.config.values import NAME, Values, dotted
from suite.text import near, suggest

#: The keys of an endpoint that are about faults.
ENDPOINT_KEYS: Final = ("allow_faults", "faults", "faulty_connections", "seed")

#: What stands for the faults of an endpoint whose clients choose them.
REQUESTED: Final = "requested"

_FAULTS: Final = 'an array of faults, such as [{ latency = "200ms" }], or "requested"'
_KINDS: Final = 'an array of kinds of faults, such as ["latency"]'

#: How each key of a profile is read.
PROFILE_READERS: Final[Mapping[str, Reader]] = {
    "latency": OPTIONS["jitter"],
    "jitter": OPTIONS["jitter"],
    "down": RATE,
    "up": RATE,
    "loss": SHARE,
}


def read_seed(values: Values, value: object, key: str) -> int:
    """What decisions follow from."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise values.wrong_type(key, value, A_SEED)
    if value not in SEEDS:
        raise values.error(key, f"{value} is out of range; expected {A_SEED}")
    return value


def read_live(values: Values, value: object) -> bool:
    """The table ``[faults]``: whether a change concerns the connections that are there."""
    if isinstance(value, list):
        raise values.error(
            "faults", "is an array; expected it in the table of an endpoint, such as [endpoints.flaky]"
        )
    table = values.table(value, "faults", ("live",))
    return values.boolean(table.get("live", False), "faults.live")


def read_profiles(values: Values, value: object) -> Mapping[str, Profile]:
    """The profiles that there are with those of the table ``[profiles]``."""
    if not isinstance(value, dict):
        raise values.wrong_type("profiles", value, "a table of profiles, such as [profiles.office]")
    profiles = dict(PROFILES)
    for name, table in value.items():
        with values.mistakes.noted():
            profiles[name] = _read_profile(values, table, dotted("profiles", name), name)
    return profiles


def _read_profile(values: Values, value: object, key: str, name: str) -> Profile:
    if not NAME.fullmatch(name):
        raise values.error(
            "profiles", f"{name!r} cannot name a profile; expected 1 to 64 letters, digits, '-' or '_'"
        )
    table = values.table(value, key, PROFILE_READERS)
    if not value and name not in PROFILES:
        raise values.error(key, f"is empty; expected {' or '.join(PROFILE_READERS)}")
    readers = {each: partial(_read, values, reader) for each, reader in PROFILE_READERS.items()}
    return replace(PROFILES.get(name, Profile()), **values.values(table, key, readers))


def _read(values: Values, reader: Reader, value: object, key: str) -> Any:
    try:
        return reader.read(value)
    except ValueError as error:
        raise values.error(key, str(error)) from None


def read_faults(
    values: Values, table: Mapping[str, Any], key: str, seed: int, profiles: Mapping[str, Profile]
) -> Faults:
    """How the endpoint misbehaves that *table* declares.

    :param key: the key of the endpoint.
    :param seed: the seed of endpoints that have none.
    :param profiles: the profiles that an entry may name.
    """
    faults = Faults(seed=seed)
    with values.mistakes.noted():
        if "seed" in table:
            faults = replace(faults, seed=read_seed(values, table["seed"], f"{key}.seed"))
    declared = table.get("faults", [])
    requested = isinstance(declared, str)
    with values.mistakes.noted():
        if requested and declared != REQUESTED:
            hint = near(declared, [REQUESTED]) or f"; expected {_FAULTS}"
            raise values.error(f"{key}.faults", f"{declared!r} is unknown{hint}")
        if not requested:
            faults = replace(faults, entries=_entries(values, declared, f"{key}.faults", profiles))
    if requested:
        faults = replace(faults, requested=True, profiles=profiles)
    for option in ("allow_faults", "faulty_connections"):
        with values.mistakes.noted():
            if option in table and not requested:
                raise values.error(
                    f"{key}.{option}", 'does nothing without faults = "requested"; expected both'
                )
    with values.mistakes.noted():
        if "allow_faults" in table:
            allowed = _allowed(values, table["allow_faults"], f"{key}.allow_faults")
            faults = replace(faults, allowed=allowed)
    with values.mistakes.noted():
        if "faulty_connections" in table:
            most = values.count(table["faulty_connections"], f"{key}.faulty_connections")
            faults = replace(faults, most=most)
    return faults


def _entries(values: Values, value: object, key: str, profiles: Mapping[str, Profile]) -> tuple[Fault, ...]:
    if isinstance(value, dict):
        raise values.error(key, f"is one table; expected {_FAULTS}")
    if not isinstance(value, list):
        raise values.wrong_type(key, value, _FAULTS)
    found: list[Fault] = []
    for number, entry in enumerate(value, start=1):
        where = f"{key}[{number}]"
        with values.mistakes.noted():
            if not isinstance(entry, dict):
                raise values.wrong_type(where, entry, 'a table, such as { latency = "200ms" }')
            found += placed(read_entry(entry, partial(_note, values, where), profiles), number)
    return tuple(found)


def _note(values: Values, where: str, key: str, problem: str) -> None:
    values.mistakes.note(values.error(dotted(where, key) if key else where, problem))


def _allowed(values: Values, value: object, key: str) -> frozenset[Kind]:
    if not isinstance(value, list):
        raise values.wrong_type(key, value, _KINDS)
    if not value:
        raise values.error(key, f"allows nothing; expected {_KINDS}, or the key to be left out")
    return frozenset(values.each(value, key, partial(_kind, values)))


def _kind(values: Values, name: object, key: str) -> Kind:
    if not isinstance(name, str):
        raise values.wrong_type(key, name, _KINDS)
    if name not in KINDS:
        raise values.error(key, f"{name!r} is not a fault{suggest(name, KINDS)}")
    if KINDS[name] in TOO_EARLY:
        raise values.error(key, f"{name} strikes before a client can ask for it; expected other kinds")
    return KINDS[name]
