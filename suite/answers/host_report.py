"""What a report says about who answers: the host, and in Kubernetes the pod.

Kubernetes' downward API puts the latter into environment variables, which a deployment names; these are the
names that gateway-api's ``echo-basic`` uses, and ``NODE_NAME`` beside them.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Final

#: The environment variable of each member.
VARIABLES: Final = {
    "pod": "POD_NAME",
    "namespace": "NAMESPACE",
    "node": "NODE_NAME",
    "service": "SERVICE_NAME",
    "ingress": "INGRESS_NAME",
}


def host_report(environ: Mapping[str, str] = os.environ) -> dict[str, object]:
    """Who answers: its host name, and what *environ* says; variables that are not set are left out."""
    set_ones = {member: environ[name] for member, name in VARIABLES.items() if environ.get(name)}
    return {"name": socket.gethostname(), **set_ones}
