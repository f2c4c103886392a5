"""A client of the API that holds each answer to the OpenAPI document, which it has from the suite itself."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any
from urllib.parse import quote

from jsonschema import Draft202012Validator

from tests.admin.asking_http import Answer, ask
from tests.running import RunningSuite, wait_until

TOKEN = "0123456789abcdef0123456789abcdef"

#: Endpoints of every kind, and an admin interface on both kinds of sockets.
CONFIG = """
[endpoints]
tcp = "tcp:0"
udp = "udp:0"
unix = "unix:echo.sock"
tls = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"
behind = "haproxy:tcp:0"
day = { listen = "tcp:0", answer = "daytime" }
faulty = { listen = "tcp:0", faults = [{ latency = "1ms" }] }
missing = { listen = "tcp:0:interface=203.0.113.1", optional = true }
[admin]
listen = ["tcp:0", "unix:admin.sock"]
token_file = "token"
"""

#: What such a suite has logged above the level info.
NOT_SERVED = "not served: endpoints.missing"


class API:
    """The API of *suite*, asked over its UNIX socket, or over TCP."""

    def __init__(self, suite: RunningSuite) -> None:
        self.suite = suite
        self.tcp, self.unix = suite.admin

    @cached_property
    def document(self) -> Any:
        return ask(self.unix, "/api/v1/openapi.json").json

    def __call__(self, method: str, path: str, body: object = None, **query: object) -> Any:
        """The document that answers well."""
        answer = self.answer(method, path, body, **query)
        assert answer.status < 300, answer.text
        return answer.json

    def problem(self, status: int, method: str, path: str, body: object = None, **query: object) -> Any:
        """The detail of the problem that answers."""
        answer = self.answer(method, path, body, **query)
        assert answer.status == status, answer.text
        detail = answer.json["detail"]
        assert "\n" not in detail
        return detail

    def answer(self, method: str, path: str, body: object = None, **query: object) -> Answer:
        """The answer, which is as described."""
        words = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in query.items())
        target = f"/api/v1/{path}" + (f"?{words}" if words else "")
        answer = ask(self.unix, target, method, body=body)
        self.check(answer, method, f"/api/v1/{path}")
        return answer

    def check(self, answer: Answer, method: str, path: str) -> None:
        """Check that *answer* is as the document says."""
        responses = self._described(method, path)["responses"]
        assert str(answer.status) in responses, (method, path, answer)
        kind = answer.headers["content-type"]
        content: Mapping[str, Any] = responses[str(answer.status)]["content"]
        assert kind in content
        if "json" in kind:
            schema = {**content[kind]["schema"], "components": self.document["components"]}
            Draft202012Validator(schema).validate(answer.json)

    def _described(self, method: str, path: str) -> Any:
        parts = path.split("/")
        for described, methods in self.document["paths"].items():
            others = described.split("/")
            if len(parts) == len(others) and all(
                one == other or "{" in other for one, other in zip(parts, others, strict=True)
            ):
                return methods[method.lower()]
        raise AssertionError(f"{path} is not described")

    def connections(self, endpoint: str) -> Any:
        """The open connections of *endpoint*."""
        return self("GET", "connections", endpoint=endpoint)["connections"]

    def wait_for(self, endpoint: str, count: int) -> Any:
        """The open connections of *endpoint*, once there are *count*."""
        wait_until(lambda: len(self.connections(endpoint)) == count, f"{endpoint} has {count} connections")
        return self.connections(endpoint)
