"""Versions of a mapping: one draft that is edited, one that is in use, the retired ones; runs name the version they used."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import Max

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.exchange.tables.models import ACTIVE, DRAFT, RETIRED, TableMapping, TableSource
from lianxin.standards import clock


def in_use(source: TableSource) -> TableMapping | None:
    """The mapping that runs use."""
    return TableMapping.objects.filter(source=source, state=ACTIVE).first()


def newest(source: TableSource) -> TableMapping | None:
    """The draft if there is one, else what is in use."""
    return TableMapping.objects.filter(source=source, state=DRAFT).first() or in_use(source)


@transaction.atomic
def save(scope: Scope, source: TableSource, rules: dict[str, Any]) -> TableMapping:
    """Keep rules as the draft of a source; what is in use stays as it is."""
    TableSource.objects.select_for_update().get(pk=source.pk)
    draft = TableMapping.objects.filter(source=source, state=DRAFT).first()
    now = clock.now()
    if draft is None:
        last = TableMapping.objects.filter(source=source).aggregate(n=Max("version"))["n"] or 0
        draft = TableMapping(source=source, version=last + 1, state=DRAFT)
    draft.rules, draft.created_at, draft.created_by_id = rules, now, scope.account_id
    draft.save()
    audit.write(scope, "admin", what=f"table mapping {source.pk}@{draft.version}", detail={"did": "draft"})
    return draft


@transaction.atomic
def activate(scope: Scope, draft: TableMapping) -> TableMapping:
    """Put a draft in use; the one before it is retired."""
    TableSource.objects.select_for_update().get(pk=draft.source_id)
    TableMapping.objects.filter(source_id=draft.source_id, state=ACTIVE).exclude(pk=draft.pk).update(
        state=RETIRED
    )
    draft.state, draft.activated_at = ACTIVE, clock.now()
    draft.save()
    audit.write(
        scope, "admin", what=f"table mapping {draft.source_id}@{draft.version}", detail={"did": "activate"}
    )
    return draft
