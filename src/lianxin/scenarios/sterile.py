"""A fortnight of the sterile supply centre in the demonstration: a steriliser, sets at the hospital and two townships, one failed biological indicator.

Through the room's own doors, at the instants they are said to have happened. One of the townships has done what the recall asks of it, the
other still owes it.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Sequence

from lianxin.access import relationships
from lianxin.access.models import Account
from lianxin.access.scope import Scope, scope_for_account
from lianxin.duty import kernel
from lianxin.index.models import Person
from lianxin.network import roles
from lianxin.network.models import Institution, Post
from lianxin.regional.sterile import loads, opening, pages, requests, scan
from lianxin.regional.sterile.models import Duty, Set, SetType, Steriliser
from lianxin.standards import clock

DAYS = 14
KINDS = (("HC", 40), ("QC", 26), ("LW", 4), ("GK", 2))
ASKED = {13: 0, 11: 1, 8: 0, 6: 1}
"""On which day before today which township asks for sets."""
GOOD = {"physical": "pass", "chemical": "pass", "temperature": "134.2", "minutes": "4", "pressure": "206"}
BIOLOGICAL = 3
"""Every so many days a load carries a biological indicator (an implant's always does); today's reading of the last one fails."""


def play(seed: int, now: dt.datetime) -> int:
    """Play the fortnight up to ``now``; how many loads. Nothing when there is a steriliser already or nobody runs one."""
    posts = Post.objects.live().select_related("practitioner", "institution").order_by("pk")
    staff = posts.filter(role=roles.STERILE, practitioner__accounts__is_active=True).first()
    doctors = {
        p.institution_id: p
        for p in posts.filter(
            role=roles.GP, institution__kind="township", practitioner__accounts__is_active=True
        ).reverse()
    }
    if staff is None or len(doctors) < 2 or Steriliser.objects.exists():
        return 0
    townships = [p for _, p in sorted(doctors.items())][:2]
    return _Fortnight(f"scenario:sterile:{seed}", now, staff, townships).play()


class _Fortnight:
    """Who acts and with what."""

    def __init__(self, key: str, now: dt.datetime, staff: Post, townships: Sequence[Post]) -> None:
        self.key, self.now, self.serial = key, now, itertools.count(1)
        self.centre: Institution = staff.institution
        self.staff, self.townships = _scope(staff), [_scope(p) for p in townships]
        with clock.at(now - dt.timedelta(days=DAYS + 1)):
            self.people = [_people(p.institution, n) for n, p in enumerate(townships)]

    def next(self) -> str:
        """A key of its own for every act, the same on every run."""
        return f"{self.key}:{next(self.serial)}"

    def play(self) -> int:
        """Day by day; today the failed indicator is read."""
        morning = self.now - dt.timedelta(days=DAYS, minutes=350)
        with clock.at(morning):
            form = {"code": "M1", "name": "1 号脉动真空灭菌器", "programs": "134-4 121-20", "bowie_dick": "1"}
            self.steriliser = loads.add_steriliser(self.staff, form)
            for kind, count in KINDS:
                row = SetType.objects.get(code=kind)
                pages.register(self.staff, row, self.centre, self.centre, count, "", self.next())
        last = ""
        for day in range(DAYS, 0, -1):
            last = self._day(day) or last
        self._fails(last)
        return DAYS

    def _day(self, day: int) -> str:
        """One day's load, and what was asked for. Answers with its number when its indicator is still in the incubator."""
        early = self.now - dt.timedelta(days=day, minutes=300)
        wait = day == 2  # read today: two days in the incubator
        with clock.at(early):
            loads.bowie_dick(self.staff, self.steriliser, True, "", self.next())
            codes = list(
                Set.objects.filter(centre=self.centre, state="used", type__implant=day == 5).order_by("changed_at", "code").values_list("code", flat=True)[:5]
            )  # fmt: skip
            for move in ("receive", "wash", "inspect", "pack"):
                scan.move(self.staff, move, codes, self.next(), material="nonwoven")
            load, _ = loads.start(self.staff, self.steriliser, "134-4", codes, self.next())
        with clock.at(early + dt.timedelta(minutes=50)):
            tested = day % BIOLOGICAL == 0 or day == 5
            loads.judge(
                self.staff, load.number, GOOD | ({"biological": "pass"} if tested else {}), self.next()
            )
            scan.move(self.staff, "store", codes, self.next())
        with clock.at(early + dt.timedelta(minutes=80)):
            if day in ASKED:
                self._asked(self.townships[ASKED[day]], 2)
            if wait:
                for township in self.townships:
                    self._asked(township, 2, load.pk)
        with clock.at(early + dt.timedelta(minutes=240)):
            if day in ASKED or wait:
                self._opened(0 if wait else ASKED[day], day)
        return load.number if wait else ""

    def _asked(self, township: Scope, count: int, load: int | None = None) -> None:
        """A township asks, the centre packs and sends, the township accepts by scan."""
        stored = Set.objects.filter(
            centre=self.centre, holder=self.centre, state="stored", type__code__in=("HC", "QC")
        )
        if load is not None:
            stored = stored.filter(load_id=load)
        sets = list(stored.select_related("type").order_by("changed_at", "code")[:count])
        if not sets:
            return
        wanted: dict[str, int] = {}
        for one in sets:
            wanted[one.type.code] = wanted.get(one.type.code, 0) + 1
        case = requests.ask(township, wanted, {"needed_on": f"{clock.today()}"}, self.next())
        codes = "\n".join(s.code for s in sets)
        for by, move, form in (
            (self.staff, "pack", {"codes": codes}), (self.staff, "send", {"courier": "县域物流 01 车", "box": "3 号箱"}),
            (township, "receive", {"codes": codes}),
        ):  # fmt: skip
            kernel.execute(move, case.number, by, form, None, self.next())

    def _opened(self, which: int, day: int) -> None:
        """The township opens one of its sets on one of its residents; what was opened before goes back to be collected."""
        township = self.townships[which]
        held = Set.objects.filter(holder_id=township.institution_id)
        used = list(held.filter(state="opened").values_list("code", flat=True))
        if used:
            scan.move(township, "collect", used, self.next())
        row = held.filter(state="stored").order_by("-changed_at", "code").select_related("type").first()
        if row is None or not self.people[which]:
            return
        person = self.people[which][day % len(self.people[which])]
        words = "伤口换药" if row.type.code == "HC" else "清创缝合"
        opening.open_on(township, row.code, person, words, self.next())

    def _fails(self, number: str) -> None:
        """The last indicator grew: recalled; the first township puts its set aside and reaches its patient, the second still owes it."""
        with clock.at(self.now - dt.timedelta(minutes=55)):
            form = {"biological": "fail", "failure": "生物监测培养 48 小时阳性"}
            loads.judge(self.staff, number, form, self.next())
        first = self.townships[0]
        rows = Duty.objects.unscoped("the scenario's own recall").filter(
            institution_id=first.institution_id, live=True
        )
        with clock.at(self.now - dt.timedelta(minutes=30)):
            for duty in rows.select_related("case").order_by("pk"):
                if duty.person_id is None:
                    form = {"codes": "\n".join(duty.codes), "note": ""}
                    kernel.execute("quarantine", duty.case.number, first, form, None, self.next())
                else:
                    form = {"outcome": "well", "note": "电话联系，伤口干燥无红肿，嘱三日后复诊"}
                    kernel.execute("contact", duty.case.number, first, form, None, self.next())


def _scope(post: Post) -> Scope:
    return scope_for_account(Account.objects.get(practitioner=post.practitioner), post)


def _people(institution: Institution, n: int) -> list[int]:
    """Three grown-up residents who come to the township for their wounds."""
    rows = Person.objects.unscoped("the demonstration's own residents").filter(
        merged_into=None, status="active", deceased_on=None, birth_date__lte=dt.date(1990, 1, 1)
    )
    found = list(rows.order_by("number").values_list("pk", flat=True)[300 + 40 * n : 420 + 40 * n : 40])
    for person in found:
        relationships.grant(person, institution.pk, "registration", "scenario:sterile")
    return found
