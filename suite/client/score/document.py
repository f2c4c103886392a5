"""The score as JSON: written by ``--json``, read by ``--baseline``.

Rules: the format has a name and a version; what was not tried has null where it has no number.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from suite.client.score.verdicts import WRONG, Result, Score, Verdict
from suite.errors import UsageError
from suite.text import shown

FORMAT: Final = "echo-suite score 1"

#: client → what was wrong, by `Result.key`.
Baseline = dict[str, frozenset[tuple[str, str]]]


def to_json(scores: Sequence[Score]) -> str:
    """*scores*, as one JSON object on several lines; docs/gallery-score.md describes the keys."""
    document = {"format": FORMAT, "scores": [_score(score) for score in scores]}
    return json.dumps(document, indent=2, ensure_ascii=False)


def _score(score: Score) -> dict[str, Any]:
    return {
        "client": score.client,
        "ok": score.ok,
        "interrupted": score.interrupted,
        "seconds": round(score.seconds, 3),
        "totals": {str(verdict): score.counts[verdict] for verdict in Verdict},
        "new": len(score.news),
        "specimens": [_result(result) for result in score.results],
        "left_out": dict(score.left_out),
    }


def _result(result: Result) -> dict[str, Any]:
    ran, exhibit = result.ran, result.exhibit
    return {
        "name": exhibit.name,
        "defect": exhibit.defect,
        "clause": exhibit.clause,
        "must": str(exhibit.must),
        "outcome": str(result.outcome),
        "verdict": str(result.verdict),
        "error_as_expected": result.as_expected,
        "cannot_see_it": result.blind or None,
        "exit_code": None if ran is None else ran.exit_code,
        "signal": None if ran is None else ran.signal,
        "seconds": None if ran is None else round(ran.seconds, 3),
        "stdout": None if ran is None else ran.output.decode(errors="replace"),
        "stderr": None if ran is None else ran.errors.decode(errors="replace"),
    }


def read_baseline(path: Path) -> Baseline:
    """What was wrong in the score that ``--json`` has written to *path*.

    :raises UsageError: there is no such file, or it is none of these.
    """
    expected = "expected what --json has printed"
    try:
        document = json.loads(path.read_bytes())
        if document["format"] != FORMAT:
            raise UsageError(f"--baseline {shown(path)}: format {document['format']!r}; expected {FORMAT!r}")
        wrong = {str(verdict) for verdict in WRONG}
        return {
            score["client"]: frozenset(
                (each["name"], each["verdict"]) for each in score["specimens"] if each["verdict"] in wrong
            )
            for score in document["scores"]
        }
    except OSError as error:
        raise UsageError(f"--baseline {shown(path)}: {error.strerror or error}; {expected}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UsageError(f"--baseline {shown(path)} is not a score; {expected}") from None
