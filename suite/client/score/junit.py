"""The score in the XML of JUnit, which CI services show as tests.

Rules: wrong is a failure, crashed or hung or unknown is an error, known by the baseline or left out is
skipped. Characters that XML 1.0 cannot have, which a client may well print, are replaced.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from xml.etree import ElementTree as ET  # it is written, not read

from suite.client.score.report import total
from suite.client.score.verdicts import Result, Score, Verdict

#: Characters that are not in XML 1.0 (section 2.2).
_FORBIDDEN: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_junit(scores: Sequence[Score]) -> bytes:
    """*scores*, a suite of tests for each."""
    root = ET.Element("testsuites", name="echo-suite gallery score")
    for score in scores:
        suite = ET.SubElement(root, "testsuite", name=clean(score.client), time=f"{score.seconds:.3f}")
        kinds = [_case(suite, score, result) for result in score.results]
        for name, why in score.left_out.items():
            case = ET.SubElement(suite, "testcase", classname=clean(score.client), name=name)
            ET.SubElement(case, "skipped", message=clean(f"left out of the gallery: {why}"))
            kinds.append("skipped")
        suite.set("tests", str(len(kinds)))
        for kind, attribute in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
            suite.set(attribute, str(kinds.count(kind)))
        ET.SubElement(suite, "system-out").text = clean(total(score))
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _case(suite: ET.Element, score: Score, result: Result) -> str:
    """Add *result* to *suite*; return what kind it is."""
    exhibit, ran = result.exhibit, result.ran
    case = ET.SubElement(suite, "testcase", classname=clean(score.client), name=exhibit.name)
    if ran is not None:
        case.set("time", f"{ran.seconds:.3f}")
    kind = ""
    if result.verdict is not Verdict.RIGHT:
        word = str(result.outcome if result.verdict is Verdict.UNKNOWN else result.verdict)
        bad = result.verdict in (Verdict.WRONGLY_ACCEPTED, Verdict.WRONGLY_REFUSED)
        kind = "skipped" if result.key in score.known else "failure" if bad else "error"
        message = f"{word}: {exhibit.defect} A client must: {exhibit.must} ({exhibit.clause})."
        ET.SubElement(case, kind, message=clean(message), type=word)
    if ran is not None:
        for tag, data in (("system-out", ran.output), ("system-err", ran.errors)):
            if data:
                ET.SubElement(case, tag).text = clean(data.decode(errors="replace"))
    return kind


def clean(text: str) -> str:
    """*text* without the characters that XML forbids."""
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
