"""A hospital that speaks FHIR R4 scheduling: its ``$book``, a search by our key, ``$cancel``, and its Slots."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode, urlsplit

from lianxin.pool import publish
from lianxin.record import values
from lianxin.resident.scheduling import calling
from lianxin.resident.scheduling.adapters import KEYS, Answer, Theirs, Unclear, Visit
from lianxin.resident.scheduling.models import BookingSystem
from lianxin.standards.text import T, Text

PAGE = 200
MOST_PAGES = 500
STANDS = frozenset({"booked", "arrived", "checked-in", "fulfilled"})
WAITS = frozenset({"pending", "proposed", "waitlist"})
GONE = frozenset({"busy-unavailable", "entered-in-error"})
LATER = frozenset({408, 423, 425, 429, 500, 502, 503, 504})


class Fhir:
    """Calls of one system."""

    def __init__(self, system: BookingSystem) -> None:
        self.system = system
        self.base = system.url.rstrip("/")
        self._mark = ""

    def _call(
        self, method: str, url: str, body: dict[str, Any] | None = None, key: str = ""
    ) -> calling.Reply:
        headers = {"Accept": "application/fhir+json"}
        if self.system.secret:
            headers["Authorization"] = f"Bearer {self.system.bearer}"
        if body is not None:
            headers["Content-Type"] = "application/fhir+json"
        if key:
            headers["Idempotency-Key"] = key
        raw = json.dumps(body, ensure_ascii=False).encode() if body is not None else None
        return calling.call(method, url, headers, raw, self.system.seconds)

    def ask(self, key: str) -> Answer | None:
        """Look for the Appointment with our key."""
        query = urlencode({"identifier": f"{KEYS}|{key}"})
        reply = self._call("GET", f"{self.base}/Appointment?{query}")
        if reply.status != 200 or reply.body.get("resourceType") != "Bundle":
            raise Unclear(_http(reply.status), sent=False)
        found = [a for a in _of(reply.body, "Appointment") if _has(a, key)]
        if not found:
            return None
        return _said(found[0])

    def book(self, visit: Visit) -> Answer:
        """``$book`` with the Appointment as a resource."""
        reply = self._call("POST", f"{self.base}/Appointment/$book", _parameters(visit), visit.key)
        if reply.status in (200, 201):
            found = _of(reply.body, "Appointment")
            if not found:
                raise Unclear(T("应答中没有 Appointment", "The answer holds no Appointment"))
            return _said(found[0])
        if reply.status in LATER or reply.status < 400:
            raise Unclear(_http(reply.status), sent=reply.status not in (423, 425, 429))
        if reply.status in (401, 403):
            raise Unclear(_http(reply.status), sent=False)
        return Answer(False, why=_why(reply))

    def cancel(self, visit: Visit, theirs: str) -> Answer:
        """``$cancel``; 404 and 410 mean that it is not there."""
        if not theirs:
            known = self.ask(visit.key)
            if known is None or not known.yes:
                return Answer(True)
            theirs = known.theirs
        reply = self._call(
            "POST", f"{self.base}/Appointment/{theirs}/$cancel",
            {"resourceType": "Parameters", "parameter": [{"name": "reason", "valueString": visit.note or "cancelled"}]},
            f"{visit.key}-x",
        )  # fmt: skip
        if reply.status in (200, 204, 404, 410):
            return Answer(True, theirs)
        if reply.status in LATER or reply.status < 400 or reply.status in (401, 403):
            raise Unclear(_http(reply.status))
        return Answer(False, theirs, _why(reply))

    def sessions(self, since: dt.datetime, until: dt.datetime, changed: str) -> Iterator[Theirs]:
        """Their Slots with Schedules, page by page; only links back to their own address are followed."""
        given = [("start", f"ge{since.isoformat()}"), ("start", f"lt{until.isoformat()}")]
        given += [("_include", "Slot:schedule"), ("_count", str(PAGE))]
        if changed:
            given.append(("_lastUpdated", f"ge{changed}"))
        url: str | None = f"{self.base}/Slot?{urlencode(given)}"
        latest = changed
        for _ in range(MOST_PAGES):
            if url is None:
                break
            reply = self._call("GET", url)
            if reply.status != 200 or reply.body.get("resourceType") != "Bundle":
                raise Unclear(_http(reply.status), sent=False)
            schedules = {f"Schedule/{s.get('id')}": s for s in _of(reply.body, "Schedule")}
            for slot in _of(reply.body, "Slot"):
                latest = max(latest, str((slot.get("meta") or {}).get("lastUpdated") or ""))
                yield _session(slot, schedules)
            url = self._next(reply.body)
        else:
            raise Unclear(T("号源列表过长", "Their list of Slots is too long"), sent=False)
        self._mark = latest

    def mark(self) -> str:
        """The latest ``lastUpdated`` that was read (asked for again inclusively: taking a Slot twice changes nothing)."""
        return self._mark

    def _next(self, body: dict[str, Any]) -> str | None:
        for one in body.get("link") or []:
            if isinstance(one, dict) and one.get("relation") == "next":
                url = str(one.get("url") or "")
                if url.startswith(("?", "Slot?")):
                    return f"{self.base}/Slot?{url.partition('?')[2]}"
                mine, theirs = urlsplit(self.base), urlsplit(url)
                if (mine.scheme, mine.netloc) == (theirs.scheme, theirs.netloc):
                    return url
                raise Unclear(
                    T("下一页链接指向别处", "The link to the next page leads elsewhere"), sent=False
                )
        return None


def _http(status: int) -> Text:
    return T("医院系统应答 HTTP {s}", "The hospital's system answered HTTP {s}").format(s=str(status))


def _of(bundle: dict[str, Any], rtype: str) -> list[dict[str, Any]]:
    if bundle.get("resourceType") == rtype:
        return [bundle]
    found = []
    for entry in bundle.get("entry") or []:
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if isinstance(resource, dict) and resource.get("resourceType") == rtype:
            found.append(resource)
    for part in bundle.get("parameter") or []:
        if isinstance(part, dict) and isinstance(part.get("resource"), dict):
            found += _of(part["resource"], rtype)
    return found


def _has(appointment: dict[str, Any], key: str) -> bool:
    return any(
        isinstance(i, dict) and i.get("system") == KEYS and i.get("value") == key
        for i in appointment.get("identifier") or []
    )


def _said(appointment: dict[str, Any]) -> Answer:
    status, theirs = str(appointment.get("status") or ""), str(appointment.get("id") or "")[:120]
    if status in STANDS:
        return Answer(True, theirs)
    if status in WAITS:
        raise Unclear(T("医院系统尚在处理", "The hospital's system is still working on it"))
    reason = appointment.get("cancelationReason")
    return Answer(False, theirs, str(reason.get("text") or "") if isinstance(reason, dict) else "")


def _why(reply: calling.Reply) -> str:
    """Their reason in their words, or the status."""
    for issue in reply.body.get("issue") or []:
        if isinstance(issue, dict):
            said = (issue.get("details") or {}).get("text") or issue.get("diagnostics") or issue.get("code")
            if said:
                return str(said)[:200]
    return _http(reply.status).zh


def _parameters(visit: Visit) -> dict[str, Any]:
    end = visit.at + dt.timedelta(minutes=visit.minutes)
    patient = {
        "resourceType": "Patient", "id": "patient",
        "identifier": [{"system": "http://lianxin.example/id/person", "value": visit.number}],
        "name": [{"text": visit.name}], "gender": visit.sex, "birthDate": visit.birth,
        **({"telecom": [{"system": "phone", "value": visit.phone}]} if visit.phone else {}),
    }  # fmt: skip
    appointment = {
        "resourceType": "Appointment", "status": "pending", "contained": [patient],
        "identifier": [{"system": KEYS, "value": visit.key}],
        "extension": [{"url": publish.SEAT_EXTENSION, "valuePositiveInt": visit.seat}],
        "slot": [{"reference": f"Slot/{visit.session}"}], "start": visit.at.isoformat(), "end": end.isoformat(),
        "participant": [{"actor": {"reference": "#patient"}, "status": "accepted"}],
        **({"comment": visit.note} if visit.note else {}),
    }  # fmt: skip
    return {
        "resourceType": "Parameters",
        "parameter": [{"name": "appointment-resource", "resource": appointment}],
    }


def _session(slot: dict[str, Any], schedules: dict[str, dict[str, Any]]) -> Theirs:
    """A Slot as a session; its department and doctor are the Schedule's actors. What cannot be read is told, not skipped."""
    rid = str(slot.get("id") or "")[:80]
    schedule = schedules.get(str((slot.get("schedule") or {}).get("reference") or ""), {})
    department = practitioner = ""
    for actor in schedule.get("actor") or []:
        code, kind = _named(actor if isinstance(actor, dict) else {})
        if kind == "Practitioner":
            practitioner = code
        elif kind in ("HealthcareService", "Location"):
            department = code
    extensions = {e.get("url"): e for e in slot.get("extension") or [] if isinstance(e, dict)}
    numbers = extensions.get(publish.NUMBERS_EXTENSION, {})
    fee = extensions.get(publish.FEE_EXTENSION, {}).get("valueMoney") or {}
    bad: Text | None = None
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    try:
        start = values.date_range(str(slot.get("start")))[0]
        end = values.date_range(str(slot.get("end")))[0]
        capacity = int(numbers.get("valuePositiveInt") or numbers.get("valueUnsignedInt") or 1)
        fen = round(float(fee.get("value") or 0) * 100)
        if end <= start or not 0 <= capacity <= 10_000 or not 0 <= fen <= 10_000_000 or not rid:
            raise ValueError
    except (ValueError, TypeError, OverflowError):
        start, end, capacity, fen = moment, moment, 0, 0
        bad = T("编号、时间、号数或费用不合要求", "Its number, times, capacity or fee cannot be used")
    kind = next(
        (
            str(c.get("code"))
            for one in slot.get("serviceCategory") or [] if isinstance(one, dict)
            for c in one.get("coding") or [] if isinstance(c, dict)
        ),
        "clinic",
    )  # fmt: skip
    clinic = slot.get("appointmentType")
    return Theirs(
        rid, department, practitioner, kind if kind in ("clinic", "exam") else "clinic",
        str((clinic.get("text") if isinstance(clinic, dict) else "") or "普通")[:20], start, end, capacity,
        str(slot.get("status")) in GONE, fen, bad,
    )  # fmt: skip


def _named(actor: dict[str, Any]) -> tuple[str, str]:
    """The code and type of an actor, by reference or by identifier."""
    kind, _, code = str(actor.get("reference") or "").rpartition("/")
    identifier = actor.get("identifier")
    if isinstance(identifier, dict) and identifier.get("value"):
        return str(identifier["value"])[:80], str(actor.get("type") or kind)
    return code[:80], kind.rpartition("/")[2]
