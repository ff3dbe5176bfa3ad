"""Studies as others read them: always within a scope."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.db.models.expressions import RawSQL

from lianxin.access import sharing, smart
from lianxin.access.scope import Scope
from lianxin.regional.archive.models import Instance, Study


def condition(scope: Scope) -> tuple[str, list[Any]]:
    """SQL condition on ``archive_study``: whose images the scope may look at.

    As for what the record holds (:mod:`lianxin.record.visible`): clinical roles and systems see what their own institutions sent and the
    people they have a relationship with (or whose sharing allows it); residents their own; a token's ``patient/`` scopes keep to that
    patient. Only attached studies are anybody's.
    """
    parts: list[str] = ["archive_study.state = 'stored'"]
    params: list[Any] = []
    if not scope.everything:
        seen, more = sharing.sql(
            scope, "archive_study.person_id", "archive_study.institution_id", ("FALSE", [])
        )
        if scope.clinical and scope.institution_ids:
            seen = f"(archive_study.institution_id = ANY(%s::bigint[]) OR {seen})"
            params.append(sorted(scope.institution_ids))
        elif not scope.resident_ids:
            seen, more = "FALSE", []
        parts.append(f"({seen})")
        params += more
    if scope.client_id is not None and scope.smart:
        given = smart.matching(scope.smart, "ImagingStudy", "rs")
        if not any(not p.limited for p in given):
            mine = any(p.level == "patient" and not p.query for p in given) and scope.person_id
            parts.append("archive_study.person_id = %s" if mine else "FALSE")
            if mine:
                params.append(scope.person_id)
    return " AND ".join(parts), params


def seen(scope: Scope) -> QuerySet[Study]:
    """Attached studies whose images the scope may look at."""
    sql, params = condition(scope)
    rows: QuerySet[Study] = Study.objects.unscoped("the condition below is the scope's")
    return rows.filter(pk__in=RawSQL(f"SELECT archive_study.id FROM archive_study WHERE {sql}", params))


def of_person(scope: Scope, person_id: int) -> QuerySet[Study]:
    """A person's studies that the scope may see, the latest first."""
    return seen(scope).filter(person_id=person_id).select_related("institution").order_by("-study_at", "-pk")


def find(scope: Scope, uid: str) -> Study | None:
    """The study that is delivered under ``uid``; None when there is none, or none that the scope may see."""
    return seen(scope).filter(study_uid=uid).select_related("institution", "person").first()


def of_accession(scope: Scope, accession: str) -> QuerySet[Study]:
    """Studies attached under an accession number that the scope may see."""
    return seen(scope).filter(accession=accession).order_by("study_at", "pk")


def instances(study: Study) -> QuerySet[Instance]:
    """The live instances of a study that was reached through a scope, in the order of a reader: series, then number."""
    return (
        Instance.objects.filter(study=study, live=True)
        .select_related("series")
        .order_by("series__number", "series__pk", "number", "pk")
    )
