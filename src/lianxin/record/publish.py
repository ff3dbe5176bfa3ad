"""Functions publish their cases into the record here, inside their own transaction.

What the platform publishes is owned by the platform: it carries the tag ``published`` and no outside client may change it
unless an upper room takes the write (``exchange.fhir.handlers``).
"""

from collections.abc import Iterator
from typing import Any

from django.db import connection, transaction

from lianxin.access.scope import Scope
from lianxin.network.models import Department, Institution, Post, Practitioner
from lianxin.record import persons, rows, store, text
from lianxin.record.keys import ref_key

TAG = {"system": "http://lianxin.example/tag", "code": "published"}
CHUNK = 500
KINDS = "http://lianxin.example/cs/institution-kind"
TIERS = "http://lianxin.example/cs/tier"
ROLES = "http://lianxin.example/cs/role"
SPECIALTIES = "http://lianxin.example/cs/specialty"


def publish(
    resources: list[dict[str, Any]], *, person_id: int | None, institution_id: int | None, cursor: Any = None
) -> list[str]:
    """Upsert platform-owned ``resources`` (each with resourceType and id) in the caller's transaction.

    ``person_id`` is the person they are about (None: about nobody), ``institution_id`` the institution that answers for
    them.  A resource equal to what is stored is not written again.  Returns ``Type/id`` of each, in order.  Raises Problem
    when one is not valid R4.
    """
    if cursor is None:
        with transaction.atomic(), connection.cursor() as own:
            return publish(resources, person_id=person_id, institution_id=institution_id, cursor=own)
    cur = rows.server_cursor(cursor)
    writes = []
    for resource in resources:
        tagged = {
            "resourceType": resource["resourceType"],
            "id": resource["id"],
            "meta": _tagged(resource.get("meta", {})),
        }
        tagged.update((k, v) for k, v in resource.items() if k not in tagged)
        writes.append(store.Write("update", tagged["resourceType"], tagged["id"], tagged, text.dumps(tagged)))
    wanted = _changed(cur, writes)
    if wanted:
        if person_id is not None:
            _known(cur, person_id)
        store.apply(cur, Scope.system("publish"), wanted, source_institution_id=institution_id, platform=True)
    return [f"{w.rtype}/{w.id}" for w in writes]


def _tagged(meta: dict[str, Any]) -> dict[str, Any]:
    tags = [
        t for t in meta.get("tag", ()) if (t.get("system"), t.get("code")) != (TAG["system"], TAG["code"])
    ]
    return {
        **{k: v for k, v in meta.items() if k not in ("tag", "versionId", "lastUpdated")},
        "tag": [*tags, TAG],
    }


def _changed(cur: Any, writes: list[store.Write]) -> list[store.Write]:
    """Writes whose text differs from the stored one."""
    cur.execute(
        "SELECT key, version, updated, body, rtype FROM record_resource WHERE key = ANY(%s::bigint[]) AND NOT deleted",
        [[ref_key(f"{w.rtype}/{w.id}") for w in writes]],
    )
    stored = {row[0]: row for row in cur.fetchall()}
    wanted = []
    for write in writes:
        row = stored.get(ref_key(f"{write.rtype}/{write.id}"))
        assert write.raw is not None
        assert write.id is not None
        if row is None or text.splice(write.raw, write.id, row[1], store.stamp(row[2])) != store.opened(
            row[4], row[3]
        ):
            wanted.append(write)
    return wanted


def _known(cur: Any, person_id: int) -> None:
    """Make the person's number a known patient reference."""
    cur.execute("SELECT number FROM index_person WHERE id = %s", [person_id])
    row = cur.fetchone()
    if row is not None:
        persons.remember(cur, [(ref_key(f"Patient/{row[0]}"), row[0], person_id)])


def publish_network() -> int:
    """Project institutions, departments, people and posts into the record; returns how many resources are published."""
    count = 0
    batch: list[dict[str, Any]] = []
    for resource in _network():
        batch.append(resource)
        if len(batch) == CHUNK:
            count += len(publish(batch, person_id=None, institution_id=None))
            batch = []
    if batch:
        count += len(publish(batch, person_id=None, institution_id=None))
    return count


