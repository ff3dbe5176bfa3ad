"""A week of the laboratory in the demonstration: tubes at every stage, controls with one rejected run, rules that somebody set.

Through the room's own doors, at the instants they are said to have happened. Drawn from the seed: the same week every time.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

from lianxin.access.models import Account
from lianxin.access.scope import Scope, scope_for_account
from lianxin.duty.models import Case
from lianxin.index.models import Person
from lianxin.network import roles
from lianxin.network.models import Post
from lianxin.regional.laboratory import catalogue, devices, quality, results, service, transport
from lianxin.regional.laboratory.models import Analyser, AutoRule, Control, Work
from lianxin.regional.reading.models import Item, Reading
from lianxin.standards import clock

ORDERS = (
    (("LAB-CBC",), "acknowledged", 6), (("LAB-BMP", "LAB-LFT"), "issued", 1), (("LAB-GLU",), "issued", 2), (("LAB-LIPID",), "resulted", 0),
    (("LAB-BMP",), "resulted", 0), (("LAB-HBV",), "resulted", 0), (("LAB-CBC",), "received", 0), (("LAB-COAG",), "received", 0),
    (("LAB-CBC",), "in_transit", 0), (("LAB-GLU",), "in_transit", 0), (("LAB-HBA1C",), "collected", 0), (("LAB-LFT",), "recollect", 0),
    (("LAB-CBC",), "ordered", 0), (("LAB-BMP", "LAB-LIPID"), "ordered", 0), (("LAB-URINE",), "ordered", 0),
)  # fmt: skip
"""What was ordered, how far it came, how many days ago."""
BODY = {
    "WBC": "6.41", "NEUT": "3.72", "LYMPH": "2.05", "MONO": "0.43", "EOS": "0.18", "BASO": "0.03", "NEUTP": "58.0", "LYMPHP": "32.0", "RBC": "4.52",
    "HGB": "138", "HCT": "41.2", "MCV": "91.1", "MCH": "30.5", "MCHC": "335", "PLT": "214", "K": "4.21", "NA": "140.6", "CL": "103.2", "CO2": "25.1",
    "CA": "2.31", "UREA": "5.62", "CREA": "72.0", "UA": "331", "ALT": "63", "AST": "41", "ALP": "78", "GGT": "38", "TBIL": "13.1", "DBIL": "4.0",
    "TP": "72.4", "ALB": "44.1", "CHOL": "5.86", "TG": "2.12", "HDL": "1.08", "GLU": "5.31", "HBA1C": "6.8", "PT": "12.4", "INR": "1.03",
    "APTT": "33.0", "FIB": "2.85", "TT": "17.1", "HBSAG": "阴性", "HBSAB": "86.4", "HBEAG": "阴性", "HBEAB": "阴性", "HBCAB": "阴性",
}  # fmt: skip


class _Staff:
    """Who acts: a laboratory of three, and the townships' own doctors and technicians."""

    def __init__(self) -> None:
        posts = Post.objects.live().select_related("practitioner", "institution")
        self.lab = list(posts.filter(role=roles.LABORATORY).order_by("pk"))[:3]
        self.gps = list(posts.filter(role=roles.GP, institution__kind="township").order_by("pk"))
        self.technicians = {
            p.institution_id: p
            for p in posts.filter(role=roles.TECHNICIAN, institution__kind="township").order_by("-pk")
        }

    def scope(self, post: Post) -> Scope:
        """On whose behalf somebody acts."""
        return scope_for_account(Account.objects.get(practitioner=post.practitioner), post)


def play(seed: int, now: dt.datetime) -> int:
    """Play the week up to ``now``; how many tubes. Nothing when it was played before or nobody works in a laboratory."""
    staff = _Staff()
    if len(staff.lab) < 3 or not staff.gps or Work.objects.unscoped("was it played before").exists():
        return 0
    draw = random.Random(f"laboratory:{seed}")
    lead = staff.lab[0].institution
    with _at(now - dt.timedelta(days=20)):
        _open(staff, draw, now)
    people = list(
        Person.objects.unscoped("the demonstration's own residents").filter(merged_into=None, deceased_on=None, birth_date__lte=now.date() - dt.timedelta(days=365 * 30))
        .order_by("number")[40 : 40 + 23 * len(ORDERS) : 23]
    )  # fmt: skip
    township = next((g for g in staff.gps if g.institution_id in staff.technicians), staff.gps[0])
    gp = staff.scope(township)
    collector = staff.scope(staff.technicians.get(township.institution_id, township))
    done = 0
    for n, ((codes, state, days), person) in enumerate(zip(ORDERS, people, strict=False)):
        at = now - dt.timedelta(days=days, minutes=190 - 3 * n)
        with _at(at):
            reading = service.order(
                gp, person.pk, [Item.objects.get(code=c) for c in codes], {"indication": draw.choice(("慢病复查", "乏力一周", "体检", "术前检查"))},
                f"scenario:lab:{seed}:{n}", performer=township.institution, centre_of=lead, priority="urgent" if n % 5 == 4 else "routine",
            )  # fmt: skip
        _forward(staff, gp, collector, reading, state, at, n)
        done += 1
    return done


@contextmanager
def _at(moment: dt.datetime) -> Iterator[None]:
    with clock.at(moment):
        yield


