"""Two languages in one site: which page is in which, the switch between them, and the words around the text.

Rules: the language of a page follows from its path; a page that is not there in the other language leads to
that language's home. In the sidebar and at the end of a page are pages of its own language only.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import sphinx
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment.adapters.toctree import TocTree

HOME: Final = {"en": "README", "es": "docs/es/README"}

#: What the switch says, in the language that it leads to.
NAME: Final = {"en": "In English", "es": "En español"}

SEARCH: Final = {"en": "search", "es": "docs/es/search"}

#: Of the site, on Spanish pages.
TITLE: Final = "La suite de eco"

#: The theme's words.
SPANISH: Final = {
    "Skip to content": "Ir al contenido",
    "Back to top": "Volver arriba",
    "Next": "Siguiente",
    "Previous": "Anterior",
    "Home": "Inicio",
    "On this page": "En esta página",
    "Search": "Buscar",
    "Error": "Error",
    "Please activate JavaScript to enable the search functionality.": "La búsqueda necesita JavaScript.",
    "Made with": "Hecho con",
}

#: What Sphinx says of the sign behind a heading, in the text of each page.
PERMALINK: Final = {"en": 'title="Link to this heading"', "es": 'title="Enlace a este título"'}

#: What the scripts of the search say, as Sphinx has it.
TRANSLATIONS: Final = Path(sphinx.__file__).parent / "locale/es/LC_MESSAGES/sphinx.js"


def language_of(page: str) -> str:
    """The language of the page with this name."""
    return "es" if page.startswith(("docs/es/", "docs/tutorial/es/")) else "en"


def twin_of(page: str) -> str:
    """The name that the same page has in the other language, where it is there."""
    if page.startswith("docs/tutorial/en/"):
        return page.replace("/en/", "/es/", 1)
    if page.startswith("docs/tutorial/steps/"):  # programs, which chapters of both languages show
        return "docs/tutorial/es/index"
    if page.startswith("docs/tutorial/es/"):
        return page.replace("/es/", "/en/", 1)
    if language_of(page) == "es":
        name = page.removeprefix("docs/es/")
        return name if name in (HOME["en"], SEARCH["en"]) else f"docs/{name}"
    return f"docs/es/{page.removeprefix('docs/')}"


def translate(text: str) -> str:
    """*text* in Spanish, with the spaces around it."""
    words = text.strip()
    return text.replace(words, SPANISH.get(words, words))


def navigation(app: Sphinx, page: str) -> Callable[..., str]:
    """What renders the sidebar of *page*, in place of Sphinx's ``toctree``, which knows one home only.

    In Spanish, what there is in English alone comes last.
    """

    def render(**options: Any) -> str:
        builder: Any = app.builder
        trees = groups(app, HOME["en"])
        if language_of(page) == "es":
            trees = groups(app, HOME["es"]) + [tree for tree in trees if not is_in_both(app, tree)]
        found = [TocTree(app.env).resolve(page, builder, tree, prune=True, **options) for tree in trees]
        return "".join(builder.render_partial(tree)["fragment"] for tree in found if tree is not None)

    return render


def groups(app: Sphinx, home: str) -> list[addnodes.toctree]:
    """The groups of pages below *home*; that of the other home has no heading."""
    found = app.env.get_doctree(home).findall(addnodes.toctree)
    return [tree for tree in found if tree["caption"] is not None]


def is_in_both(app: Sphinx, group: addnodes.toctree) -> bool:
    """Whether every page of *group* is there in the other language, too."""
    return all(twin_of(page) in app.env.all_docs for page in group["includefiles"])


def put(app: Sphinx, page: str, _template: str, context: dict[str, Any], _doctree: object) -> None:
    """Tell the template about the language of *page*."""
    builder: Any = app.builder
    language = language_of(page)
    other = "en" if language == "es" else "es"
    twin = twin_of(page)
    there = twin in app.env.all_docs or twin in SEARCH.values()
    context["switch"] = {"language": other, "name": NAME[other], "page": twin if there else HOME[other]}
    context["language"] = language
    context["search_page"] = SEARCH[language]
    context["toctree"] = navigation(app, page)
    _, *neighbours = builder.relations.get(page, (None, None, None))
    for key, neighbour in zip(("prev", "next"), neighbours, strict=True):
        if neighbour is not None and language_of(neighbour) != language:
            context[key] = None
    if language == "es":
        context["master_doc"] = HOME["es"]
        context["docstitle"] = TITLE
        for key in context.keys() & {"body", "toc"}:
            context[key] = context[key].replace(PERMALINK["en"], PERMALINK["es"])
        context["_"] = context["gettext"] = translate
        app.add_js_file(TRANSLATIONS.name)  # of this page alone


def search(_app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """The search in Spanish; Sphinx makes the other one."""
    yield SEARCH["es"], {}, "search.html"


def finish(app: Sphinx, failed: Exception | None) -> None:
    """Copy what the pages need, and give the home its name for web servers."""
    if failed is None:
        shutil.copy(TRANSLATIONS, app.outdir / "_static" / TRANSLATIONS.name)
        shutil.copy(app.outdir / f"{HOME['en']}.html", app.outdir / "index.html")


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("html-page-context", put, priority=400)  # before the theme, which renders the navigation
    app.connect("html-collect-pages", search)
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
