"""Drives Chromium for the tests of the page: each line of standard input is a command, in JSON.

An answer is a line of standard output.

It runs in the virtual environment that has Playwright, as a program, and imports nothing of ours. What it
waits for is given `PATIENCE`; what does not come is an answer, too: ``{"error": …}``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, Final

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Request, sync_playwright

#: Milliseconds.
PATIENCE: Final = 90_000

#: What a page is that does not show what it should.
_STATE: Final = """document.visibilityState + ", " + document.readyState + ", " + JSON.stringify(
    performance.getEntriesByType("resource").slice(-20).map((entry) => [entry.name, entry.responseStatus]),
)"""

#: Chromium drops what it is loading when the machine's network changes, as it does when containers start.
NETWORK_CHANGED: Final = "net::ERR_NETWORK_CHANGED"

#: No GPU, no sandbox (tests run as root in containers), and nothing asked of the network.
ARGUMENTS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

#: What axe checks: WCAG 2.2 at level AA, and its own advice.
RULES: Final = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
}


class Driver:
    """One browser, with one page at a time.

    :ivar requests: the addresses that the page has asked for.
    :ivar problems: errors on its console, and exceptions of its scripts.
    """

    page: Page

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.requests: list[str] = []
        self.problems: list[str] = []
        self._dropped = False  # whether a request has failed because the network has changed

    def open(
        self,
        url: str,
        scheme: str = "light",
        width: int = 1280,
        height: int = 900,
        scripts: bool = True,
    ) -> None:
        """Show *url*, in a new profile."""
        for context in self._browser.contexts:
            context.close()
        context = self._browser.new_context(
            color_scheme=scheme,
            viewport={"width": width, "height": height},
            java_script_enabled=scripts,
        )
        context.set_default_timeout(PATIENCE)
        self.requests, self.problems = [], []
        context.on("request", lambda request: self.requests.append(request.url))
        context.on("requestfailed", self._failed)
        page = self.page = context.new_page()
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", self._said)
        self.go(url)

    def go(self, url: str) -> None:
        """Show *url* in the same window, again when the network has changed meanwhile."""
        while True:
            self._dropped = False
            try:
                self.page.goto(url)
            except Error as error:
                if NETWORK_CHANGED not in error.message:
                    raise
                self.page.wait_for_url("chrome-error://chromewebdata/")  # or that would come in between
            else:
                if not self._dropped:
                    return

    def _failed(self, request: Request) -> None:
        self._dropped |= request.failure == NETWORK_CHANGED

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and NETWORK_CHANGED not in message.text:
            self.problems.append(message.text)

    def wait(self, selector: str, text: str = "", state: str = "visible") -> str:
        """The text of the first element for *selector* that has *text*, once it is there."""
        found = self.page.locator(selector)
        if text:
            found = found.filter(has_text=text)
        try:
            found.first.wait_for(state=state)
        except Error as error:
            said = f"it is {self.page.evaluate(_STATE)}, and has said {self.problems}"
            raise Error(f"{error.message}\nof the page: {said}") from None
        return (found.first.text_content() or "") if state in ("visible", "attached") else ""

    def wait_for(self, expression: str) -> None:
        """Wait until the script *expression* is true.

        It is asked from here: the policy of the page lets no text be a script.
        """
        for _ in range(PATIENCE // 50):
            if self.page.evaluate(expression):
                return
            self.page.wait_for_timeout(50)
        raise Error(f"it never became true: {expression}")

    def evaluate(self, expression: str) -> Any:
        """The value of the script *expression*."""
        return self.page.evaluate(expression)

    def click(self, selector: str) -> None:
        """Click on the element for *selector*."""
        self.page.locator(selector).first.click()

    def fill(self, selector: str, text: str) -> None:
        """Write *text* into the element for *selector*."""
        self.page.locator(selector).first.fill(text)

    def focus(self, selector: str) -> None:
        """Give the element for *selector* the focus."""
        self.page.locator(selector).first.focus()

    def press(self, key: str) -> str:
        """Press *key*; return the name of what has the focus then."""
        self.page.keyboard.press(key)
        return self.focused()

    def focused(self) -> str:
        """The name of what has the focus, for people."""
        return str(
            self.page.evaluate(
                "document.activeElement.getAttribute('aria-label') || document.activeElement.textContent"
            )
        )

    def axe(self) -> list[str]:
        """What axe finds wrong, a line each."""
        found = Axe().run(self.page, options=RULES).response
        return [
            f"{each['id']}: {each['help']}: {node['html'][:300]} {node.get('failureSummary', '')}"
            for each in found["violations"]
            for node in each["nodes"]
        ]

    def show(self, scheme: str, width: int, height: int) -> None:
        """Show the same page to somebody who prefers the colour *scheme*, in a window of another size."""
        self.page.emulate_media(color_scheme=scheme)
        self.page.set_viewport_size({"width": width, "height": height})

    def rest(self, seconds: float) -> None:
        """Let the page go on for *seconds*."""
        self.page.wait_for_timeout(seconds * 1000)

    def screenshot(self, path: str, *, full: bool = False) -> None:
        """Write what is shown to the file *path*."""
        self.page.screenshot(path=path, full_page=full, animations="disabled")

    def seen(self) -> dict[str, list[str]]:
        """What has been asked for, and what has gone wrong, since `open`."""
        return {"requests": self.requests, "problems": self.problems}


def main() -> None:
    """Follow commands until there are no more."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=sys.argv[1], args=[*ARGUMENTS])
        driver = Driver(browser)
        say({"version": browser.version})
        for line in sys.stdin:
            command = json.loads(line)
            do: Callable[..., Any] = getattr(driver, command.pop("do"))
            try:
                say({"value": do(**command)})
            except Error as error:
                say({"error": str(error)})
        browser.close()


def say(answer: object) -> None:
    """Write *answer* on a line of its own."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
