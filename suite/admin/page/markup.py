"""HTML as text: elements whose contents and attributes are escaped here, and nowhere else.

Rules: what is not `Markup` is text, whoever has sent it; `Markup` is made by `element`, `join` and literals
in this package, never from a value. (Twisted's flattener does the same at ten times the cost, which a page
of a hundred endpoints would feel.)
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Final

#: Elements without contents and end tag (HTML, section 13.1.2).
_VOID: Final = frozenset({"br", "col", "hr", "img", "input", "link", "meta"})

#: What may stand in an element; None is nothing.
Content = str | int | None

#: An attribute's value: True is an attribute without one; False and None are no attribute.
Value = str | int | bool | None


class Markup(str):
    """HTML, which is not escaped again."""

    __slots__ = ()


NOTHING: Final = Markup("")


def text(content: Content) -> Markup:
    """*content*, escaped unless it is markup."""
    if isinstance(content, Markup):
        return content
    return NOTHING if content is None else Markup(escape(str(content)))


def join(contents: Iterable[Content]) -> Markup:
    """All of *contents*, one after another."""
    return Markup("".join(map(text, contents)))


def element(name: str, *contents: Content, **attributes: Value) -> Markup:
    """The element *name*.

    :param attributes: ``_`` stands for ``-`` in a name, and one at its end, as in ``class_``, for nothing.
    """
    start = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        attribute = key.removesuffix("_").replace("_", "-")
        start.append(attribute if value is True else f'{attribute}="{escape(str(value))}"')
    opening = f"<{' '.join(start)}>"
    if name in _VOID:
        return Markup(opening)
    return Markup(f"{opening}{join(contents)}</{name}>")