def _open(staff: _Staff, draw: random.Random, now: dt.datetime) -> None:
    """Devices, controls with twenty days of measurements, the rules somebody set."""
    head = staff.scope(staff.lab[0])
    lead = staff.lab[0].institution
    known = catalogue.load()
    for code, name, items, protocol in (("XN", "血细胞分析仪", ("LAB-CBC",), "astm"), ("AU", "生化分析仪", ("LAB-BMP", "LAB-LFT", "LAB-LIPID", "LAB-GLU"), "v2"), ("CL", "化学发光仪", ("LAB-HBV", "LAB-CARDIAC"), "astm")):  # fmt: skip
        tests = {c: c for c in catalogue.expected(items) if not known.analytes[c].formula}
        Analyser.objects.update_or_create(institution=lead, code=code, defaults={"name": name, "protocol": protocol, "tests": tests, "v2_name": f"{code}-LIS"})  # fmt: skip
    for analyte, mean, sd, allowed in (("GLU", "5.20", "0.12", "7"), ("K", "4.10", "0.06", "6"), ("HGB", "128", "1.6", "6"), ("CREA", "82.0", "2.4", "12"), ("CHOL", "4.60", "0.11", "9")):  # fmt: skip
        control, fresh = Control.objects.get_or_create(
            institution=lead, analyte=analyte, level=1, device="", lot="QC2611A",
            defaults={"mean": Decimal(mean), "sd": Decimal(sd), "allowed": Decimal(allowed), "opened_at": now - dt.timedelta(days=20), "set_by": head.account_id},
        )  # fmt: skip
        if not fresh:
            continue
        for day in range(19, -1, -1):
            z = (
                3.4
                if (analyte, day) == ("K", 6)
                else max(min(draw.gauss(0, 0.8), 1.8), -1.8) * (-1 if day % 3 else 1)
            )
            value = catalogue.analyte(analyte).rounded(
                Decimal(mean) + Decimal(str(round(z, 2))) * Decimal(sd)
            )
            with _at(now - dt.timedelta(days=day, hours=4)):
                row = quality.measure(
                    head, control.pk, str(value), f"{day:02d}", f"scenario:qc:{analyte}:{day}"
                )
                if row.verdict == "reject" and day:
                    quality.correct(head, row.pk, "reagent", "更换试剂并重新定标，复测在控")
    AutoRule.objects.create(
        institution=lead, analyte="*", on=True, account_id=head.account_id or 0, set_by=head.name, at=now - dt.timedelta(days=15),
        reason="WS/T 616-2018 验证 500 份，符合率 98.6%，中心主任批准",
    )  # fmt: skip


def _forward(
    staff: _Staff, gp: Scope, collector: Scope, reading: Reading, state: str, at: dt.datetime, n: int
) -> None:
    """Take a tube as far as ``state``."""
    number, key = reading.case.number, f"scenario:lab:{reading.accession}"
    one, two = staff.scope(staff.lab[1]), staff.scope(staff.lab[2])
    if state == "ordered":
        return
    with _at(at + dt.timedelta(minutes=15)):
        service.act(
            collector,
            number,
            "collect",
            {"identity": "asked", "container": "on", "volume_ml": "10"},
            None,
            f"{key}:collect",
        )
    if state == "collected":
        return
    with _at(at + dt.timedelta(minutes=25)):
        tube = service.reading_of(reading.case).laboratory.specimen
        warm = tube.kind == "CITRATE"
        box = transport.open_box(
            collector, reading.centre_of, Decimal(15 if warm else 2), Decimal(25 if warm else 8)
        )
        transport.pack(collector, box.number, tube.number)
        transport.seal(collector, box.number, "县域标本转运 02 车")
    with _at(at + dt.timedelta(minutes=40)):
        transport.log(collector, box.number, [(clock.now(), Decimal("18.5") if warm else Decimal("4.6"))])
    if state == "in_transit":
        return
    with _at(at + dt.timedelta(minutes=70)):
        service.receive_box(one, box.number, [tube.number], key)
        if state == "recollect":
            service.act(
                one,
                number,
                "refuse",
                {"code": "haemolysed", "reason": "重度溶血，血钾与转氨酶不可用"},
                None,
                f"{key}:refuse",
            )
    if state in ("received", "recollect"):
        return
    with _at(at + dt.timedelta(minutes=110)):
        _measure(reading, n)
    with _at(at + dt.timedelta(minutes=130)):
        case = Case.objects.unscoped("the scenario's own").get(pk=reading.pk)
        if state != "resulted" and case.state == "resulted":
            service.act(two, number, "verify", {"notified": "1"}, None, f"{key}:verify")
        case.refresh_from_db()
        if state == "acknowledged" and case.state == "issued":
            service.act(gp, number, "acknowledge", {"note": "已电话告知患者"}, None, f"{key}:seen")


def _measure(reading: Reading, n: int) -> None:
    fresh = service.reading_of(reading.case)
    values = {c: v for c, v in BODY.items() if c in results.expected(fresh)}
    if n == 4:
        values["K"] = "6.48"
    if n == 2:
        values["GLU"] = "5.10"
    analyser = Analyser.objects.filter(
        institution_id=reading.centre_of_id, tests__has_key=next(iter(values))
    ).first()
    rows = [{"test": c, "raw": v, "at": clock.now().isoformat()} for c, v in values.items()]
    devices.take(
        reading.centre_of_id, analyser, reading.accession, rows, analyser.protocol if analyser else "astm"
    )
