"""What other systems are told of changes of the record: people's data, reports, referrals, bookings; composed for each receiver.

The record is read as a log (``record.feed``), a slice at a time; the messages of a slice and how far the receiver was told are
committed together, so a crash repeats the slice and nothing is lost or doubled.  A receiver hears what it ``wants`` and its client may see
at this moment (relationship, source, consent and SMART scopes): people its own institutions have registered, reports about
patients that are open to it, referrals and bookings it is a party of.  What it sent itself is not sent back.  Every message is audited
as an export.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from django.db import connection, transaction

from lianxin.access import audit, seal, tokens
from lianxin.access.scope import Scope
from lianxin.exchange.ihe import identifiers, pixm
from lianxin.exchange.v2 import answers, outbound_mapping, peers
from lianxin.exchange.v2.errors import Refused
from lianxin.exchange.v2.models import WAITING, Peer, V2Message
from lianxin.exchange.v2.outbound_frame import full, packed
from lianxin.exchange.v2.outbound_identity import cx, living_of, registered
from lianxin.exchange.v2.outbound_mapping import Rule
from lianxin.exchange.v2.outbound_values import moment
from lianxin.exchange.v2.writing import instant
from lianxin.index import registry
from lianxin.index.models import Person
from lianxin.network.models import Institution
from lianxin.record import feed, persons, rows, search, store, text, visible
from lianxin.record.feed import Change
from lianxin.record.keys import ref_key
from lianxin.standards import clock

SLICE = 200  # changes looked at in one transaction
STRIDE = 50_000  # numbers looked through in one transaction when few of them are wanted
PATIENT_EVENTS = ("A04", "A08", "A31P")
"""Demographics of people it knows: as A04 the first time and A08 after, as A08 always, or as A31."""
TYPES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(PATIENT_EVENTS, ("Patient",)),
    "ORU": ("DiagnosticReport",),
    "REF": ("ServiceRequest", "Task"),
    "SIU": ("Appointment",),
}
"""What a receiver may want to hear, and the changes that may make it."""
TOLD_REPORTS = (
    "partial",
    "preliminary",
    "final",
    "amended",
    "corrected",
    "appended",
    "cancelled",
    "entered-in-error",
)
_RECORD = sorted(TYPES)
_INSTITUTION = "http://lianxin.example/id/institution"
_WHY = "the receiver's institution has registered them, or a relationship was checked"


def compose(watch: feed.Watch) -> int:
    """Write down what is to be told, for every receiver; returns how many changes were looked at."""
    with connection.cursor() as own:
        upto = watch.look(own)
    waiting = Peer.objects.filter(active=True, told_rid__lt=upto, wants__overlap=_RECORD).exclude(host="")
    return sum(_compose_for(pk, upto) for pk in waiting.values_list("pk", flat=True))


def begin_record() -> int:
    """The change a new receiver begins after: it is not told of the past."""
    with connection.cursor() as cur:
        return feed.last_number(cur)


def follows(wants: list[str]) -> bool:
    """Whether a receiver of these ``wants`` is told of changes of the record."""
    return bool(set(wants) & set(TYPES))


@dataclass
class _Slice:
    """Changes on their way to one receiver, with what was read of them once for all."""

    cur: Any
    peer: Peer
    scope: Scope
    codes: set[str]  # of the receiver's institutions
    bodies: dict[int, dict[str, Any]] = field(default_factory=dict)
    before: dict[int, dict[str, Any]] = field(default_factory=dict)
    linked: dict[int, dict[str, Any]] = field(default_factory=dict)
    people: dict[int, tuple[dict[str, Any], list[Any]] | None] = field(default_factory=dict)
    made: list[V2Message] = field(default_factory=list)
    audited: list[audit.Entry] = field(default_factory=list)


def _compose_for(pk: int, upto: int) -> int:
    with transaction.atomic(), connection.cursor() as own:
        peer = (
            Peer.objects.select_for_update(skip_locked=True, of=("self",))
            .select_related("client")
            .filter(pk=pk)
            .first()
        )
        if peer is None or peer.told_rid >= upto or full(pk):
            return 0
        cur = rows.server_cursor(own)
        try:
            scope = peers.scope_of(cur, peer)
        except Refused:  # its client was switched off: what happens meanwhile is told when it is on again
            return 0
        types = sorted({t for want in peer.wants for t in TYPES.get(want, ())})
        found, reached = feed.changes(cur, peer.told_rid, min(upto, peer.told_rid + STRIDE), SLICE, types)
        if found:
            codes = Institution.objects.filter(pk__in=scope.institution_ids).values_list("code", flat=True)
            _tell(_Slice(cur, peer, scope, set(codes)), found)
        Peer.objects.filter(pk=pk).update(told_rid=reached)
        return len(found) or int(reached < upto)


def _tell(part: _Slice, found: list[Change]) -> None:
    """Messages about the changes a receiver may hear of."""
    visible_now = _visible(part, found)
    told = [c for c in found if not c.deleted and c.key in visible_now and c.person_id is not None]
    earlier = feed.before(
        part.cur, [c for c in told if c.rtype != "Patient" and c.rtype != "DiagnosticReport"]
    )
    part.bodies = _bodies(part.cur, [c.rid for c in told])
    part.before = {
        rid: b
        for rid, b in zip(earlier, _in_order(part.cur, [c.rid for c in earlier.values()]), strict=True)
        if b
    }
    _fetch(part, "Observation")
    _fetch(part, "ServiceRequest")
    own = {c.rid for c in told if c.institution_id in part.scope.institution_ids}
    mine = registered(
        part.scope, {c.person_id for c in told if c.rtype == "Patient" and c.person_id is not None}
    )
    for change in told:
        if change.rtype == "Patient":
            if change.rid not in own and change.person_id in mine:
                _tell_patient(part, change)
        elif change.rtype == "DiagnosticReport":
            if change.rid not in own:
                _tell_report(part, change)
        else:
            _tell_by_rule(part, change)
    V2Message.objects.bulk_create(part.made, ignore_conflicts=True)
    audit.write_many(part.audited, cursor=part.cur)


def _visible(part: _Slice, found: list[Change]) -> set[int]:
    """Keys of those the receiver may see now: judged as the FHIR door judges them, one statement a type."""
    seen: set[int] = set()
    for rtype, group in itertools.groupby(sorted(found, key=lambda c: c.rtype), key=lambda c: c.rtype):
        if tokens.allows(part.scope, rtype, "r"):
            keys = sorted({c.key for c in group})
            # another institution's Patient is not opened: what is told is the platform's own word on people it has registered
            seen |= set(keys) if rtype == "Patient" else visible.seen(part.cur, part.scope, rtype, keys)
    return seen


def _bodies(cur: Any, rids: list[int]) -> dict[int, dict[str, Any]]:
    return {rid: body for rid, body in zip(rids, _in_order(cur, rids), strict=True) if body}


def _in_order(cur: Any, rids: list[int]) -> list[dict[str, Any]]:
    cur.execute(
        "SELECT rid, rtype, body FROM record_resource WHERE rid = ANY(%s::bigint[])"
        " UNION ALL SELECT rid, rtype, body FROM record_history WHERE rid = ANY(%s::bigint[])",
        [rids, rids],
    )
    read = {
        rid: text.parse(store.opened(rtype, body).encode()) for rid, rtype, body in cur.fetchall() if body
    }
    return [read.get(rid, {}) for rid in rids]


def _person(part: _Slice, person_id: int) -> tuple[dict[str, Any], list[Any]] | None:
    """The platform's word on a person and the numbers the receiver may see; None when the person is not open to it."""
    if person_id not in part.people:
        living = living_of(person_id)
        person = Person.objects.unscoped(_WHY).filter(pk=living).first()
        told: tuple[dict[str, Any], list[Any]] | None = None
        if person is not None and tokens.allows(part.scope, "Patient", "r"):
            golden = persons.virtual(part.cur, part.scope, person.number)
            if golden is not None:
                held = pixm.visible_to(part.cur, part.scope, identifiers.of_person(part.cur, living), set())
                told = (registry.golden_patient(person), cx(held)) if held else None
        part.people[person_id] = told
    return part.people[person_id]


