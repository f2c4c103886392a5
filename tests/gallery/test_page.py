"""docs/gallery.md: its table of specimens is made from them. To make it anew, run this module."""

from __future__ import annotations

import re
from pathlib import Path

from suite.config.gallery import KEYS
from suite.gallery.specimens import SPECIMENS

PAGE = Path(__file__).parents[2] / "docs/gallery.md"

#: Where the table is.
TABLE = re.compile(r"(<!-- specimens: [^\n]* -->\n).*?(<!-- end -->)", re.DOTALL)


def table() -> str:
    rows = [
        f"| `{each.name}` | {each.defect.removesuffix('.')} | {each.must} | {each.clause} |"
        for each in SPECIMENS
    ]
    return "\n".join(
        ["| specimen | what is wrong | a client must | clause |", "|---|---|---|---|", *rows, ""]
    )


def with_table(page: str) -> str:
    return TABLE.sub(lambda found: found[1] + table() + found[2], page)


def test_table_is_current() -> None:
    page = PAGE.read_text()
    assert TABLE.search(page)
    assert page == with_table(page)


def test_every_key_is_there() -> None:
    page = PAGE.read_text()
    assert [key for key in KEYS if f"`{key}`" not in page] == []


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
