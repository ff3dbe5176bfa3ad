"""Unanswered calls climb: duty's own escalation says that one is late; this tells the next people and gives them access.

Each step of a duty's escalation (``duty.Escalation`` rows, made by its clock) becomes one system move of the case, once (its key names the
level), so a ticker that died between the two only makes the step a little later.
"""

from __future__ import annotations

from django.db.models import F

from lianxin.access.scope import Scope
from lianxin.duty import escalation, kernel
from lianxin.duty.errors import MoveError
from lianxin.duty.models import Case, Escalation
from lianxin.regional.critical import moves
from lianxin.regional.critical.models import Critical

EVERY_SECONDS = 10
BATCH = 200


def climb() -> int:
    """Let every late call climb as far as its duty has; returns how many steps were made."""
    escalation.escalate()
    rows = Critical.objects.unscoped("escalation").filter(
        live=True, acknowledged_at__isnull=True, level__lt=3
    )
    late = (
        Escalation.objects.filter(
            duty__kind="acknowledge", duty__ended="", duty__case_id__in=rows.values("pk"), level__lte=3
        )
        .annotate(climbed=F("duty__case__critical__level"))
        .filter(level__gt=F("climbed"))
        .order_by("duty__case_id", "level")
    )
    made = 0
    for case_id, level in late.values_list("duty__case_id", "level")[:BATCH]:
        made += _step(case_id, level)
    return made


def _step(case_id: int, level: int) -> int:
    case = Case.objects.unscoped("escalation").get(pk=case_id)
    if case.kind != moves.KIND:
        return 0
    try:
        done = kernel.execute(
            "escalate", case, Scope.system("escalation"), {"level": str(level)}, None, f"{case.number}:escalate:{level}"
        )  # fmt: skip
    except MoveError:  # answered in the meantime
        return 0
    return 0 if done.replayed else 1
