"""What pages, doors and scenarios call: take a recording, settle whose it is, confirm what is critical.

A recording is parsed and measured before any row is touched; then one transaction keeps the original bytes, the samples, the proposal and
moves the order on, so that whoever sees "sent" has it in the readers' queue.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from django.db import transaction

from lianxin.access import audit, seal
from lianxin.access.scope import Scope
from lianxin.duty import kernel
from lianxin.duty.errors import NotAllowed, Refused
from lianxin.network import directory
from lianxin.network.models import Institution
from lianxin.regional.critical import service as criticals
from lianxin.regional.ecg import hooks, identity, importing, measure, rules
from lianxin.regional.ecg.importing import Recording
from lianxin.regional.ecg.models import Confirmation, Proposal, Tracing
from lianxin.regional.reading import moves, policy, queue
from lianxin.regional.reading import service as readings
from lianxin.regional.reading.models import Entry, Item, Reading
from lianxin.standards import clock
from lianxin.standards.text import T

ITEM = "ECG-12"
_TAKES = (*moves.BEFORE, "queued", "proposed")
"""States in which a further recording may be added; after the report is out a new order is due."""


def order(
    by: Scope, person_id: int, form: Mapping[str, Any], key: str, *, priority: str = "routine"
) -> Reading:
    """Order a 12-lead ECG at the own institution, read by the consortium's lead. Raises Refused, NotAllowed."""
    by.demand("order_tests")
    here = Institution.objects.select_related("parent").get(pk=by.institution_id or 0)
    return readings.order(
        by, person_id, list(Item.objects.filter(code=ITEM, active=True)), form, key, performer=here,
        centre_of=centre_for(here), priority=priority,
    )  # fmt: skip


def centre_for(institution: Institution) -> Institution:
    """Who reads the ECGs of an institution: its consortium's lead (a village clinic's township counts), else itself."""
    lead = directory.lead_of(institution)
    if lead is None and institution.parent:
        lead = directory.lead_of(institution.parent)
    return lead or institution


def order_and_send(
    by: Scope, person_id: int, form: Mapping[str, Any], name: str, data: bytes, key: str, *, priority: str = "routine"
) -> Tracing:  # fmt: skip
    """Order and upload in one go, as at a village clinic. A file that cannot be read leaves no order behind."""
    recording = importing.read(data, name)
    with transaction.atomic():
        reading = order(by, person_id, form, key, priority=priority)
        return take(by, reading, name, data, recording=recording)


def take(
    by: Scope, reading: Reading, name: str, data: bytes, *, source: str = "page", recording: Recording | None = None
) -> Tracing:  # fmt: skip
    """Keep a recording for an order. The same bytes again give the first row. Raises Refused (bad file, report already out), NotAllowed.

    A header that names somebody else is kept for review and attached to nobody; the order stays where it is.
    """
    recording = recording or importing.read(data, name)
    measured = measure.measure(recording.wave)
    digest = hashlib.sha256(data).hexdigest()
    with transaction.atomic():
        row = Reading.objects.unscoped("locked for its recording").select_for_update(of=("self",))
        reading = row.select_related("case", "person", "performer", "centre_of").get(pk=reading.pk)
        _may_take(by, reading, source)
        again = Tracing.objects.unscoped("the order's own").filter(reading=reading, sha256=digest).first()
        if again is not None:
            found: Tracing = again
            return found
        if reading.case.state not in _TAKES:
            raise Refused(
                {"file": T("该申请的报告已签发，请为新的心电图重新申请。", "The report is out; order a new ECG for a new recording.")}
            )  # fmt: skip
        tracing = _kept(by, reading, recording, name, data, digest, source)
        if tracing.state == "attached":
            _attached(by, tracing, reading, measured)
        else:
            audit.write(by, "update", person_id=reading.person_id, what=f"ecg {reading.case.number}", detail={"review": tracing.problem}, outcome="refused")  # fmt: skip
        return tracing


def _may_take(by: Scope, reading: Reading, source: str) -> None:
    if source == "archive" or by.everything:
        return
    by.demand("acquire")
    if reading.performer_id not in by.institution_ids:
        raise NotAllowed(T("该检查由其他机构采集。", "Another institution takes this recording."))


