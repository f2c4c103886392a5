"""docs/api.md says which paths there are, and what is in its tables."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from suite.admin.api.asked import FEW, MOST
from suite.admin.api.openapi import described_routes, document
from suite.admin.api.watching import COMMENT_INTERVAL, MOST_STREAMS, PATIENCE, RETRY_AFTER
from suite.admin.events import KEPT, LEVELS, MOST_WAITING
from suite.admin.health import MOST_REASONS
from suite.admin.http import LONGEST_BODY
from suite.admin.routes import ROUTES
from tests.docs.test_docs import rows
from tests.helpers import ROOT

PAGE = (ROOT / "docs/api.md").read_text()

DOCUMENT = document(ROUTES)


def test_the_page_has_every_path_and_no_other() -> None:
    said = [
        (method, path.strip("`"))
        for methods, path, _ in rows(PAGE, "method")
        for method in methods.split(", ")
    ]
    assert sorted(said) == sorted((route.method, route.path) for route, _ in described_routes(ROUTES))


def test_its_numbers_are_those_of_the_suite() -> None:
    for text in (
        f"({FEW} unless it is given, {MOST:,} at the most)",
        f"longer than {LONGEST_BODY:,} bytes",
        f"The last {KEPT:,} events at\n`debug` are kept, and the last {KEPT:,} above it",
        f"beyond {MOST_WAITING:,}",
        f"a comment every {COMMENT_INTERVAL:g} seconds",
        f"There are {MOST_STREAMS} streams at the most",
        f"{MOST_REASONS} at the most",
    ):
        assert text in PAGE, text
    assert (PATIENCE, RETRY_AFTER) == (60, 5)  # "for a minute"
    for level in LEVELS:
        assert f"`{level}`" in PAGE


def examples() -> list[tuple[str, str, Any]]:
    """The method, path and answer of each example whose answer is JSON."""
    found = []
    for block in re.split(r"\n    \$ curl ", PAGE)[1:]:
        command, _, rest = block.replace("\\\n", "").partition("\n")
        lines = []
        for line in rest.splitlines():
            if not line.startswith("    "):
                break
            lines.append(line)
        text = "\n".join(lines)
        if not text.lstrip().startswith("{"):
            continue
        path = re.search(r"http://[^/ ]+(/[^ ?']*)", command)
        method = re.search(r"-X (\w+)", command)
        assert path is not None
        found.append(
            (method[1] if method else "POST" if " -d " in command else "GET", path[1], json.loads(text))
        )
    return found


@pytest.mark.parametrize("example", examples(), ids=lambda each: f"{each[0]} {each[1]}")
def test_an_example_is_as_the_openapi_document_says(example: tuple[str, str, Any]) -> None:
    method, path, answer = example
    for described, methods in DOCUMENT["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", described), path) and method.lower() in methods:
            responses = methods[method.lower()]["responses"]
            break
    else:
        pytest.fail("there is no such path")
    good = [status for status in responses if status.startswith("2")]
    status = str(answer["status"]) if answer.get("type") == "about:blank" else good[0]
    (content,) = responses[status]["content"].values()
    schema = {**content["schema"], "components": DOCUMENT["components"]}
    Draft202012Validator(schema).validate(answer)


def test_most_examples_are_held_to_it() -> None:
    assert len(examples()) >= 12
