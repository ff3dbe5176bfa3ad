"""A few weeks of life in a county, played through the real doors.

Each patient's way is a small generator that yields the instant of its next step; a heap steps them in the order of time with the
clock set to that instant. Township and hospital systems send bundles over FHIR, people make their moves through the kernel,
and the periodic work (no-shows, escalation) runs every evening. Where the present cuts a way off, a duty is left open for a
newcomer to find.
"""

from __future__ import annotations

import datetime as dt
import heapq
from collections.abc import Generator, Iterable
from random import Random
from typing import Any

from lianxin.access import tokens
from lianxin.access.models import Account, Client
from lianxin.access.scope import Scope, scope_for_account
from lianxin.clinical.referral.models import Referral
from lianxin.duty import kernel, outbox, periodic
from lianxin.duty.errors import NotAllowed
from lianxin.duty.models import Case
from lianxin.index.models import Person
from lianxin.network import roles
from lianxin.network.models import Department, Institution, Post
from lianxin.pool import search
from lianxin.pool.errors import Full
from lianxin.scenarios import wire
from lianxin.scenarios.ailments import AILMENTS, STABLE, WEIGHTS, Ailment
from lianxin.scenarios.build import Progress, quiet
from lianxin.scenarios.population import ICD10, blood_pressure, quantity
from lianxin.standards import calendar, clock
from lianxin.standards.text import T

Way = Generator[dt.datetime, None, None]


class Town:
    """Who is who in a stood-up consortium: scopes of its people by institution and role, tokens of its systems."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(f"life:{seed}")
        self._scopes: dict[tuple[str, str], list[Scope]] = {}
        self._tokens: dict[str, str] = {}
        held: dict[tuple[str, str], list[Account]] = {}
        for post in Post.objects.live().select_related("institution").order_by("practitioner__code"):
            for account in Account.objects.filter(practitioner_id=post.practitioner_id):
                held.setdefault((post.institution.code, post.role), []).append(account)
        self._accounts = held

    def who(self, institution: str, *wanted: str) -> Scope:
        """The scope of somebody who holds one of the roles ``wanted`` (first that exists) at ``institution``."""
        for role in wanted:
            accounts = self._accounts.get((institution, role))
            if accounts:
                scopes = self._scopes.setdefault(
                    (institution, role), [scope_for_account(a) for a in accounts]
                )
                return self.rng.choice(scopes)
        raise LookupError(f"nobody is {wanted} at {institution}")

    def doctor(self, institution: str) -> Scope:
        """A doctor there."""
        return self.who(institution, roles.GP, roles.CLINICIAN, roles.VILLAGE_DOCTOR)

    def desk(self, institution: str) -> Scope:
        """Whoever decides on referrals there."""
        return self.who(institution, roles.REFERRAL_DESK, roles.GP, roles.CLINICIAN)

    def token(self, institution: str) -> str:
        """A bearer token of the institution's own system."""
        if institution not in self._tokens:
            self._tokens[institution] = tokens.issue(f"HIS {institution}", "system/*.cruds", institution)
        return self._tokens[institution]

    def retire_tokens(self) -> None:
        """The systems of a played life do not stay signed in."""
        Client.objects.filter(name__in=[f"HIS {code}" for code in self._tokens]).update(active=False)