def _kept(
    by: Scope, reading: Reading, recording: Recording, name: str, data: bytes, digest: str, source: str
) -> Tracing:  # fmt: skip
    now = clock.now()
    problem = identity.problem(recording.patient, reading)
    if not problem and Tracing.objects.unscoped("is it somebody's already?").filter(sha256=digest, state="attached").exists():  # fmt: skip
        problem = "other_order"
    clock_flag = identity.clock_flag(recording.taken_at, now, reading.ordered_at)
    flags = [clock_flag] if clock_flag else []
    if not recording.patient.id:
        flags.append("no_id")
    if len(recording.wave.standard()) < 12:
        flags.append("few_leads")
    wave = recording.wave
    sent = {k: v for k, v in asdict(recording.patient).items() if v}
    tracing: Tracing = Tracing.objects.create(
        reading=reading, person_id=None if problem else reading.person_id, institution_id=reading.performer_id,
        state="review" if problem else "attached", problem=problem, source=source, format=recording.format,
        file_name=name[-120:], size=len(data), sha256=digest, original=seal.seal_bytes(zlib.compress(data, 6)),
        samples=wave.packed(), leads=list(wave.leads), gains=list(wave.gains), hz=wave.hz, seconds=wave.seconds,
        filters=wave.filters, device=recording.device, header=seal.seal(json.dumps(sent, ensure_ascii=False, default=str)),
        said=recording.said, device_measured=recording.measured, flags=flags, study_uid=recording.study_uid,
        device_at=recording.taken_at, taken_at=recording.taken_at if recording.taken_at and not clock_flag else now,
        received_at=now, account_id=by.account_id,
    )  # fmt: skip
    return tracing


def _attached(by: Scope, tracing: Tracing, reading: Reading, measured: measure.Measured) -> None:
    """The proposal, and the order's way into the queue; what may be critical goes to its front."""
    proposal = propose(tracing, reading, measured)
    if proposal.critical:
        due = policy.report_due(clock.now(), reading.modality, "emergency", reading.centre_of_id)
        reading.report_due_at = min(reading.report_due_at, due)
        reading.save(update_fields=["report_due_at"])
    if reading.case.state in moves.BEFORE:
        device = {"device": tracing.device_words[:60]}
        key = f"ecg:{tracing.pk}"
        if by.everything or reading.performer_id not in by.institution_ids or not by.may("acquire"):
            kernel.execute("arrived", reading.case, Scope.system("an ECG arrived"), device, None, key)
        else:
            kernel.execute("send", reading.case, by, device, None, key)
    else:
        audit.write(by, "update", person_id=reading.person_id, what=f"ecg {reading.case.number}", detail={"recording": tracing.pk})  # fmt: skip
    if proposal.critical:
        _to_the_front(reading)


def _to_the_front(reading: Reading) -> None:
    """A waiting seat is queued anew as an emergency; one that somebody holds stays theirs."""
    waiting = Entry.objects.unscoped("the work's own seat").filter(reading=reading, seat="first", state="waiting", rank__gt=0)  # fmt: skip
    if waiting.exists():
        only = waiting.values_list("only", flat=True).first()
        queue.withdraw(reading, None, "the machine's proposal is critical")
        queue.enter(reading, "first", priority="emergency", only=only)


def propose(tracing: Tracing, reading: Reading, measured: measure.Measured | None = None) -> Proposal:
    """Measure a recording and keep what is proposed, with the version that said it."""
    measured = measured or measure.measure(tracing.wave)
    person = reading.person
    said = rules.propose(measured, age=_age(person.birth_date), sex=person.sex)
    proposal: Proposal = Proposal.objects.create(
        tracing=tracing, person_id=reading.person_id, institution_id=reading.centre_of_id, version=rules.version(),
        measured=measured.plain(), statements=[{"code": s.code, "why": s.why} for s in said],
        critical=any(s.level == "critical" for s in said), at=clock.now(),
    )  # fmt: skip
    return proposal


def _age(birth: dt.date | None) -> int | None:
    if birth is None:
        return None
    today = clock.today()
    return today.year - birth.year - ((today.month, today.day) < (birth.month, birth.day))


