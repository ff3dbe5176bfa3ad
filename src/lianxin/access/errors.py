"""What access refuses, in words a person can act on."""

from __future__ import annotations

from lianxin.standards.text import T, Text


class AccessError(Exception):
    """A refusal; ``message`` says what was refused and what to do, in both languages."""

    def __init__(self, message: Text) -> None:
        super().__init__(message.zh)
        self.message = message


class ScopeRequired(RuntimeError):
    """A programmer asked for patient data without saying on whose behalf. Never shown to people: a fault to mend."""


class NotPermitted(AccessError):
    """The role does not include this act."""


class NoRelationship(AccessError):
    """The institution has no relationship with this person now."""

    def __init__(self, person_id: int | None = None) -> None:
        super().__init__(
            T(
                "您所在机构目前与该居民没有诊疗关系，不能查看其健康记录。可由居民出示证件登记就诊，或在紧急情况下说明理由后临时调阅。",
                "Your institution has no care relationship with this resident now, so the record stays closed. "
                "Check the resident in with a card or identity document, or in an emergency open it with a reason.",
            )
        )
        self.person_id = person_id


class Invalid(AccessError):
    """Fields that cannot be accepted: ``errors`` maps a field name to what is wrong and the cure."""

    def __init__(self, errors: dict[str, Text]) -> None:
        super().__init__(
            T("；".join(m.zh for m in errors.values()), "; ".join(m.en for m in errors.values()))
        )
        self.errors = errors
