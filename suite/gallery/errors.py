"""What the stacks say of each specimen: specimen → stack → its error, as it was measured.

A stack is absent where it accepts the specimen, or where nobody has measured it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

ERRORS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType({})
