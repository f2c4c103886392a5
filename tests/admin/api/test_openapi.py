"""The OpenAPI document: it describes what there is, and nothing else."""

from __future__ import annotations

import re

from jsonschema import Draft202012Validator

from suite.admin.api.openapi import described_routes, document
from suite.admin.api.operations import OPERATIONS
from suite.admin.api.schemas import SCHEMAS
from suite.admin.routes import ROUTES
from tests.admin.api.asking_api import API
from tests.admin.asking_http import ask


def test_every_path_of_the_api_and_for_probes_is_described() -> None:
    for route in ROUTES:
        if route.path.startswith("/api/") or route.is_open or route.is_public:
            assert (route.method, route.path) in OPERATIONS, f"{route.method} {route.path} is not described"
    described = {(route.method, route.path) for route, _ in described_routes(ROUTES)}
    assert described == OPERATIONS.keys()


def test_every_schema_is_one_and_is_used() -> None:
    text = str(document(ROUTES))
    for name, schema in SCHEMAS.items():
        Draft202012Validator.check_schema(schema)
        assert f"#/components/schemas/{name}'" in text, name


def test_identities_are_unique() -> None:
    found = [
        operation["operationId"]
        for methods in document(ROUTES)["paths"].values()
        for operation in methods.values()
    ]
    assert len({*found}) == len(found)


def test_every_path_says_which_names_its_query_may_have(api: API) -> None:
    for path, methods in api.document["paths"].items():
        for method, operation in methods.items():
            if not path.startswith("/api/"):
                continue
            target = re.sub(r"\{number\}|\{id\}", "1", path.replace("{name}", "tcp"))
            answer = ask(api.unix, f"{target}?zzz=1", method.upper())
            assert answer.status == 400, target
            found = re.search(r"zzz: unknown name; expected (.*)", answer.json["detail"])
            assert found is not None
            known = [each["name"] for each in operation["parameters"] if each["in"] == "query"]
            assert found[1] == (" or ".join(sorted(known)) or "no query"), target