def _network() -> Iterator[dict[str, Any]]:
    for institution in Institution.objects.select_related("parent").order_by("pk"):
        yield _organization(institution)
        location = _location(institution)
        if location:
            yield location
    for department in Department.objects.select_related("institution").order_by("pk"):
        yield _clean(
            {
                "resourceType": "HealthcareService",
                "id": f"{department.institution.code}-{department.code}"[:64],
                "identifier": [
                    {
                        "system": f"http://lianxin.example/id/department/{department.institution.code}",
                        "value": department.code,
                    }
                ],
                "active": True,
                "providedBy": {
                    "reference": f"Organization/{department.institution.code}",
                    "display": department.institution.name,
                },
                "specialty": [{"coding": [{"system": SPECIALTIES, "code": department.specialty}]}]
                if department.specialty
                else [],
                "name": department.name,
            }
        )
    for practitioner in Practitioner.objects.order_by("pk"):
        yield _clean(
            {
                "resourceType": "Practitioner",
                "id": practitioner.code,
                "identifier": [
                    {"system": "http://lianxin.example/id/practitioner", "value": practitioner.code},
                    *(
                        [{"system": "http://lianxin.example/id/licence", "value": practitioner.licence_no}]
                        if practitioner.licence_no
                        else []
                    ),
                ],
                "active": True,
                "name": [{"text": practitioner.name}],
                "gender": practitioner.sex if practitioner.sex in ("male", "female") else "unknown",
            }
        )
    for post in Post.objects.select_related("practitioner", "institution", "department").order_by("pk"):
        yield _clean(
            {
                "resourceType": "PractitionerRole",
                "id": f"post-{post.pk}",
                "active": post.until is None,
                "period": _clean(
                    {
                        "start": post.since.isoformat() if post.since else "",
                        "end": post.until.isoformat() if post.until else "",
                    }
                ),
                "practitioner": {
                    "reference": f"Practitioner/{post.practitioner.code}",
                    "display": post.practitioner.name,
                },
                "organization": {
                    "reference": f"Organization/{post.institution.code}",
                    "display": post.institution.name,
                },
                "code": [{"coding": [{"system": ROLES, "code": post.role}]}],
                "specialty": [{"coding": [{"system": SPECIALTIES, "code": post.department.specialty}]}]
                if post.department and post.department.specialty
                else [],
                "healthcareService": [
                    {
                        "reference": "HealthcareService/"
                        + f"{post.institution.code}-{post.department.code}"[:64]
                    }
                ]
                if post.department
                else [],
            }
        )


def _clean(resource: dict[str, Any]) -> dict[str, Any]:
    """Without empty members (FHIR has none)."""
    return {k: v for k, v in resource.items() if v not in ("", None, [], {})}


def _organization(institution: Institution) -> dict[str, Any]:
    identifiers = [{"system": "http://lianxin.example/id/institution", "value": institution.code}]
    if institution.uscc:
        identifiers.append({"system": "http://lianxin.example/id/uscc", "value": institution.uscc})
    return _clean(
        {
            "resourceType": "Organization",
            "id": institution.code,
            "identifier": identifiers,
            "active": institution.active,
            "type": [
                {"coding": [{"system": KINDS, "code": institution.kind}]},
                {"coding": [{"system": TIERS, "code": institution.tier}]},
            ],
            "name": institution.name,
            "alias": [a for a in (institution.short_name, institution.name_en) if a],
            "telecom": [{"system": "phone", "value": institution.phone}] if institution.phone else [],
            "address": [{"text": institution.address}] if institution.address else [],
            "partOf": {"reference": f"Organization/{institution.parent.code}"} if institution.parent else {},
        }
    )


def _location(institution: Institution) -> dict[str, Any] | None:
    if institution.lon is None or institution.lat is None:
        return None
    return _clean(
        {
            "resourceType": "Location",
            "id": institution.code,
            "status": "active" if institution.active else "inactive",
            "name": institution.name,
            "position": {"longitude": float(institution.lon), "latitude": float(institution.lat)},
            "managingOrganization": {"reference": f"Organization/{institution.code}"},
        }
    )
