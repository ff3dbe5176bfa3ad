"""Opening a set on a patient: the scan that refuses what is expired, recalled or not released, and the link a recall follows.

Published as ``Device`` (the set in this turn: load, expiry, UDI) and ``Procedure`` with ``usedReference``.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction

from lianxin.access import audit, relationships
from lianxin.access.scope import Scope
from lianxin.duty.errors import NotAllowed, Refused
from lianxin.index.models import Person
from lianxin.network.models import Institution, Practitioner
from lianxin.record import publish as record
from lianxin.regional.sterile import scan
from lianxin.regional.sterile.models import Opened, Set
from lianxin.standards import clock
from lianxin.standards.text import T

ID = "http://lianxin.example/id"


def open_on(by: Scope, code: str, person_id: int, procedure: str, key: str) -> Opened:
    """Open a set on a person. Raises NotAllowed with the reason at the scan, NoRelationship for a person one has no business with."""
    by.demand("use_sterile")
    if by.institution_id is None:
        raise NotAllowed(T("请先选择执业机构（岗位）", "Choose the post you act in first"))
    relationships.require(by, person_id)
    if not procedure.strip():
        raise Refused({"procedure": T("请填写用于什么操作。", "Write what it is used for.")})
    codes = scan.codes_of(code)
    if len(codes) != 1:
        raise Refused({"code": T("请扫描一个器械包。", "Scan one set.")})
    with transaction.atomic():
        done = scan.change(by, "open", codes, key, note=procedure.strip()[:200])
        if not done:
            return _again(by, codes, person_id, key)
        row = Set.objects.select_related("type", "load").get(pk=done.pop())
        made: Opened = Opened.objects.create(
            person_id=person_id, set=row, turn=row.turn, load=row.load, institution_id=by.institution_id, procedure=procedure.strip()[:120],
            by=by.name[:80], account_id=by.account_id, practitioner_id=by.practitioner_id, at=clock.now(), resource=f"KB-{row.code}-{row.turn}",
        )  # fmt: skip
        publish(made)
        audit.write(
            by,
            "create",
            person_id=person_id,
            what=f"sterile set {row.code}",
            detail={"load": made.load.number},
        )
    return made


def _again(by: Scope, codes: list[str], person_id: int, key: str) -> Opened:
    answer = scan.answers(by, scan.MOVES["open"], codes, set(), key)[0]
    if answer.ok and answer.set is not None:
        rows = Opened.objects.unscoped("the result of the same request").filter(
            set=answer.set, person_id=person_id
        )
        found: Opened | None = rows.order_by("-turn").first()
        if found is not None:
            return found
    raise NotAllowed(answer.text)


def publish(row: Opened) -> None:
    """Write both resources in the transaction of the scan."""
    person = Person.objects.unscoped("the row's own person").get(pk=row.person_id)
    where = Institution.objects.get(pk=row.institution_id)
    doctor = Practitioner.objects.filter(pk=row.practitioner_id).first() if row.practitioner_id else None
    thing = row.set
    device: dict[str, Any] = {
        "resourceType": "Device",
        "id": f"{thing.code}-{row.turn}",
        "identifier": [{"system": f"{ID}/sterile-set", "value": thing.code}],
        "status": "active",
        "lotNumber": row.load.number,
        "expirationDate": f"{thing.expires_on}",
        "deviceName": [{"name": thing.type.name, "type": "user-friendly-name"}],
        "owner": {"reference": f"Organization/{thing.owner.code}"},
    }
    if thing.udi:
        device["udiCarrier"] = [{"deviceIdentifier": thing.udi, "carrierHRF": thing.udi}]
    procedure = {
        "resourceType": "Procedure",
        "id": row.resource,
        "identifier": [{"system": f"{ID}/sterile-opened", "value": row.resource}],
        "status": "completed",
        "code": {"text": row.procedure},
        "subject": {"reference": f"Patient/{person.number}"},
        "performedDateTime": row.at.astimezone(clock.ZONE).isoformat(timespec="seconds"),
        "performer": [
            {
                "actor": {"reference": f"Practitioner/{doctor.code}", "display": doctor.name}
                if doctor
                else {"reference": f"Organization/{where.code}", "display": where.name},
                "onBehalfOf": {"reference": f"Organization/{where.code}", "display": where.name},
            }
        ],
        "usedReference": [
            {"reference": f"Device/{thing.code}-{row.turn}", "display": f"{thing.type.name} {thing.code}"}
        ],
    }
    record.publish([device], person_id=None, institution_id=row.load.institution_id)
    record.publish([procedure], person_id=row.person_id, institution_id=row.institution_id)
