"""``python -m suite`` whose streams report on their TLS once they have shaken hands, and end."""

from __future__ import annotations

import json
import sys

from typing_extensions import override

from suite.__main__ import main
from suite.answers.tls_report import tls_report
from suite.echo import Echo, EchoFactory
from suite.reasons import Reason


class Reporting(Echo):
    wants_client_hello = True

    @override
    def handshakeCompleted(self) -> None:
        super().handshakeCompleted()
        transport = self.transport
        assert transport is not None
        transport.write(json.dumps(tls_report(transport)).encode())
        self.end(Reason.BYTES)


EchoFactory.protocol = Reporting

if __name__ == "__main__":
    sys.exit(main())
