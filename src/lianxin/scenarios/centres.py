"""The shared centres of the demonstration: who reads what, the duty roster, two weeks of examinations ordered in townships and read above.

Everything goes through ``regional.reading.service`` on a clock of its own. Reports are the shipped templates' own words; orders and
people are drawn from the scenario's seed. Centres with images, recordings or specimens add their own play.
"""

from __future__ import annotations

import datetime as dt
from random import Random

from lianxin.access.models import Account
from lianxin.access.scope import Scope, scope_for_account
from lianxin.duty.errors import MoveError
from lianxin.index.models import Person
from lianxin.network import roles
from lianxin.network.models import Institution, Post
from lianxin.regional.reading import queue, roster, service
from lianxin.regional.reading.models import Item, Reader, Reading, Shift, Template
from lianxin.scenarios.build import Progress, quiet
from lianxin.standards import clock
from lianxin.standards.text import T

DAYS, EACH, WAITING = 13, 2, 6
_WHY = "centres of the demonstration"
_CENTRES = {
    "imaging": ("影像", ["CT", "MR", "DX", "US"]),
    "ecg": ("心电", ["ECG"]),
    "pathology": ("病理", ["PATH", "FROZEN"]),
}
_STUDIES = (
    ("XR-CHEST", "DX-CHEST-N", "咳嗽、咳痰一周，查因"),
    ("US-ABDO", "US-ABDO-N", "上腹部不适一月"),
    ("XR-CHEST", "DX-CHEST-PNEUMONIA", "发热三天伴咳嗽"),
    ("CT-HEAD", "CT-HEAD-N", "头晕、行走不稳两天"),
    ("US-THYROID", "US-THYROID", "体检触及颈部肿块"),
    ("CT-CHEST", "CT-CHEST-N", "吸烟三十年，胸片可疑结节"),
)
_PUTS = {"DX-CHEST-PNEUMONIA": "右肺下野", "US-THYROID": "右"}


def play(seed: int, now: dt.datetime, progress: Progress = quiet) -> int:
    """Register readers, keep a roster, play two weeks; returns how many pieces of work were ordered (0: there were some already)."""
    leads = {post.institution_id for post in Post.objects.live().filter(role=roles.READER)}
    if not leads:
        return 0
    for lead in Institution.objects.filter(pk__in=leads).order_by("code"):
        register(lead, now)
    if Reading.objects.unscoped(_WHY).filter(requisition__startswith="DEMO-JC").exists():
        return 0
    return _Weeks(seed, now, Institution.objects.filter(pk__in=leads).order_by("code")[0], progress).run()


def register(lead: Institution, now: dt.datetime) -> None:
    """Every diagnostic doctor of the lead institution reads at the centre of their department; the first of each approves, the last is new."""
    posts = Post.objects.live().filter(institution=lead, role=roles.READER).select_related("department").order_by("pk")  # fmt: skip
    for centre, (word, modalities) in _CENTRES.items():
        mine = [p for p in posts if p.department and word in p.department.name]
        for n, post in enumerate(mine):
            account = Account.objects.filter(practitioner_id=post.practitioner_id, is_active=True).first()
            if account is None:
                continue
            junior = n == len(mine) - 1 and n > 1
            Reader.objects.update_or_create(
                account=account, institution=lead, centre=centre,
                defaults={
                    "modalities": modalities, "approves": n == 0, "expert": n == 0, "signs": not junior, "new": n == 2,
                    "new_since": now - dt.timedelta(days=20) if n == 2 else None, "most_open": 5 if n == 0 else 3,
                },
            )  # fmt: skip
        _stand(lead, centre, now)


def _stand(lead: Institution, centre: str, now: dt.datetime) -> None:
    """Days and nights of last week, this and the next: readers take turns."""
    if Shift.objects.filter(institution=lead, centre=centre).exists():
        return
    staff = list(Reader.objects.filter(institution=lead, centre=centre, active=True).order_by("pk"))
    monday = now.date() - dt.timedelta(days=now.weekday() + 7)
    for n in range(21 if staff else 0):
        day, senior = monday + dt.timedelta(days=n), [r for r in staff if r.approves]
        roster.add(staff[n % len(staff)], "read", day, dt.time(8), dt.time(17, 30))
        roster.add(staff[(n + 1) % len(staff)], "oncall", day, dt.time(17, 30), dt.time(8))
        if senior and day.weekday() < 5:
            roster.add(senior[0], "approve", day, dt.time(8), dt.time(17, 30))