def play(
    seed: int,
    since: dt.datetime,
    until: dt.datetime,
    count: int,
    lead: str,
    second: str,
    progress: Progress = quiet,
) -> int:
    """Play ``count`` patients' ways between two instants, referring up to ``lead`` (or ``second``); returns the steps made."""
    town = Town(seed)
    rng = town.rng
    patients = _patients(rng, count)
    heap: list[tuple[dt.datetime, int, Way]] = []
    span = max(1, (until - since).days)
    offered = set(Department.objects.filter(institution__code=lead).values_list("specialty", flat=True))
    treated, weights = zip(
        *((a, w) for a, w in zip(AILMENTS, WEIGHTS, strict=True) if a.specialty in offered), strict=True
    )
    for serial, person in enumerate(patients):
        day = (since + dt.timedelta(days=rng.randrange(span))).date()
        while not calendar.is_workday(day):
            day += dt.timedelta(days=1)
        start = dt.datetime.combine(day, dt.time(8 + rng.randrange(8), rng.randrange(60)), clock.ZONE)
        ailment = rng.choices(treated, weights)[0]
        way = (
            _Patient(town, person, ailment, lead, second, serial).emergency()
            if ailment.emergency
            else _Patient(town, person, ailment, lead, second, serial).refer()
        )
        heapq.heappush(heap, (start, serial, way))
    for n in range(span + 1):
        evening = dt.datetime.combine((since + dt.timedelta(days=n)).date(), dt.time(18, 30), clock.ZONE)
        heapq.heappush(heap, (evening, -1 - n, _evening()))
    steps = 0
    days = progress(T("演练日常诊疗与转诊", "Playing daily life"), _days(since, until), span + 1)
    with (
        periodic.held()
    ):  # the ticker of a server that runs beside us must not judge these days by its own clock
        for day in days:
            end = min(until, dt.datetime.combine(day + dt.timedelta(days=1), dt.time(), clock.ZONE))
            while heap and heap[0][0] < end:
                instant, serial, way = heapq.heappop(heap)
                with clock.at(instant):
                    try:
                        following = next(way)
                    except StopIteration:
                        continue
                steps += 1
                heapq.heappush(heap, (max(following, instant + dt.timedelta(minutes=1)), serial, way))
    town.retire_tokens()
    return steps


def _days(since: dt.datetime, until: dt.datetime) -> Iterable[dt.date]:
    return [(since + dt.timedelta(days=n)).date() for n in range((until.date() - since.date()).days + 1)]


def _evening() -> Way:
    """The periodic work of a day, then nothing more."""
    periodic.run_due()
    while outbox.dispatch():
        pass
    yield clock.now() + dt.timedelta(days=3650)


def _patients(rng: Random, count: int) -> list[Person]:
    """Grown-up residents who have a home institution, drawn without repeats."""
    people = Person.objects.unscoped("the scenario draws its patients").filter(
        home_institution__isnull=False,
        status="active",
        birth_date__lt=clock.today() - dt.timedelta(days=40 * 365),
    )
    ids = list(people.order_by("number").values_list("pk", flat=True))
    chosen = rng.sample(ids, min(count, len(ids)))
    found = {p.pk: p for p in people.filter(pk__in=chosen).select_related("home_institution__parent")}
    return [found[pk] for pk in chosen]