# ------------------------------------------------------------------------------------------------------- what is told


def _tell_patient(part: _Slice, change: Change) -> None:
    """A person's data changed elsewhere: told when they are other than what was told last."""
    assert change.person_id is not None
    known = _person(part, change.person_id)
    if known is None:
        return
    event = next(e for e in PATIENT_EVENTS if e in part.peer.wants)
    patient, numbers = known
    context = {"patient": patient, "numbers": numbers, "now": instant(change.updated)}
    plain = outbound_mapping.load("patient", part.peer.version, "ADT^A08").segments(
        {**context, "event": "", "now": ""}
    )
    content = seal.blind("\r".join(plain), "v2-content")
    last = _last_content(part, change.person_id)
    if last == content:
        return
    kind = "ADT^A31" if event == "A31P" else "ADT^A04" if event == "A04" and last is None else "ADT^A08"
    _write(part, change, "patient", kind, {**context, "event": kind[4:]}, content)


def _last_content(part: _Slice, person_id: int) -> bytes | None:
    for one in reversed(part.made):
        if one.person_id == person_id and one.content is not None:
            return bytes(one.content)
    kept = (
        V2Message.objects.filter(peer=part.peer, person_id=person_id, content__isnull=False)
        .order_by("-pk")
        .values_list("content", flat=True)
        .first()
    )
    return bytes(kept) if kept is not None else None


