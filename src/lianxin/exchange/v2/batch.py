"""What mapped messages become, many at once: one look-up of all their patients, one of all resources they speak of.

Each message is understood as if it were alone, after those before it: what it says of a patient goes over what is known, its mapping
gives resources with ids of their own, and each meets the one that is stored under its id.  A message that was made before the one
that a resource was last changed by changes it no more (the sender is told).  Nothing is written here: the inbox stores the writes.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from lianxin.access import tokens
from lianxin.access.scope import Scope
from lianxin.exchange.feeds.inbox import Draft
from lianxin.exchange.v2 import errors, patients
from lianxin.exchange.v2 import mapping as mappings
from lianxin.exchange.v2.errors import Place, Refused
from lianxin.exchange.v2.kinds import Outcome
from lianxin.exchange.v2.message import Message, Segment
from lianxin.index.models import SourceRecord
from lianxin.record import definitions, keys, persons, store, text, validate
from lianxin.record.problems import Problem
from lianxin.record.store import Write
from lianxin.standards.text import T

Resource = dict[str, Any]
Number = tuple[int, str, str]
"""Institution, system and value of a patient's number."""
LATE = T(
    "本条的生成时间早于已入库的同一资源，{r} 未改动（原文已保存）。",
    "This message was made before the one that is stored: {r} was left as it is (the message is kept).",
)
BESIDE = {
    "ADT": (
        "Encounter",
        "Condition",
        "AllergyIntolerance",
        "Coverage",
        "RelatedPerson",
        "Procedure",
        "Account",
    )
}
"""What a patient feed tells beside the patient: left out, and said so, when its sender may send patients only."""


@dataclass
class Item:
    """One mapped message; ``said`` is its Patient by PID, known to its sender as ``number``."""

    message: Message
    scope: Scope
    institution_id: int
    default_system: str
    sent_at: dt.datetime | None
    mapping: mappings.Mapping
    pid: Segment | None = None
    said: Resource | None = None
    number: Number | None = None
    batch: Batch | None = None
    mapped: mappings.Mapped | None = None
    failure: Refused | Problem | None = None


@dataclass(slots=True)
class Stored:
    """A resource as it stands, or as it will after the messages before: ``body`` None when there is none (or it was deleted)."""

    body: Resource | None = None
    version: int = 0
    sent_at: dt.datetime | None = None
    made: bool = False  # there is a row, if only a deleted one


@dataclass(slots=True)
class Known:
    """A patient by its number: the id of its Patient, stored or to be made."""

    patient_id: str
    person_id: int | None = None
    table: int | None = None  # a registration that came as a table and becomes this Patient


@dataclass
class Batch:
    """What is known of the patients and resources of some messages."""

    patients: dict[Number, Known] = field(default_factory=dict)
    stored: dict[tuple[str, str], Stored] = field(default_factory=dict)
    allowed: dict[tuple[int, str], bool] = field(default_factory=dict)


def item_of(
    message: Message, scope: Scope, peer_id: int, default_system: str, sent_at: dt.datetime | None
) -> Item:
    """A message ready to be understood; Refused when its patient cannot be read."""
    assert scope.institution_id is not None
    found = mappings.find(message, peer_id)
    item = Item(message, scope, scope.institution_id, default_system, sent_at, found)
    item.pid = message.first("PID")
    if item.pid is None:
        raise Refused(errors.SEQUENCE, T("缺少 PID 段。", "The segment PID is missing."), Place("PID"))
    item.said = patients.patient_of(message, item.pid, scope.institution_id, default_system, found.patient)
    number = patients.local_number(item.said["identifier"])
    assert number is not None
    item.number = (scope.institution_id, *number)
    return item


def prepare(cur: Any, items: Sequence[Item]) -> None:
    """Look up everything that the messages are about."""
    batch = Batch()
    _patients(cur, batch, list(dict.fromkeys(i.number for i in items if i.number)))
    for item in items:
        item.batch, item.failure, item.mapped = batch, None, None
        assert item.number is not None
        reference = f"Patient/{batch.patients[item.number].patient_id}"
        try:
            item.mapped = item.mapping.resources(
                item.message, reference, mappings.context_of(item.institution_id)
            )
        except (Refused, Problem) as failure:
            item.failure = failure
    wanted = {(r["resourceType"], r["id"]) for i in items if i.mapped is not None for r in i.mapped.resources}
    _resources(cur, batch, sorted(wanted - batch.stored.keys()))
    _sent(cur, batch, {name for item in items for name in _changing(item, batch)})


_IDENTIFIER = [s.number for s in definitions.sources("Patient", "identifier")]
_PATIENTS = (
    "SELECT g.n, r.id, r.version, r.body, r.person_id FROM unnest(%s::int[], %s::bigint[], %s::int[]) AS g(n, k, i)"
    " JOIN record_resource r ON r.keys @> ARRAY[g.k] AND r.rtype = 'Patient' AND r.institution_id = g.i AND NOT r.deleted"
    " ORDER BY r.rid"
)
_TABLES = (
    "SELECT g.n, s.id, s.person_id, coalesce(s.patient_id, '') FROM unnest(%s::int[], %s::bigint[], %s::text[], %s::text[])"
    " AS g(n, i, y, l) JOIN index_sourcerecord s ON s.institution_id = g.i AND s.system = g.y AND s.local_id = g.l ORDER BY s.id DESC"
)