@transaction.atomic
def settle(by: Scope, tracing_id: int, *, attach: bool, reason: str) -> Tracing:
    """Decide whose a recording in review is: the order's person after all, or nobody's here. Raises Refused without a reason, NotAllowed."""
    by.demand("reconcile_images")
    rows = Tracing.objects.within(by).select_for_update(of=("self",))
    tracing: Tracing | None = rows.filter(pk=tracing_id).first()
    if tracing is None:
        raise NotAllowed(T("没有这份记录。", "There is no such recording."))
    if tracing.state != "review":
        raise Refused({"__all__": T("这份记录已经处理过。", "This recording has been settled already.")})
    if len(reason.strip()) < 4:
        raise Refused({"reason": T("请写明核对依据（至少 4 个字）。", "Say how you know (at least four characters).")})  # fmt: skip
    reading = Reading.objects.unscoped("the recording's own order").select_related("case", "person", "centre_of").get(pk=tracing.reading_id)  # fmt: skip
    tracing.decided_by, tracing.decided_at, tracing.reason = by.account_id, clock.now(), reason.strip()[:300]
    if attach:
        if reading.case.state not in _TAKES:
            raise Refused(
                {"__all__": T("该申请的报告已签发，请重新申请。", "The report is out; order anew.")}
            )
        if Tracing.objects.unscoped("is it somebody's already?").filter(sha256=tracing.sha256, state="attached").exists():  # fmt: skip
            raise Refused({"__all__": T("同一份记录已归属另一张申请。", "The same recording belongs to another order.")})  # fmt: skip
        tracing.state, tracing.person_id = "attached", reading.person_id
    else:
        tracing.state = "refused"
    tracing.save(update_fields=["state", "person", "decided_by", "decided_at", "reason"])
    if attach:
        _attached(by, tracing, reading, measure.measure(tracing.wave))
    audit.write(by, "update", person_id=reading.person_id, what=f"ecg {reading.case.number}", detail={"review": tracing.problem, "attached": attach})  # fmt: skip
    return tracing


@transaction.atomic
def confirm(by: Scope, number: str, code: str, note: str = "") -> Confirmation:
    """A reader of the centre confirms a critical ECG: it is reported as a critical value, and an infarction opens the chest-pain channel.

    Once per order and finding: a second press gives the first. Raises NotAllowed, Refused.
    """
    found = Reading.objects.within(by).select_related("case", "orderer", "centre_of", "person").filter(case__number=number, centre="ecg").first()  # fmt: skip
    if found is None:
        raise NotAllowed(T("没有这份心电图。", "There is no such ECG."))
    reading: Reading = found
    queue.reader_of(by, "ecg", reading.centre_of_id)
    what = rules.criticals().get(code)
    if what is None:
        raise Refused({"code": T("请选择危急心电图类型。", "Choose what is critical.")})
    tracing = latest(reading)
    if tracing is None:
        raise Refused({"code": T("还没有心电图记录。", "There is no recording yet.")})
    Reading.objects.unscoped("one confirmation at a time").select_for_update(of=("self",)).get(pk=reading.pk)
    earlier = Confirmation.objects.unscoped("the order's own").filter(reading=reading, code=code).first()
    if earlier is not None:
        first: Confirmation = earlier
        return first
    now = clock.now()
    made: Confirmation = Confirmation.objects.create(
        reading=reading, person_id=reading.person_id, institution_id=reading.centre_of_id, tracing=tracing, code=code,
        note=note.strip()[:300], account_id=by.account_id, practitioner_id=by.practitioner_id, at=now,
    )  # fmt: skip
    said = tracing.proposal.lines() if hasattr(tracing, "proposal") else []
    value = next((s.why for s in said if s.code in what.statements and s.why), "") or tracing.taken_at.strftime("%H:%M")  # fmt: skip
    critical = criticals.report(
        by, person_id=reading.person_id, source="ecg", case_id=reading.pk, reading_accession=reading.accession,
        finding=what.label, code=f"ECG-{code}", value=value[:60], unit="", limit="", found_at=now, orderer=reading.orderer,
        centre_of=reading.centre_of, key=f"ecg:{reading.pk}:{code}",
    )  # fmt: skip
    made.critical_number = critical.case.number
    made.save(update_fields=["critical_number"])
    audit.write(by, "update", person_id=reading.person_id, what=f"ecg {number}", detail={"confirmed": code})
    hooks.confirmed(by, made)
    return made


def attached(reading: Reading) -> list[Tracing]:
    """The recordings of an order, the latest first."""
    rows = Tracing.objects.unscoped("the work was reached within the scope").select_related("proposal")
    return list(rows.filter(reading=reading, state="attached").order_by("-taken_at", "-pk"))


def latest(reading: Reading) -> Tracing | None:
    """The recording that is read: the last one."""
    found = attached(reading)
    return found[0] if found else None


def earlier(tracing: Tracing, most: int = 10) -> list[Tracing]:
    """Earlier recordings of the same person, the latest first."""
    rows = Tracing.objects.unscoped("who may open this person's ECG sees the earlier ones").select_related("reading__case", "proposal", "institution")  # fmt: skip
    return list(
        rows.filter(person_id=tracing.person_id, state="attached", taken_at__lt=tracing.taken_at)
        .exclude(reading_id=tracing.reading_id).order_by("-taken_at", "-pk")[:most]
    )  # fmt: skip
