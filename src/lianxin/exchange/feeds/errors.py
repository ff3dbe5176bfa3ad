"""Why a piece is not taken, whatever door it came by."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import DataError

from lianxin.access.errors import AccessError, Invalid
from lianxin.record.problems import Problem
from lianxin.standards.text import T, Text


@dataclass(frozen=True)
class Reason:
    """``code``: FHIR's issue type ("required", "value", "duplicate" …) or the door's own; ``place``: where in the piece.

    ``answer``: the door's answer code when it has one (AE, AR of HL7 v2).
    """

    code: str
    text: Text
    place: str = ""
    answer: str = ""

    def kept(self) -> str:
        """As it is kept with the arrival: code and place, Chinese, English, a line each."""
        return f"{self.code} {self.place}".strip() + f"\n{self.text.zh}\n{self.text.en}"


class Refusal(Exception):
    """A piece is not taken, for a reason its sender is told."""

    def __init__(self, code: str, text: Text, place: str = "", answer: str = "") -> None:
        super().__init__(f"{code} {place} {text.en}".strip())
        self.reason = Reason(code, text, place, answer)


def read(kept: str) -> tuple[str, Text]:
    """Code and place, and the words, of a kept reason ("" when there is none)."""
    head, _, words = kept.partition("\n")
    zh, _, en = words.partition("\n")
    return (head, T(zh, en or zh)) if words else ("", T(kept, kept))


REFUSALS: tuple[type[Exception], ...] = (Refusal, Problem, AccessError, DataError)
"""What refuses one piece and says why; everything else is an error of ours."""


def reason_of(failure: Exception) -> Reason:
    """The reason of a refusal of any room; a failure nobody expected is told as one of ours."""
    own = getattr(failure, "reason", None)
    if isinstance(own, Reason):
        return own
    if isinstance(failure, Problem):
        issue = failure.issues[0]
        return Reason(issue.code, issue.text, issue.expression)
    if isinstance(failure, Invalid):
        place, text = next(iter(failure.errors.items()), ("", failure.message))
        return Reason("value", text, place)
    if isinstance(failure, AccessError):
        return Reason("forbidden", failure.message)
    if isinstance(failure, DataError):
        return Reason(
            "value",
            T(
                "含有数据库不接受的取值（过大的数、日期或无效字符）。",
                "A value is out of range (a number, a date, or a character that cannot be kept).",
            ),
        )
    return INTERNAL


INTERNAL = Reason(
    "exception",
    T("平台内部出错，已记录，请稍后重发。", "An error of ours, which has been logged; send it again later."),
)
