"""What stands beside the report of an imaging study: the images, what the gate noted, earlier studies of the same body part."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.urls import reverse

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.regional.archive import studies
from lianxin.regional.archive.models import Study
from lianxin.regional.imaging import gate
from lianxin.regional.imaging.models import RATINGS, Quality
from lianxin.regional.reading.models import Ordered, Reading

PRIORS = 8
THUMBS = 24


def viewer(*uids: str) -> str:
    """The viewer's address for one study, or for two beside each other."""
    query = {"StudyInstanceUIDs": ",".join(uids)}
    if len(uids) > 1:
        query["hangingprotocolId"] = "@ohif/hpCompare"
    return f"{reverse('imaging:viewer')}?{urlencode(query, safe=',@/')}"


def context(scope: Scope, reading: Reading) -> dict[str, Any]:
    """The panel's context; opening the images is audited. ``scope`` may read this work, and with it see its images."""
    own = [s for s in gate.stored(reading) if studies.find(scope, s.study_uid) is not None]
    current = next((s for s in own if s.study_uid == reading.study_uid), own[-1] if own else None)
    priors = _priors(scope, reading, {s.pk for s in own})
    if own:
        audit.write(scope, "read", person_id=reading.person_id, what=f"images {reading.accession}")
    uids = [s.study_uid for s in own]
    return {
        "imaging_study": current, "imaging_studies": own, "imaging_viewer": viewer(current.study_uid) if current else "",
        "imaging_quality": list(Quality.objects.unscoped("the work was reached within the scope").filter(reading=reading, study_uid__in=uids)),
        "imaging_rating": RATINGS.get(reading.facts.get("rating", "")), "imaging_series": series_of(current) if current else [],
        "imaging_priors": [
            {"study": p, "view": viewer(p.study_uid), "compare": viewer(current.study_uid, p.study_uid) if current else ""} for p in priors
        ],
    }  # fmt: skip


def series_of(study: Study) -> list[dict[str, Any]]:
    """The series of a study with the image in the middle of each as its picture."""
    rows: dict[int, list[Any]] = {}
    for row in studies.instances(study):
        rows.setdefault(row.series_id, []).append(row)
    return [
        {"series": found[0].series, "count": len(found), "picture": found[len(found) // 2]} for found in rows.values()
    ][:THUMBS]  # fmt: skip


def _priors(scope: Scope, reading: Reading, own: set[int]) -> list[Study]:
    """Earlier studies of the person, those of the same body part first."""
    mine = _parts([reading.accession]).get(reading.accession, set())
    rows = list(studies.of_person(scope, reading.person_id).exclude(pk__in=own)[: PRIORS * 4])
    parts = _parts([s.accession for s in rows if s.accession])
    same = [s for s in rows if mine & (parts.get(s.accession, set()) | _taken(s))]
    return [*same, *(s for s in rows if s not in same)][:PRIORS]


def _parts(accessions: list[str]) -> dict[str, set[str]]:
    """The body parts that were ordered, by accession number."""
    found: dict[str, set[str]] = {}
    rows = Ordered.objects.filter(reading__accession__in=accessions, active=True)
    for accession, part in rows.values_list("reading__accession", "item__body_part"):
        if part:
            found.setdefault(accession, set()).add(part)
    return found


def _taken(study: Study) -> set[str]:
    return {s.body_part.upper() for s in study.series.all() if s.body_part}
