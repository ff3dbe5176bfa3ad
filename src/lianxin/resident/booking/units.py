"""How many steps of a session's grid an examination takes."""

from __future__ import annotations

import math

from lianxin.duty.errors import Refused
from lianxin.pool.models import ExamItem, Session
from lianxin.standards.text import T


def item_of(code: str) -> ExamItem:
    """The examination of this code; Refused when there is none to book."""
    found = ExamItem.objects.filter(code=code, active=True).first()
    if found is None:
        raise Refused(
            {"item": T("没有该检查项目，请重新选择。", "There is no such examination; choose again.")}
        )
    return found


def units_of(session: Session, item: str) -> int:
    """Steps of ``session`` that the examination ``item`` takes (1 for a visit)."""
    if not item:
        return 1
    step = (session.ends_at - session.starts_at).total_seconds() / 60 / max(session.planned, 1)
    return max(1, math.ceil(item_of(item).minutes / step - 1e-9))