class _Weeks:
    def __init__(self, seed: int, now: dt.datetime, lead: Institution, progress: Progress) -> None:
        self.rng, self.now, self.lead, self.progress = Random(f"centres:{seed}"), now, lead, progress
        self.count = self.acts = 0
        self.items = {i.code: i for i in Item.objects.filter(active=True)}
        self.words = {t.code: t for t in Template.objects.filter(institution=None, account=None)}
        posts = Post.objects.live().filter(role=roles.GP, institution__kind__in=("township", "community"))
        self.doctors: list[tuple[Post, Scope]] = []
        for post in posts.select_related("institution").order_by("institution__code", "pk"):
            account = Account.objects.filter(practitioner_id=post.practitioner_id, is_active=True).first()
            if account is not None and post.institution_id not in {p.institution_id for p, _ in self.doctors}:
                self.doctors.append((post, scope_for_account(account, post)))
        readers = Reader.objects.filter(institution=lead, centre="imaging", active=True).select_related("account").order_by("pk")  # fmt: skip
        self.readers = [(r, scope_for_account(r.account)) for r in readers]

    def run(self) -> int:
        """The days, then what waits today."""
        if not self.doctors or not self.readers:
            return 0
        for day in self.progress(T("诊断中心", "Shared centres"), range(DAYS, 0, -1), DAYS):
            for n in range(EACH):
                self._whole(self.now - dt.timedelta(days=day) + dt.timedelta(minutes=self.rng.randrange(-150, 150)), n)  # fmt: skip
        for n in range(WAITING):
            minutes = (300, 45, 35, 25, 12, 4)[n]
            self._order(self.now - dt.timedelta(minutes=minutes), "emergency" if n == 4 else "urgent" if n == 2 else "routine", arrives=8)  # fmt: skip
        self._held()
        return self.count

    def _key(self) -> str:
        self.count += 1
        return f"demo:reading:{self.now:%Y%m%d%H%M}:{self.count}"

    def _patient(self, institution: Institution) -> int | None:
        rows = Person.objects.unscoped(_WHY).filter(status="active", deceased_on=None)
        near = rows.filter(home_institution__parent=institution) | rows.filter(home_institution=institution)
        ids = list(near.order_by("pk").values_list("pk", flat=True)[:60])
        return self.rng.choice(ids) if ids else None

    def _order(self, at: dt.datetime, priority: str, arrives: int) -> tuple[Reading, str, dt.datetime] | None:
        """Somebody is examined in their township (CT: at the county hospital); when it reached the readers."""
        post, doctor = self.doctors[self.count % len(self.doctors)]
        code, template, why = self.rng.choice(_STUDIES)
        person = self._patient(post.institution)
        if person is None:
            return None
        key, item = self._key(), self.items[code]
        performer = self.lead if item.modality in ("CT", "MR") else post.institution
        with clock.at(at):
            made = service.order(
                doctor, person, [item], {"indication": why}, key, performer=performer, centre_of=self.lead, priority=priority,
                requisition=f"DEMO-JC{self.count}",
            )  # fmt: skip
        sent = at + dt.timedelta(minutes=min(arrives, max(int((self.now - at).total_seconds() // 60) - 1, 1)))
        with clock.at(sent):
            service.arrived(made.accession, device="DR-1" if item.modality == "DX" else "")
        return made, template, sent

    def _whole(self, at: dt.datetime, n: int) -> None:
        """One study from order to acknowledgement; now and then taken again, read twice, amended."""
        asked = self._order(
            at, "urgent" if n == 1 and self.rng.random() < 0.3 else "routine", self.rng.randrange(12, 40)
        )
        if asked is None:
            return
        reading, template, sent = asked
        number, turn = reading.case.number, sent + dt.timedelta(minutes=self.rng.randrange(3, 70))
        if self.rng.random() < 0.12:
            with clock.at(turn):
                reader, scope = self._claims(number)
                service.act(scope, number, "return_retake", {"code": self.rng.choice(["motion", "position", "incomplete"]), "reason": "请按规范体位重新采集。"}, None, self._next(number))  # fmt: skip
            turn += dt.timedelta(minutes=25)
            with clock.at(turn):
                service.arrived(reading.accession)
            turn += dt.timedelta(minutes=10)
        with clock.at(turn):
            reader, scope = self._claims(number)
        turn += dt.timedelta(minutes=self.rng.randrange(3, 12))
        with clock.at(turn):
            self._write(scope, number, template)
            service.act(scope, number, "sign" if reader.signs else "propose", {}, None, self._next(number))
        state = self._state(reading)
        while state in ("proposed", "second_read", "arbitration"):
            turn += dt.timedelta(minutes=self.rng.randrange(5, 30))
            with clock.at(turn):
                self._next_seat(number, state, template)
            state = self._state(reading)
        self._seen(reading, turn)

    def _next_seat(self, number: str, state: str, template: str) -> None:
        _, scope = self._claims(number)
        key = self._next(number)
        if state == "proposed":
            service.act(scope, number, "approve", {}, None, key)
        elif state == "second_read":
            self._write(scope, number, template)
            score = self.rng.choices(["1", "2a", "2b"], [8, 2, 1])[0]
            service.act(scope, number, "second", {"score": score}, None, key)
        else:
            service.act(scope, number, "arbitrate", {"decided": "first", "note": "初读意见成立。"}, None, key)

    def _seen(self, reading: Reading, signed: dt.datetime) -> None:
        """The doctor who asked sees the report within hours; one report is amended afterwards."""
        doctor = next(s for p, s in self.doctors if p.institution_id == reading.orderer_id)
        seen = signed + dt.timedelta(minutes=self.rng.randrange(5, 600))
        if seen >= self.now:
            return
        number = reading.case.number
        with clock.at(seen):
            service.act(doctor, number, "acknowledge", {"note": "已告知患者"}, None, self._next(number))
        if self.count == 9:
            with clock.at(min(seen + dt.timedelta(hours=3), self.now)):
                _, scope = next((r, s) for r, s in self.readers if r.approves)
                form = {"findings": "补充：所见同前，肝右叶另见小囊性灶。", "conclusion": "补充诊断：肝囊肿可能，建议随访。", "reason": "会诊后补充"}  # fmt: skip
                service.amend(scope, number, form, self._next(number))

    def _claims(self, number: str) -> tuple[Reader, Scope]:
        """Whoever may take the seat that is open now; readers take turns."""
        start = self.rng.randrange(len(self.readers))
        for reader, scope in self.readers[start:] + self.readers[:start]:
            try:
                if service.claim(scope, "imaging", number):
                    return reader, scope
            except MoveError:  # at their limit
                continue
        raise RuntimeError(f"nobody may read {number}")

    def _write(self, scope: Scope, number: str, template: str) -> None:
        words, put = self.words[template], _PUTS.get(template, "")
        entry = service.held(scope, number)
        content = {
            "template": template, "findings": words.findings.replace("___", put, 1).replace("___", ""),
            "conclusion": words.conclusion.replace("___", put, 1).replace("___", ""), "positive": words.positive,
        }  # fmt: skip
        service.save_draft(scope, number, str(entry.token), content)

    def _state(self, reading: Reading) -> str:
        return str(service.reading_of(reading.case).case.state)

    def _next(self, number: str) -> str:
        self.acts += 1
        return f"demo:{number}:{self.acts}"

    def _held(self) -> None:
        """Something is being written just now, and something hard was handed to the expert."""
        with clock.at(self.now - dt.timedelta(minutes=3)):
            for reader, scope in self.readers:
                if reader.approves:
                    continue
                got = service.claim(scope, "imaging")
                expert = next((r for r, _ in self.readers if r.expert), None)
                if got is not None and expert is not None and expert.pk != reader.pk:
                    why = T("征象不典型，请专家诊断", "Not typical: for an expert")
                    service.hand_over(scope, got[0].reading.case.number, expert, why.zh)
                got = service.claim(scope, "imaging")
                if got is not None:
                    queue.renew(got[0].pk, got[1].token, reader.account_id)
                return
