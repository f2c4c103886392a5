"""Faults in words, and in tables: the same names and values everywhere.

A table is an entry in a configuration file: ``{ latency = "200ms", jitter = "50ms", chance = 0.1 }``.
Words are what a client, a command line and the log have: ``latency=200ms jitter=50ms chance=0.1``; a kind
begins a fault, options belong to the fault before them, and ``seed=7`` may stand anywhere. Both are read by
`suite.config.fault_values`; `words` and `parse` are each other's inverse.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from suite.config.fault_values import OPTIONS, VALUES, Only
from suite.config.faults import ALWAYS, DATAGRAMS, STREAMS, TLS_ONLY, TOO_EARLY, USAGE, Fault, Kind, Profile
from suite.config.profiles import PROFILES, faults_of
from suite.config.values import type_of
from suite.text import near, one_line, suggest

#: The kinds by name.
KINDS: Final = {kind.value: kind for kind in Kind}

#: The options that go with a profile.
PROFILE_OPTIONS: Final = ALWAYS | {"after", "for"}

#: What a kind is called where it cannot happen.
ELSEWHERE: Final = {
    Kind.LATENCY: Kind.DELAY,
    Kind.DELAY: Kind.LATENCY,
    Kind.BANDWIDTH: Kind.RATE,
    Kind.RATE: Kind.BANDWIDTH,
    Kind.LIMIT: Kind.TRUNCATE,
    Kind.TRUNCATE: Kind.LIMIT,
    Kind.BLACKHOLE: Kind.LOSS,
}

_SEED: Final = re.compile(r"[0-9]{1,19}")
#: A value and another word, with a comma between them.
_JOINED: Final = re.compile(r",[a-zA-Z_]+=")
A_SEED: Final = "a whole number, 0 or more"

#: Those that there are: as large as TOML's integers (TOML 1.0).
SEEDS: Final = range(2**63)

#: What keys of ours are called by toxiproxy (its README, "Toxics"), tc-netem(8) and Envoy (`FaultDelay`,
#: `FaultAbort`); what resembles another key would be taken for that.
CALLED_ELSEWHERE: Final = {
    "abort": "reset",
    "average_size": "slice",
    "bytes": "limit",
    "downstream": "direction",
    "drop": "loss",
    "gemodel": "loss",
    "limit_data": "limit",
    "percent": "chance",
    "percentage": "chance",
    "probability": "chance",
    "rate_limit": "bandwidth",
    "reset_peer": "reset",
    "slicer": "slice",
    "stream": "direction",
    "timeout": "blackhole",
    "toxicity": "chance",
    "upstream": "direction",
}

#: The fields of `Fault` that an option is kept in, where they are not called the same.
_FIELDS: Final = {"for": "lasts"}

#: Takes what is wrong: the key in the entry (empty: the entry as a whole), and the problem.
Note = Callable[[str, str], None]


# Tables.


def read_entry(
    entry: Mapping[str, Any], note: Note, profiles: Mapping[str, Profile] = PROFILES
) -> tuple[Fault, ...]:
    """The faults of one entry, in the values of TOML: one, or several of a profile.

    :param note: is told what is wrong; if anything is, there are none.
    """
    mistakes = 0

    def noted(key: str, problem: str) -> None:
        nonlocal mistakes
        mistakes += 1
        note(key, problem)

    kind = _kind_of(entry, noted)
    if kind is None:
        return ()
    known = PROFILE_OPTIONS if kind == "profile" else USAGE[KINDS[kind]].options | ALWAYS
    options: dict[str, Any] = {}
    value: Any = None
    for key, given in entry.items():
        if key != kind and key not in known:
            noted(key, f"does not go with {kind}; {_owners(key)}")
            continue
        try:
            if key != kind:
                options |= _as_fields(key, OPTIONS[key].read(given))
            else:
                value = _profile(given, profiles) if key == "profile" else VALUES[KINDS[key]].read(given)
        except ValueError as error:
            problem = str(error)
        else:
            continue
        noted(key, problem)
    lasts = options.get("lasts")
    if kind == Kind.STALL and lasts is not None and lasts.size is not None:
        noted("for", f"{entry['for']!r} never ends, since no byte passes meanwhile; expected a time")
    if mistakes:
        return ()
    if kind == "profile":
        return faults_of(value, profiles[value], **options)
    return (Fault(KINDS[kind], value, **options),)


def _kind_of(entry: Mapping[str, Any], note: Note) -> str | None:
    """The key that names the fault of *entry*; None if there is not exactly one, or a key is unknown."""
    unknown = [key for key in entry if key not in KINDS and key not in OPTIONS and key != "profile"]
    kinds = [key for key in entry if key in KINDS or key == "profile"]
    for key in unknown:
        known = {*KINDS, *OPTIONS, "profile"}
        note(key, f"unknown key{_meant(key, known)}")
    if not kinds and not unknown:
        note("", f"names no fault; expected one of {_listed(KINDS)}")
    elif len(kinds) > 1:
        note("", f"names {len(kinds)} faults, {' and '.join(kinds)}; expected an entry for each")
    return kinds[0] if len(kinds) == 1 and not unknown else None


def _meant(key: str, known: Iterable[str]) -> str:
    """What *key* was probably meant to be, or else the kinds."""
    if key in CALLED_ELSEWHERE:
        return f"; did you mean {CALLED_ELSEWHERE[key]}?"
    return near(key, known) or f"; expected one of {_listed(KINDS)}"


def _listed(words: Mapping[str, object]) -> str:
    return ", ".join(words)


def _owners(option: str) -> str:
    """Which kinds have *option*."""
    owners = [kind.value for kind in Kind if option in USAGE[kind].options]
    return f"only {_and(owners)} {'has' if len(owners) == 1 else 'have'} it"


def _and(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)


def _profile(value: object, profiles: Mapping[str, Profile]) -> str:
    """The name of a profile, however its letters are written."""
    if not isinstance(value, str):
        raise ValueError(f'{value!r} is {type_of(value)}; expected the name of a profile, such as "3g"')
    names = {name.lower(): name for name in profiles}
    if value not in profiles and value.lower() not in names:
        raise ValueError(f"{value!r} is not a profile{suggest(value, profiles)}")
    return value if value in profiles else names[value.lower()]


def _as_fields(option: str, value: Any) -> dict[str, Any]:
    """The fields of `Fault` in which *option* is kept."""
    if option == "only":
        networks, names = value
        return {"networks": networks, "names": names}
    return {_FIELDS.get(option, option): value}


def _of(fault: Fault, option: str) -> Any:
    """What *fault* has for *option*."""
    if option == "only":
        only: Only = (fault.networks, fault.names)
        return only
    return getattr(fault, _FIELDS.get(option, option))


# Where a fault can happen.


def misfit(fault: Fault, transports: frozenset[str], *, proxied: bool = False) -> tuple[str, str] | None:
    """What is wrong with *fault* on an endpoint: the key and the problem; None: nothing.

    :param transports: what the endpoint may speak; those who open its sockets may not have said which.
    :param proxied: whether clients are known by their PROXY header.
    """
    problem = kind_misfit(fault.kind, transports)
    if problem is not None:
        return fault.kind, problem
    if fault.direction != "down" and not transports & STREAMS:
        return "direction", f"does not go with UDP; {_owners('direction')}, on streams"
    if fault.names:
        if not transports & TLS_ONLY:
            return "only", f"{fault.names[0]!r} is a name, for which only TLS clients ask; expected networks"
        if fault.kind in TOO_EARLY:
            late = f"{fault.names[0]!r} is a name, which is known only after {fault.kind} strikes"
            return "only", f"{late}; expected networks"
    if fault.networks and transports == {"UNIX"} and not proxied:
        return "only", f"{fault.networks[0]} is a network, and clients of a UNIX socket are in none"
    return None


def kind_misfit(kind: Kind, transports: frozenset[str]) -> str | None:
    """Why *kind* cannot happen on any of *transports*; None: it can."""
    usage = USAGE[kind]
    if usage.transports & transports:
        return None
    other = ELSEWHERE.get(kind)
    if other is not None and USAGE[other].transports & transports:
        way_out = f"did you mean {other}?"
    else:
        places = {STREAMS: "streams have", DATAGRAMS: "UDP has", TLS_ONLY: "TLS has"}
        way_out = f"only {places[usage.transports]} it"
    return f"does not go with {' or '.join(sorted(transports))}; {way_out}"


# Words.


def parse(
    text: str, transport: str | None = None, profiles: Mapping[str, Profile] = PROFILES
) -> tuple[tuple[Fault, ...], int | None]:
    """The faults in *text*, and the seed, if it has one.

    :param transport: what they have to apply to; None: anything.
    :raises ValueError: they cannot be understood, or do not apply; the message is one line.
    """
    found: list[Fault] = []
    entries, seed = _entries(text)
    for entry in entries:
        for fault in read_entry(entry, _raise, profiles):
            problem = misfit(fault, frozenset({transport})) if transport is not None else None
            if problem is None:
                found.append(fault)
            elif not fault.profile:
                _raise(*problem)
    if not found:
        raise ValueError(f"no fault is named; expected one such as {_listed_examples()}")
    return tuple(found), seed


def _raise(key: str, problem: str) -> None:
    raise ValueError(one_line(f"{key}: {problem}" if key else problem))


def _listed_examples() -> str:
    return "latency=200ms or reset"


def _entries(text: str) -> tuple[list[dict[str, Any]], int | None]:
    """The entries in *text*, with values as in TOML; and the seed."""
    entries: list[dict[str, Any]] = []
    seed = None
    for word in text.replace(";", " ").split():
        name, equals, value = word.partition("=")
        key = name.lower()
        if key == "seed":
            if seed is not None:
                _raise(key, "is given twice; expected it once")
            if not _SEED.fullmatch(value) or int(value) not in SEEDS:
                _raise(key, f"{value!r} is not a seed; expected {A_SEED}")
            seed = int(value)
            continue
        if key in KINDS or key == "profile":
            entries.append({})
        elif key not in OPTIONS:
            known = {*KINDS, *OPTIONS, "profile", "seed"}
            _raise(name, f"is not a fault{_meant(key, known)}")
        elif not entries:
            _raise(key, "belongs to a fault; expected one before it, such as latency=200ms")
        elif key in entries[-1]:
            _raise(key, "is given twice for one fault; expected it once")
        if _JOINED.search(value):  # as toxiproxy-cli once took attributes (its issue 139)
            _raise(key, f"{value!r} has a comma before a key; expected a space there")
        entries[-1][key] = _typed(key, value) if equals else _bare(key)
    return entries, seed


def _typed(key: str, value: str) -> object:
    if key == "profile":
        return value
    reader = VALUES[KINDS[key]] if key in KINDS else OPTIONS[key]
    return reader.typed(value)


def _bare(key: str) -> object:
    """The value of a word that has none."""
    if key == "profile":
        _raise(key, "has no value; expected the name of one, such as profile=3g")
    reader = VALUES[KINDS[key]] if key in KINDS else OPTIONS[key]
    if not reader.expected.startswith("true"):
        _raise(key, f"has no value; expected {reader.expected}")
    return True


def words(fault: Fault) -> str:
    """*fault* in words that `parse` reads."""
    found = [
        fault.kind.value if fault.value is True else f"{fault.kind}={VALUES[fault.kind].text(fault.value)}"
    ]
    for option in _said(fault):
        value = OPTIONS[option].text(_of(fault, option))
        found += [option if option == "once" else f"{option}={value}"]
    return " ".join(found)


def _said(fault: Fault) -> list[str]:
    """The options of *fault* that are not as always."""
    plain = Fault(fault.kind)
    return [option for option in OPTIONS if _of(fault, option) != _of(plain, option)]


#: The kinds that happen at one point.
_POINTS: Final = {
    Kind.STALL,
    Kind.BLACKHOLE,
    Kind.CLOSE,
    Kind.HALF_CLOSE,
    Kind.RESET,
    Kind.KEY_UPDATE,
}


def shown(fault: Fault) -> str:
    """*fault* for people: ``latency 213 ms``, ``reset at 65,536``."""
    said = {option: OPTIONS[option].shown(_of(fault, option)) for option in _said(fault)}
    text = f"{fault.kind} {VALUES[fault.kind].shown(fault.value)}".rstrip()
    if "jitter" in said:
        text += f" ± {said['jitter']}"
        text += f" ({said['distribution']})" if "distribution" in said else ""
    if "gap" in said:
        text += f" every {said['gap']}"
    if fault.after is not None:
        timed = "after" if fault.kind in _POINTS else "from"
        placed = "at" if fault.kind in _POINTS else "from"
        text += f" {timed if fault.after.seconds is not None else placed} {said['after']}"
    if "for" in said:
        text += f" for {said['for']}"
    if "direction" in said:
        text += f" ({said['direction']})"
    for option in ("chance", "every", "only"):
        if option in said:
            text += f", {option} {said[option]}"
    return f"{text}, once" if fault.once else text


def placed(faults: tuple[Fault, ...], place: int) -> tuple[Fault, ...]:
    """*faults* as those of the entry *place*, from 1."""
    return tuple(replace(fault, place=place) for fault in faults)
