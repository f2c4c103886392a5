"""The page and its files over HTTP: headers, caching, and what is in the scripts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from suite.admin.page.assets import KINDS
from suite.admin.page.page import MOST_ENDPOINTS
from tests.admin.asking_http import ask
from tests.running import RunningSuite, running

CONFIG = """
[endpoints]
tcp = "tcp:0"
[admin]
listen = ["tcp:0", "unix:admin.sock"]
"""

STATIC = Path(str(files("suite.admin.page"))) / "static"


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSuite]:
    with running(tmp_path_factory.mktemp("assets"), CONFIG) as suite:
        yield suite


def test_the_page(suite: RunningSuite) -> None:
    """Its policy allows its own files and nothing else, and nobody keeps a copy."""
    answer = ask(suite.admin[0], "/")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = dict(each.strip().split(" ", 1) for each in answer.headers["content-security-policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self'",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert ask(suite.admin[0], "/", "HEAD").body == b""
    assert "<h3" in ask(suite.admin[1], "/").text


def test_what_is_asked_of_the_page(suite: RunningSuite) -> None:
    one = ask(suite.admin[0], "/?endpoint=tcp").text
    assert "Limits" in one
    wrong = ask(suite.admin[0], "/?endpoint=tpc")
    assert (wrong.status, "did you mean tcp?" in wrong.json["detail"]) == (404, True)
    assert ask(suite.admin[0], "/?what=tcp").status == 400
    assert "No such" not in ask(suite.admin[0], "/?after=zzz").text
    assert ask(suite.admin[0], "/?endpoint=tcp&connections=nonsense").status == 400


def test_many_endpoints(tmp_path: Path) -> None:
    """They come in pages, each of which leads to the next one."""
    names = [f"e{number:03}" for number in range(MOST_ENDPOINTS + 20)]
    lines = "".join(f'{name} = "unix:{name}.sock"\n' for name in names)
    with running(tmp_path, f'[endpoints]\n{lines}[admin]\nlisten = "tcp:0"\n') as suite:
        found: list[str] = []
        path: str | None = "/"
        while path:
            page = ask(suite.admin[0], path).text
            assert f"{MOST_ENDPOINTS + 20} on this page" in page
            found += re.findall(r'id="endpoint-(\w+)"', page)
            following = re.search(r'href="([^"]*)" rel="next"', page)
            path = following[1] if following else None
        assert found == names


@pytest.mark.parametrize("name", KINDS)
def test_a_file(suite: RunningSuite, name: str) -> None:
    """It is sent once, and after that only if it is another."""
    path = f"/static/{name}"
    answer = ask(suite.admin[0], path)
    assert (answer.status, answer.body) == (200, (STATIC / name).read_bytes())
    assert answer.headers["content-type"] == KINDS[name]
    assert answer.headers["cache-control"] == "no-cache"
    tag = answer.headers["etag"]
    for known in (tag, f'"other", W/{tag}', "*"):
        again = ask(suite.admin[0], path, headers={"If-None-Match": known})
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
        assert again.headers["cache-control"] == "no-cache"
    assert ask(suite.admin[0], path, headers={"If-None-Match": '"other"'}).status == 200


@pytest.mark.parametrize(
    "path",
    ["/static/", "/static/../page.py", "/static/%2e%2e/page.py", "/static/page.css/", "/static/page.CSS"],
)
def test_there_are_no_other_files(suite: RunningSuite, path: str) -> None:
    assert ask(suite.admin[0], path).status == 404


def test_every_file_is_named() -> None:
    assert {each.name for each in STATIC.iterdir()} == {*KINDS}


@pytest.mark.parametrize("name", [name for name in KINDS if name.endswith(".js")])
def test_a_script(name: str) -> None:
    """Nothing in it makes markup or code of a text, asks somebody else, or uses what the policy forbids."""
    script = (STATIC / name).read_text()
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|setHTML"
        r"|\beval\b|new Function|setTimeout\(\s*[\"'`]|https?://(?!www\.w3\.org/2000/svg)|\.style\b|\bvar\b"
        r"|localStorage|document\.cookie|window\."
    )
    assert not re.findall(forbidden, script)
    for module in re.findall(r'from "(.*?)"', script):
        assert module.removeprefix("./") in KINDS


@pytest.mark.parametrize("name", [name for name in KINDS if name.endswith(".css")])
def test_a_style_sheet_asks_nobody(name: str) -> None:
    assert not re.findall(r"url\(|@import|@font-face", (STATIC / name).read_text())