def _tell_report(part: _Slice, change: Change) -> None:
    """A report that was issued elsewhere, with those of its results the receiver may see."""
    assert change.person_id is not None
    report = part.bodies.get(change.rid, {})
    known = _person(part, change.person_id)
    if known is None or report.get("status") not in TOLD_REPORTS:
        return
    patient, numbers = known
    orders = _linked(part, "ServiceRequest", report)
    context = {
        "patient": patient, "numbers": numbers, "report": report, "order": orders[0] if orders else {},
        "results": _results(_linked(part, "Observation", report)),
    }  # fmt: skip
    _write(part, change, "result", "ORU^R01", context)


def _results(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry a value: an Observation's own, and each of its components with a sub-id."""
    out: list[dict[str, Any]] = []
    for one in found:
        if any(k.startswith("value") for k in one) or not one.get("component"):
            out.append(one)
        for number, part in enumerate(one.get("component", []), 1):
            same: dict[str, Any] = {
                k: one[k] for k in ("status", "effectiveDateTime", "performer") if k in one
            }
            out.append({**same, **part, "sub": str(number)})
    return out


def _refer(rtype: str, body: dict[str, Any]) -> list[str]:
    """What of ``rtype`` a resource that is told of refers to."""
    name = "result" if rtype == "Observation" else "basedOn"
    given = [str(r.get("reference", "")) for r in body.get(name, []) if isinstance(r, dict)]
    return [r for r in given if r.startswith(f"{rtype}/")]


def _fetch(part: _Slice, rtype: str) -> None:
    """Read what all resources of a slice refer to, in one statement: those the receiver may see now."""
    keys = sorted({ref_key(r) for body in part.bodies.values() for r in _refer(rtype, body)})
    if not keys or not tokens.allows(part.scope, rtype, "r"):
        return
    condition, args = visible.condition(part.scope, "r", rtype)
    part.cur.execute(
        f"SELECT r.key, r.body FROM record_resource r WHERE r.key = ANY(%s::bigint[]) AND r.rtype = %s AND NOT r.deleted AND {condition}",
        [keys, rtype, *args],
    )
    for key, body in part.cur.fetchall():
        part.linked[key] = text.parse(store.opened(rtype, body).encode())


def _linked(part: _Slice, rtype: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """What a resource refers to, in its order."""
    keys = dict.fromkeys(ref_key(r) for r in _refer(rtype, body))
    return [part.linked[key] for key in keys if key in part.linked]


def _tell_by_rule(part: _Slice, change: Change) -> None:
    """A step of a referral or a booking, to a receiver that is a party of it."""
    assert change.person_id is not None
    now, then = part.bodies.get(change.rid, {}), part.before.get(change.rid)
    request, task = now if change.rtype == "ServiceRequest" else {}, now if change.rtype == "Task" else {}
    if not request:
        request = next(iter(_linked(part, "ServiceRequest", now)), {})
    parties = _parties(now, request)
    if parties["requester"] is None and request.get("id"):
        offers = search.search(
            part.cur, part.scope, "Task", [("based-on", f"ServiceRequest/{request['id']}"), ("_count", "1")]
        )
        for offer in offers.entries:
            parties["requester"] = text.parse(offer.body.encode()).get("requester")
    mine = {name for name, party in parties.items() if _code(party) in part.codes}
    rule = next(
        (r for r in outbound_mapping.rules()[change.rtype] if mine & set(r.tell) and r.fits(now, then)), None
    )
    known = _person(part, change.person_id) if rule else None
    if rule is None or known is None:
        return
    patient, numbers = known
    _write(part, change, rule.mapping, rule.kind, {
        "patient": patient, "numbers": numbers, "request": request, "task": task,
        "appointment": now if change.rtype == "Appointment" else {}, **_about(rule, now, request), **parties,
    })  # fmt: skip


def _about(rule: Rule, now: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    """What of a referral's event needs more than a path: status, diagnoses, remarks, times."""
    coded = [c for c in request.get("reasonCode", []) if isinstance(c, dict)]
    diagnoses = [c for c in coded if any("icd-10" in str(k.get("system", "")) for k in c.get("coding", []))]
    said = (now.get("statusReason") or {}).get("text")
    start, end = (str(now.get(k, "")) for k in ("start", "end"))
    times = ("", "", "", _stamp(start), _stamp(end)) if start else ""
    return {
        "status": tuple(rule.rf1.split("^")) if rule.rf1 else "",
        "reason": tuple(rule.reason.split("^")) if rule.reason else "",
        "diagnoses": diagnoses,
        "notes": [*([{"text": said}] if said else []), *request.get("note", [])],
        "times": times,
    }


def _stamp(given: str) -> str:
    return str(moment([given], ""))


def _parties(now: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    """The institutions of a referral: who asked (``requester``) and who was asked (``owner``)."""
    owner = now.get("owner") or next(iter(request.get("performer", [])), None)
    requester = now.get("requester") if now.get("resourceType") == "Task" else None
    for one in now.get("participant", []):
        actor = one.get("actor") or {}
        if (actor.get("identifier") or {}).get("system") == _INSTITUTION:
            if any(c.get("code") == "AUT" for t in one.get("type", []) for c in t.get("coding", [])):
                requester = actor  # who booked
            else:
                owner = actor
    if requester is None:
        given = request.get("requester") or {}
        requester = given if str(given.get("reference", "")).startswith("Organization/") else None
    return {"owner": owner, "requester": requester}


def _code(party: dict[str, Any] | None) -> str:
    """The code of an institution that a reference names."""
    if not party:
        return ""
    kind, _, code = str(party.get("reference", "")).rpartition("/")
    return code if kind.endswith("Organization") else str((party.get("identifier") or {}).get("value", ""))


def _write(
    part: _Slice, change: Change, name: str, kind: str, context: dict[str, Any], content: bytes | None = None
) -> None:
    """Keep one message, and its line of the audit."""
    peer = part.peer
    mapping = outbound_mapping.load(name, peer.version, kind)
    code, event = kind.split("^")
    own_id = answers.control_id()
    shape = (code, event) if peer.version in ("2.3", "2.3.1") else (code, event, mapping.structure)
    body = packed(peer, shape, own_id, mapping.segments(context))
    part.made.append(
        V2Message(
            peer=peer, rid=change.rid, kind=kind, person_id=change.person_id, control_id=own_id, body=seal.seal_bytes(body),
            state=WAITING, at=clock.now(), content=content,
        )
    )  # fmt: skip
    part.audited.append(
        audit.entry(
            part.scope, "export", person_id=change.person_id, what=f"HL7 v2 {kind}",
            detail={"peer": peer.pk, "of": f"{change.rtype}/{change.id}/_history/{change.version}"},
        )
    )  # fmt: skip