class _Patient:
    """One patient's way: the visit at the township, the referral up, care, the way back."""

    def __init__(
        self, town: Town, person: Person, ailment: Ailment, lead: str, second: str, serial: int
    ) -> None:
        self.town, self.rng, self.person, self.ailment = town, town.rng, person, ailment
        self.lead, self.second, self.serial = lead, second, serial
        home = person.home_institution
        assert home is not None
        self.centre: str = home.parent.code if home.parent is not None else home.code
        self.case: Case | None = None
        self.steps = 0

    # ------------------------------------------------------------ doing things

    def after(self, **span: float) -> dt.datetime:
        """An instant some while from now, kept inside working hours."""
        then = clock.now() + dt.timedelta(**span)
        while not calendar.is_workday(then.date()) or then.hour >= 17:
            then = dt.datetime.combine(
                then.date() + dt.timedelta(days=1), dt.time(8, self.rng.randrange(60)), clock.ZONE
            )
        return then if then.hour >= 8 else then.replace(hour=8)

    def do(self, move: str, by: Scope, **form: Any) -> kernel.Done:
        """Make a move on the patient's case."""
        assert self.case is not None
        self.steps += 1
        done = kernel.execute(
            move, self.case.number, by, form, None, f"life:{self.serial}:{self.case.number}:{self.steps}"
        )
        self.case = done.case
        return done

    def send(self, institution: str, resources: list[dict[str, Any]]) -> None:
        """The institution's own system sends a transaction bundle about the patient."""
        entries = [
            {
                "fullUrl": f"{wire_url(r)}",
                "resource": r,
                "request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"},
            }
            for r in resources
        ]
        wire.call(
            self.town.token(institution),
            "POST",
            "",
            {"resourceType": "Bundle", "type": "transaction", "entry": entries},
        )

    def subject(self, institution: str) -> dict[str, str]:
        """Reference to the patient as registered at ``institution``."""
        return {"reference": f"Patient/{institution}-{self.person.number}"}

    def register(self, institution: str) -> dict[str, Any]:
        """The Patient resource with which ``institution`` registers the person (the card was read at the counter)."""
        return {
            "resourceType": "Patient",
            "id": f"{institution}-{self.person.number}",
            "identifier": [
                {"system": "http://lianxin.example/id/health-card", "value": self.person.card_number}
            ],
            "name": [{"text": self.person.name}],
            "gender": self.person.sex,
            "birthDate": self.person.birth_date.isoformat() if self.person.birth_date else None,
        }

    def visit(self, institution: str, suffix: str, kind: str = "AMB") -> list[dict[str, Any]]:
        """The person's registration and an encounter there."""
        return [
            self.register(institution),
            {
                "resourceType": "Encounter",
                "id": f"{institution}-{self.person.number}-{suffix}",
                "status": "finished",
                "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": kind},
                "subject": self.subject(institution),
                "period": {"start": clock.now().isoformat(timespec="seconds")},
                "serviceProvider": {"reference": f"Organization/{institution}"},
                "reasonCode": [{"text": self.ailment.name}],
            },
        ]

    # ------------------------------------------------------------ the township

    def seen(self) -> None:
        """Seen at the township: encounter, diagnosis, measurements."""
        rid, day = f"{self.centre}-{self.person.number}-{self.serial}", clock.today()
        subject = self.subject(self.centre)
        resources = self.visit(self.centre, f"e{self.serial}")
        resources.append(
            {
                "resourceType": "Condition",
                "id": f"{rid}-dx",
                "code": {"coding": [{"system": ICD10, "code": self.ailment.code}], "text": self.ailment.name},
                "subject": subject,
                "recordedDate": day.isoformat(),
            }
        )
        facts = self.ailment.facts
        systolic = facts.get("bp_systolic", self.rng.randint(118, 150))
        resources.append(blood_pressure(f"{rid}-bp", subject, day, systolic, facts.get("bp_diastolic", 84)))
        if "glucose" in facts:
            resources.append(
                quantity(f"{rid}-glu", subject, day, "15074-8", "随机血糖", facts["glucose"], "mmol/L")
            )
        self.send(self.centre, resources)

    def draft(self, by: Scope, to: str, department: str, **more: Any) -> None:
        """Open the referral."""
        institution = Institution.objects.get(code=self.centre)
        pack = {
            "impression": self.ailment.name, "present": self.ailment.present, "past": "见健康档案。",
            "treatment": self.ailment.treatment, **self.ailment.extra,
        }  # fmt: skip
        form = {
            "direction": "up", "to_institution": to, "to_department": department, "specialty": self.ailment.specialty,
            "diagnosis_code": self.ailment.code, "diagnosis_name": self.ailment.name, "priority": "routine",
            "reason_code": "catalogue", "reason": self.ailment.present, "facts": self.ailment.facts, "pack": pack, **more,
        }  # fmt: skip
        done = kernel.open_case(
            "referral",
            self.person.pk,
            by,
            form,
            f"life:{self.serial}:open",
            parties={"referrer": institution.pk},
        )
        self.case = done.case

    def department(self, institution: str) -> str:
        """Code of the department for the ailment (empty when there is none)."""
        found = Department.objects.filter(
            institution__code=institution, specialty=self.ailment.specialty
        ).first()
        return found.code if found else ""

    # ------------------------------------------------------------ ways

    def refer(self) -> Way:
        """The ordinary way up and back, with everything that happens on it."""
        rng, town, lead = self.rng, self.town, self.lead
        self.seen()
        yield self.after(minutes=rng.randint(5, 25))
        doctor = town.doctor(self.centre)
        self.draft(doctor, lead, self.department(lead), priority="urgent" if rng.random() < 0.25 else "routine",
                   override_reason="患者病情需要，经与家属沟通后转诊。")  # fmt: skip
        if rng.random() < 0.04:
            return
        self.do("submit", doctor, consent="on", consent_evidence="signed")
        yield self.after(minutes=rng.choice((10, 30, 90, 240, 600)))
        desk = town.desk(lead)
        self.do("receive", desk)
        yield self.after(minutes=rng.choice((20, 60, 180, 500)))
        if rng.random() < 0.18:
            self.do("ask_info", desk, reason_code="missing_result", question="请补充近三个月的检查检验结果。")
            yield self.after(hours=rng.choice((1, 3, 8, 30)))
            self.do("answer_info", doctor, text="已补充上传，近期检查结果见健康档案。")
            yield self.after(hours=2)
        chance = rng.random()
        if chance < 0.07:
            self.do("return_with_advice", desk, advice="建议先规范调整用药两周，仍不达标再转诊。")
            yield self.after(hours=rng.choice((2, 20, 60)))
            self.do(
                "settle_return", doctor, reason_code="treat_here", comment="已按建议调整治疗，两周后复诊。"
            )
            return
        if chance < 0.10:
            self.do("reject", desk, reason_code="no_bed", comment="目前无床位，建议转县中医院。")
            yield self.after(hours=rng.choice((3, 30)))
            self.do("settle_return", doctor, reason_code="keep_care", comment="与家属沟通后在本院继续治疗。")
            return
        if chance < 0.13:
            self.do("cancel", doctor, reason_code="improved", comment="症状缓解。")
            return
        if chance < 0.20:
            self.do(
                "accept_other", desk, priority="urgent", reason_code="more_urgent", comment="需尽快就诊。"
            )
        else:
            self.do("accept", desk)
        yield self.after(minutes=rng.choice((15, 60, 300)))
        yield from self.booked_and_seen(desk, doctor)

    def booked_and_seen(self, desk: Scope, doctor: Scope) -> Way:
        """From acceptance to the outcome letter and its acknowledgement."""
        rng, lead = self.rng, self.lead
        starts = self.book("book", desk)
        if starts is None:
            return
        if rng.random() < 0.06:
            yield self.after(hours=4)
            starts = (
                self.book("reschedule", doctor, reason_code="patient", comment="患者家中有事。") or starts
            )
        yield starts + dt.timedelta(minutes=rng.randint(-20, 60))
        while rng.random() < 0.07:
            yield self.after(days=1, hours=2)
            if self.current() != "no_show":
                break
            try:
                again = self.book("rebook", desk)
            except NotAllowed:  # stayed away too often: the referrer decides
                self.do("hand_back", desk, comment="多次预约未到。")
                yield self.after(hours=rng.choice((3, 20)))
                self.do(
                    "settle_return", doctor, reason_code="keep_care", comment="与家属沟通后在本院继续治疗。"
                )
                return
            if again is None:
                return
            yield again
        if self.current() != "booked":
            return
        self.do("arrive", self.town.who(lead, roles.RECEPTION), identity=self.person.card_number)
        yield clock.now() + dt.timedelta(minutes=rng.randint(10, 60))
        yield from self.cared_for(doctor)

    def book(self, move: str, by: Scope, **more: Any) -> dt.datetime | None:
        """Take the first free number; None when the case waits instead."""
        institution = Institution.objects.get(code=self.lead)
        offers = search.find(
            institution=institution.pk, specialty=self.ailment.specialty, channel="township", limit=4,
            since=clock.now() + dt.timedelta(hours=2),
        )  # fmt: skip
        for offer in offers:
            try:
                self.do(move, by, session=offer.session_id, **more)
            except Full:
                continue
            return offer.starts_at
        if move == "book":
            self.do("no_capacity", self.town.desk(self.lead))
        return None

    def current(self) -> str:
        """Where the case stands now (periodic work may have moved it)."""
        assert self.case is not None
        self.case = Case.objects.unscoped("the scenario follows its own case").get(pk=self.case.pk)
        return self.case.state

    def cared_for(self, doctor: Scope) -> Way:
        """Care at the hospital, the letter, and the way down where the catalogue agrees."""
        rng, lead, ailment = self.rng, self.lead, self.ailment
        clinician = self.town.who(lead, roles.CLINICIAN)
        inpatient = rng.random() < ailment.inpatient
        kind = "emergency" if ailment.emergency and not inpatient else "inpatient" if inpatient else "clinic"
        self.do(
            "start_care", clinician, visit_kind=kind, visit_number=f"{clock.now():%y%m%d}{self.serial:04d}"
        )
        self.send(
            lead, [*self.visit(lead, f"h{self.serial}", "IMP" if inpatient else "AMB"), *self.results(lead)]
        )
        if inpatient:
            yield self.after(days=rng.randint(1, 2))
            self.do("interim_note", clinician, text=f"目前诊断：{ailment.name}。{ailment.done}病情平稳。")
            yield self.after(days=rng.randint(2, 6))
        else:
            yield clock.now() + dt.timedelta(hours=1)
        self.do(
            "discharge", clinician, diagnosis_code=ailment.code, diagnosis_name=ailment.name, facts=STABLE
        )
        yield clock.now() + dt.timedelta(hours=rng.choice((1, 3, 18)))
        self.do("send_outcome", clinician, diagnosis=ailment.name, done=ailment.done, drugs_changed="按出院带药调整，详见医嘱。",
                watch_for="症状加重、血压或血糖明显波动、胸痛气促时及时复诊。", who_follows="家庭医生团队",
                follow_when=(clock.today() + dt.timedelta(days=7)).isoformat())  # fmt: skip
        if inpatient and rng.random() < ailment.goes_down:
            yield from self.sent_down(clinician)
        yield self.after(hours=rng.choice((2, 6, 26, 50)))
        if rng.random() < 0.04:
            self.do("dispute", doctor, reason_code="drugs", comment="用药剂量与医嘱不一致，请核对。")
            yield self.after(hours=4)
            self.do("send_outcome", clinician, diagnosis=ailment.name, done=ailment.done, drugs_changed="已更正剂量，以本单为准。",
                    watch_for="同前。", who_follows="家庭医生团队",
                    follow_when=(clock.today() + dt.timedelta(days=7)).isoformat())  # fmt: skip
            yield self.after(hours=5)
        self.do("acknowledge", doctor, medication_reconciled="on")
        yield from self.followed_up()

    def results(self, institution: str) -> list[dict[str, Any]]:
        """Laboratory results and drugs of the hospital visit."""
        rng, day, subject = self.rng, clock.today(), self.subject(institution)
        rid = f"{institution}-{self.person.number}-{self.serial}"
        measured = (
            ("2160-0", "肌酐", rng.randint(58, 118), "umol/L"), ("2823-3", "血钾", round(rng.uniform(3.4, 4.9), 1), "mmol/L"),
            ("4548-4", "糖化血红蛋白", round(rng.uniform(5.2, 9.8), 1), "%"), ("718-7", "血红蛋白", rng.randint(104, 158), "g/L"),
        )  # fmt: skip
        found = [
            quantity(f"{rid}-{code}", subject, day, code, name, value, unit)
            for code, name, value, unit in measured
        ]
        found.append(
            {
                "resourceType": "MedicationRequest",
                "id": f"{rid}-rx",
                "status": "active",
                "intent": "order",
                "medicationCodeableConcept": {"text": self.ailment.extra.get("medication", "对症药物")},
                "subject": subject,
                "authoredOn": day.isoformat(),
            }
        )
        return found

    def sent_down(self, clinician: Scope) -> Way:
        """The catalogue says the patient may go down: the township takes the patient and follows up."""
        up, rng = self.case, self.rng
        if "propose_down" not in {m.name for m in kernel.buttons(self.fresh(), clinician)}:
            return
        pack = {
            "diagnosis": self.ailment.name, "summary": self.ailment.done, "drugs": "按出院医嘱，随带两周药量。",
            "rehabilitation": "门诊康复训练，每周三次；两周后复查。", "danger_signs": "胸痛、气促、肢体无力加重、切口红肿渗液时立即上转。",
        }  # fmt: skip
        child = self.do(
            "propose_down", clinician, to_institution=self.centre, specialty="02", pack=pack
        ).act.outcome["more"]["child"]
        self.case = Case.objects.unscoped("the scenario follows its own case").get(number=child)
        self.do("submit", clinician, consent="on", consent_evidence="signed")
        yield self.after(hours=rng.choice((1, 4, 20)))
        family = self.town.doctor(self.centre)
        self.do("receive", family)
        yield self.after(hours=1)
        if rng.random() < 0.1:
            self.do("reject", family, reason_code="not_stable", comment="伤口仍有渗液，建议继续住院观察。")
            self.case = up
            return
        self.do("accept", family)
        tomorrow = self.after(days=1)
        self.do("book", family, appointment_at=tomorrow.isoformat(), appointment_note="卫生院全科门诊")
        yield tomorrow
        self.do("arrive", self.town.who(self.centre, roles.RECEPTION), identity=self.person.card_number)
        yield clock.now() + dt.timedelta(minutes=20)
        self.do("start_care", family, visit_kind="clinic")
        if rng.random() < 0.3:
            yield self.after(days=2)
            self.do(
                "ward_round",
                clinician,
                findings="恢复良好，生命体征平稳。",
                advice="继续康复训练，按时复查。",
            )
        self.case, self.down = up, self.case

    def fresh(self) -> Case:
        """The case re-read."""
        self.current()
        assert self.case is not None
        return self.case

    def followed_up(self) -> Way:
        """The family doctor's first contact."""
        yield self.after(days=self.rng.randint(2, 8))
        numbers = Case.objects.unscoped("the scenario follows its own patient").filter(
            kind="followup", person_id=self.person.pk, terminal=False
        )
        for case in numbers:
            family = self.town.who(self.centre, roles.FAMILY_DOCTOR, roles.GP)
            if case.owner_institution_id not in family.institution_ids:
                continue
            self.case = case
            self.do("contact", family, mode=self.rng.choice(("home", "clinic", "phone")), bp_systolic=self.rng.randint(122, 148),
                    bp_diastolic=self.rng.randint(72, 90), taking_drugs="yes", findings="情况稳定，按时服药。")  # fmt: skip

    def emergency(self) -> Way:
        """The green channel: called ahead, arrives first, papers after."""
        rng, town, lead = self.rng, self.town, self.lead
        self.seen()
        yield clock.now() + dt.timedelta(minutes=rng.randint(2, 8))
        doctor = town.doctor(self.centre)
        self.draft(doctor, lead, self.department(lead), priority="emergency", emergency="on")
        if rng.random() < 0.7:
            self.do("submit", doctor, consent="on", consent_evidence="emergency")
            yield clock.now() + dt.timedelta(minutes=rng.randint(3, 9))
            self.do("receive", town.desk(lead))
        yield clock.now() + dt.timedelta(minutes=rng.randint(15, 50))
        self.do(
            "arrive_green",
            town.who(lead, roles.RECEPTION),
            identity=self.person.card_number,
            comment="救护车送达，神志清。",
        )
        yield clock.now() + dt.timedelta(minutes=rng.randint(3, 12))
        care = self.cared_for(doctor)
        yield next(care)
        if rng.random() < 0.8:
            self.do(
                "backfill", doctor, consent_evidence="family", comment="家属同意，已补签；转诊资料补录完成。"
            )
        yield from care


def wire_url(resource: dict[str, Any]) -> str:
    """The full URL of a bundle entry: relative references resolve against it."""
    return f"http://lianxin.example/fhir/{resource['resourceType']}/{resource['id']}"


def open_referrals() -> int:
    """Referrals that have not ended (what a newcomer finds to do)."""
    return Referral.objects.unscoped("a count for the scenario's report").filter(case__terminal=False).count()
