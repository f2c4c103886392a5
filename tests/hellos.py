"""ClientHellos of real clients, recorded over loopback, and what others read in them.

`recorded_hellos.json` has for each the client and its version, its records in hexadecimal, what tshark 4.0.17
reads in them (`tests.tshark.FIELDS`), and the JA4 that FoxIO's own program computes from the same capture.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, NamedTuple

from tests.tshark import Reading


class RecordedHello(NamedTuple):
    client: str
    version: str
    records: bytes
    ja4: str
    tshark: Reading


def _recorded() -> tuple[RecordedHello, ...]:
    entries = json.loads(Path(__file__).with_name("recorded_hellos.json").read_text())
    return tuple(RecordedHello(**{**each, "records": bytes.fromhex(each["records"])}) for each in entries)


RECORDED: Final = _recorded()