def _patients(cur: Any, batch: Batch, numbers: list[Number]) -> None:
    """The Patients that the senders know by these numbers, with their bodies; an id for each that is not there yet."""
    if not numbers:
        return
    asked = [
        (n, keys.key_system_code(source, system, keys.blind(value)), institution)
        for n, (institution, system, value) in enumerate(numbers)
        for source in _IDENTIFIER
    ]
    cur.execute(_PATIENTS, [list(c) for c in zip(*asked, strict=True)], prepare=True)
    for n, patient_id, version, body, person_id in cur.fetchall():
        number = numbers[n]
        resource = text.parse(store.opened("Patient", body).encode())
        if number in batch.patients or not _has(resource, number):
            continue
        batch.patients[number] = Known(patient_id, person_id)
        batch.stored["Patient", patient_id] = Stored(resource, version, None, True)
    rest = [(n, *number) for n, number in enumerate(numbers) if number not in batch.patients]
    if not rest:
        return
    cur.execute(_TABLES, [list(c) for c in zip(*rest, strict=True)], prepare=True)
    for n, source_id, person_id, patient_id in cur.fetchall():
        batch.patients[numbers[n]] = Known(
            patient_id or str(uuid.uuid4()), person_id, None if patient_id else source_id
        )
    for number in numbers:
        known = batch.patients.setdefault(number, Known(str(uuid.uuid4())))
        if ("Patient", known.patient_id) not in batch.stored and known.person_id is None:
            batch.stored["Patient", known.patient_id] = Stored()


def _has(resource: Resource, number: Number) -> bool:
    _, system, value = number
    return any(
        one.get("system") == system and one.get("value") == value for one in resource.get("identifier", [])
    )


def _resources(cur: Any, batch: Batch, names: list[tuple[str, str]]) -> None:
    """Resources as they stand, by type and id."""
    names += [
        ("Patient", known.patient_id)
        for known in batch.patients.values()
        if ("Patient", known.patient_id) not in batch.stored
    ]
    by_key = {keys.ref_key(f"{rtype}/{rid}"): (rtype, rid) for rtype, rid in names}
    if not by_key:
        return
    cur.execute(
        "SELECT key, version, deleted, body FROM record_resource WHERE key = ANY(%s::bigint[])",
        [list(by_key)],
        prepare=True,
    )
    for key, version, deleted, body in cur.fetchall():
        name = by_key[key]
        resource = None if deleted else text.parse(store.opened(name[0], body).encode())
        batch.stored[name] = Stored(resource, version, None, True)
    for name in names:
        batch.stored.setdefault(name, Stored())


_SENT = (
    "SELECT g.n, max(a.sent_at) FROM unnest(%s::int[], %s::text[]) AS g(n, r)"
    " JOIN exchange_arrival a ON a.resources @> ARRAY[g.r] WHERE a.sent_at IS NOT NULL GROUP BY g.n"
)


def _changing(item: Item, batch: Batch) -> Iterator[tuple[str, str]]:
    """What of the stored resources a message would change: only of these it matters when they were said."""
    assert item.number is not None
    assert item.said is not None
    assert item.pid is not None
    name = ("Patient", batch.patients[item.number].patient_id)
    body = batch.stored[name].body
    if body is not None and _bare(patients.overlay(body, item.said, item.pid)) != _bare(body):
        yield name
    for resource in item.mapped.resources if item.mapped else ():
        name = (resource["resourceType"], resource["id"])
        if batch.stored[name].body is not None:
            yield name


def _sent(cur: Any, batch: Batch, names: set[tuple[str, str]]) -> None:
    """When the messages were made that resources were last changed by."""
    found = [(name, batch.stored[name]) for name in sorted(names)]
    if not found:
        return
    shown = [f"{rtype}/{rid}/{stored.version}" for (rtype, rid), stored in found]
    cur.execute(_SENT, [list(range(len(found))), shown], prepare=True)
    for n, sent_at in cur.fetchall():
        found[n][1].sent_at = sent_at


def understand(cur: Any, item: Item) -> Draft:
    """What is to be stored of one message, after those before it."""
    if item.failure is not None:
        raise item.failure
    batch = item.batch
    assert batch is not None
    assert item.number is not None
    known = batch.patients[item.number]
    draft = Draft(person_id=known.person_id, mapping=item.mapped.version if item.mapped else "")
    after: dict[tuple[str, str], Stored] = {}
    _patient(draft, item, batch, known, after)
    if item.mapped is not None:
        draft.warnings += item.mapped.warnings
        for resource, manner in zip(item.mapped.resources, item.mapped.manners, strict=True):
            if _permitted(draft, item, batch, resource["resourceType"]):
                _resource(draft, item, batch, resource, manner, after)

    draft.kept = lambda: batch.stored.update(after)
    if known.table is not None:
        draft.then = lambda cur: _adopt(known)
    draft.extra = Outcome(draft.person_id)
    return draft


