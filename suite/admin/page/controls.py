"""Controls, which are of no use without scripts: those make copies of them, or open them."""

from __future__ import annotations

from suite.admin.page.markup import Markup, element, join


def templates() -> Markup:
    """What scripts make copies of: controls that are of no use without them."""
    button = "button"
    return join(
        (
            element(
                "template",
                element(button, "Pause", type=button, data_do="pause"),
                element(button, "Resume", type=button, data_do="resume"),
                element(
                    "form",
                    element("label", "Faults to add"),
                    element(
                        "input",
                        name_="faults",
                        type="text",
                        placeholder="latency=200ms jitter=50ms",
                        autocomplete="off",
                        spellcheck="false",
                        required=True,
                    ),
                    element(button, "Add", type="submit"),
                    class_="add-faults",
                ),
                element("ul", class_="in-force", aria_label="Faults in force"),
                element(button, "Clear faults", type=button, data_do="clear"),
                id="controls-of-endpoint",
            ),
            element(
                "dialog",
                element("h2", "Drain the suite?", id="drain-title"),
                element(
                    "p",
                    "It stops accepting, lets echoes in progress finish, and ends, as SIGTERM would make it."
                    " This cannot be taken back from here.",
                ),
                element(
                    "div",
                    element(button, "Cancel", type=button, data_close=True, autofocus=True),
                    element(button, "Drain and end", type=button, data_confirm=True, class_="danger"),
                    class_="choices",
                ),
                id="drain-dialog",
                aria_labelledby="drain-title",
            ),
            element(
                "dialog",
                element("h2", "Token for changes", id="token-title"),
                element(
                    "p",
                    "Changes take the token in ",
                    element("code", "admin.token_file"),
                    ". It is kept for this tab only.",
                ),
                element(
                    "form",
                    element("label", "Token", for_="token"),
                    element("input", id="token", type="password", autocomplete="off", spellcheck="false"),
                    element(
                        "div",
                        element(button, "Cancel", type=button, data_close=True),
                        element(button, "Forget it", type=button, data_forget=True),
                        element(button, "Keep it", type="submit", class_="main"),
                        class_="choices",
                    ),
                ),
                id="token-dialog",
                aria_labelledby="token-title",
            ),
        )
    )
