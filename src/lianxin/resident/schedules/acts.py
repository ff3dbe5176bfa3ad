"""One act per form: the row is written in the act's own transaction under the form's key, so what was sent twice is done once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import transaction

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.duty import kernel
from lianxin.network.roles import MANAGER
from lianxin.resident.schedules.models import Act
from lianxin.standards.text import Text


class Refused(Exception):
    """What was asked cannot be done; ``text`` says why and what helps, ``status`` is what the page answers."""

    def __init__(self, text: Text, status: int = 409) -> None:
        super().__init__(text.zh)
        self.text, self.status = text, status


def mine(scope: Scope) -> frozenset[int]:
    """Institutions whose schedules one runs: the own one with its village clinics; for the consortium's office all it follows."""
    return scope.institution_ids | (scope.oversight_ids if scope.has(MANAGER) else frozenset())


def once(
    by: Scope,
    key: str,
    kind: str,
    work: Callable[[Act], dict[str, Any] | None],
    *,
    institution_id: int | None,
    session_id: int | None = None,
    template_id: int | None = None,
    reason: str = "",
    batch: str = "",
) -> Act:
    """Do ``work(act)`` and keep the act, both or neither; the same key again gives the act that was done. Audited.

    A stop and a patient's own cancellation take the session's and the case's row in opposite order; the database then ends one
    of them, and it is tried again here.
    """

    @transaction.atomic
    def done() -> Act:
        act, new = Act.objects.get_or_create(
            key=key[:160],
            defaults={
                "kind": kind, "institution_id": institution_id, "session_id": session_id, "template_id": template_id,
                "reason": reason[:200], "batch": batch[:64], "account_id": by.account_id, "name": by.name[:120],
            },
        )  # fmt: skip
        if new:
            act.detail = work(act) or {}
            act.save(update_fields=["detail", "session", "template", "institution"])
            audit.write(by, "update", what=f"schedules {kind} {act.pk}", detail=_brief(act))
        return act

    return kernel.collision_proof(done)


def _brief(act: Act) -> dict[str, Any]:
    return {
        "session": act.session_id, "template": act.template_id, "reason": act.reason,
        **{k: v for k, v in act.detail.items() if isinstance(v, int | str)},
    }  # fmt: skip
