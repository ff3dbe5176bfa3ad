"""Refusals of the record and the doors: each names the place and the cure, in Chinese and English."""

from dataclasses import dataclass
from typing import Any

from lianxin.standards.text import Text


@dataclass(frozen=True)
class Issue:
    """One problem: FHIR issue type, what is wrong (and the cure), and the FHIRPath of the place."""

    code: str
    text: Text
    expression: str = ""
    severity: str = "error"


class Problem(Exception):
    """A request is refused with an HTTP status and one or more issues."""

    def __init__(self, status: int, *issues: Issue) -> None:
        self.status = status
        self.issues = list(issues)
        self.headers: list[tuple[str, str]] = []
        super().__init__("; ".join(f"{i.expression} {i.text.en}".strip() for i in issues))

    def at(self, place: str) -> "Problem":
        """The same refusal, told from inside ``place`` (for example ``Bundle.entry[3]``)."""
        moved = [
            Issue(i.code, i.text, f"{place}.{i.expression}" if i.expression else place, i.severity)
            for i in self.issues
        ]
        told = Problem(self.status, *moved)
        told.headers = list(self.headers)
        return told


def refuse(status: int, code: str, zh: str, en: str, expression: str = "") -> Problem:
    """Shorthand for a refusal with one issue."""
    return Problem(status, Issue(code, Text(zh, en), expression))


def outcome(issues: list[Issue]) -> dict[str, Any]:
    """The OperationOutcome: Chinese in ``details.text``, English in ``diagnostics``."""
    rows = []
    for issue in issues:
        row: dict[str, Any] = {
            "severity": issue.severity,
            "code": issue.code,
            "details": {"text": issue.text.zh},
            "diagnostics": issue.text.en,
        }
        if issue.expression:
            row["expression"] = [issue.expression]
        rows.append(row)
    return {"resourceType": "OperationOutcome", "issue": rows}