def _adopt(known: Known) -> None:
    """What came as a table until now comes as messages from now on: the registration stays the same one."""
    if known.table is not None:
        rows = SourceRecord.objects.unscoped("the same number of the same institution")
        rows.filter(pk=known.table).update(
            system=persons.SYSTEM, local_id=known.patient_id, patient_id=known.patient_id
        )
        known.table = None


def _patient(
    draft: Draft, item: Item, batch: Batch, known: Known, after: dict[tuple[str, str], Stored]
) -> None:
    name = ("Patient", known.patient_id)
    stored = batch.stored.get(name) or Stored()
    said, pid = item.said, item.pid
    assert said is not None
    assert pid is not None
    if stored.body is None:
        method = "update" if stored.made else "create"
        _write(
            draft,
            item,
            Write(method, "Patient", known.patient_id, {**said, "id": known.patient_id}),
            after,
            stored,
        )
        return
    if item.message.kind[0] != "ADT" and _replaced(stored.body):
        return  # its number was joined into another: what still comes under it belongs there, and says nothing new of it
    resource = {**patients.overlay(stored.body, said, pid), "id": known.patient_id}
    if _bare(resource) == _bare(stored.body):
        return
    if _late(item, stored):
        draft.warnings.append(LATE.format(r="Patient"))
        return
    _write(draft, item, Write("update", "Patient", known.patient_id, resource), after, stored)


def _replaced(patient: Resource) -> bool:
    return patient.get("active") is False and any(
        one.get("type") == "replaced-by" for one in patient.get("link", [])
    )


def _resource(
    draft: Draft,
    item: Item,
    batch: Batch,
    resource: Resource,
    manner: mappings.Manner,
    after: dict[tuple[str, str], Stored],
) -> None:
    rtype, rid = resource["resourceType"], resource["id"]
    stored = after.get((rtype, rid)) or batch.stored[rtype, rid]
    if stored.body is None:
        method = "update" if stored.made else "create"
        _write(draft, item, Write(method, rtype, rid, resource), after, stored)
        return
    merged = mappings.merge(stored.body, resource, manner)
    if merged is stored.body or _bare(merged) == _bare(stored.body):
        return
    if _late(item, stored, resource):
        draft.warnings.append(LATE.format(r=rtype))
        return
    _write(draft, item, Write("update", rtype, rid, {**merged, "id": rid}), after, stored)


def _late(item: Item, stored: Stored, resource: Resource | None = None) -> bool:
    """Whether what is stored was said later: by the time of the result (OBR-22, OBX-14), else by that of the message (MSH-7)."""
    old = _instant((stored.body or {}).get("issued", ""))
    new = _instant((resource or {}).get("issued", ""))
    if old is not None and new is not None and old != new:
        return new < old
    return item.sent_at is not None and stored.sent_at is not None and item.sent_at < stored.sent_at


def _instant(value: str) -> dt.datetime | None:
    try:
        found = dt.datetime.fromisoformat(value) if value else None
    except ValueError:
        return None
    return found if found is not None and found.tzinfo is not None else None


def _bare(resource: Resource) -> Resource:
    return {k: v for k, v in resource.items() if k not in ("meta", "text", "id")}


def _write(
    draft: Draft, item: Item, write: Write, after: dict[tuple[str, str], Stored], stored: Stored
) -> None:
    """Have a resource stored; what a vendor's values make of it is looked at here, so that one bad message is refused alone."""
    resource = write.resource
    assert resource is not None
    if write.rtype != "Patient":
        issues, _ = validate.check(resource)
        if issues:
            raise Problem(422, *issues)
    write.trusted = True
    draft.writes.append(write)
    name = (write.rtype, write.id or "")
    draft.writes = [w for w in draft.writes if w is write or (w.rtype, w.id) != name]
    after[name] = Stored(resource, stored.version + 1, item.sent_at, True)


def _permitted(draft: Draft, item: Item, batch: Batch, rtype: str) -> bool:
    """Whether the sender may send this type; what a patient feed tells beside the patient is left out, everything else refused."""
    name = (id(item.scope), rtype)
    may = batch.allowed.get(name)
    if may is None:
        may = batch.allowed[name] = all(tokens.allows(item.scope, rtype, letter) for letter in "cu")
    if may:
        return True
    if rtype in BESIDE.get(item.message.kind[0], ()):
        told = T("该系统的授权范围不含 {r}，未写入。", "This system may not send {r}: it was left out.")
        draft.warnings.append(told.format(r=rtype))
        return False
    raise Refused(
        errors.INTERNAL,
        T(
            "该系统的授权范围不含 {r}，请在平台增加授权。",
            "The permissions of this system do not include {r}.",
        ).format(r=rtype),
    )
