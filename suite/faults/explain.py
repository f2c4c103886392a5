"""Who gets which faults, before anybody has: what `suite.faults.decide` will decide.

Rule: asked of the same code that serving asks, so that it is what happens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from suite.config.faults import Fault, Faults, Kind
from suite.faults.decide import Decider, Decision


def connections(faults: Faults, count: int, host: str | None, name: str | None) -> list[Decision]:
    """What the first *count* connections get, if they come from *host* and ask for *name*.

    :param host: the address of the client; None: it has none.
    :param name: the name that a TLS client asks for; None: it asks for none.
    """
    decider = Decider(faults)
    found = []
    for number in range(1, count + 1):
        decision = decider.connection(number, host)
        if name is not None:
            decision += decider.named(number, name, host)
        found.append(decision)
    return found


def totals(struck: Iterable[Iterable[Fault]]) -> dict[str, int]:
    """How many get each kind of fault, in the order of the kinds."""
    counted = Counter(kind for faults in struck for kind in {fault.kind for fault in faults})
    return {kind.value: counted[kind] for kind in Kind if kind in counted}


def unreached(faults: Faults, struck: Sequence[Decision]) -> list[Fault]:
    """The conditional faults that strike none of *struck*: another host or name might get them."""
    kinds = {fault.kind for decision in struck for fault in decision.faults}
    return [fault for fault in faults.entries if fault.conditional and fault.kind not in kinds]
