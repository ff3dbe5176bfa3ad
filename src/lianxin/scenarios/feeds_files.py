"""What comes as files: shared documents of one centre, follow-up sheets of another, the insurance bureau's settlements.

Every function may be called again: documents, rows and batches are known by their numbers.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import uuid
from collections.abc import Sequence
from random import Random
from typing import Any

from django.db import transaction
from openpyxl import Workbook

from lianxin.access.models import Client
from lianxin.access.scope import Scope, scope_for_client
from lianxin.exchange.cda import door, writing
from lianxin.exchange.cda.door_files import Named
from lianxin.exchange.cda.model import Id
from lianxin.exchange.settlement import batches
from lianxin.exchange.tables import files, mappings, reading, recognise, running
from lianxin.exchange.tables.models import DONE, TableMapping, TableRun, TableSource
from lianxin.exchange.tables.targets import target
from lianxin.network.models import Consortium, Institution
from lianxin.scenarios.population import ICD10, Resident, blood_pressure, patient
from lianxin.standards import clock
from lianxin.standards.money import Money

_NAMESPACE = uuid.UUID("5b2c1d0e-8a55-4f7e-9d37-20d1a7a0c0de")
DOCUMENTS = ("500.2", "483.12", "500.4")
SHEET = "高血压随访表"
OTHERS = (("H33102300810", "天台仁济医院"), ("H33102300811", "天台康复专科医院"))
OUTSIDE = (
    ("H33100000001", "台州市第一医院"),
    ("H33010000002", "浙江省立示范医院"),
    ("H33010000003", "杭州示范肿瘤医院"),
)
PHARMACIES = (
    ("P33102300101", "天台惠民大药房"),
    ("P33102300102", "天台益丰堂药店"),
    ("P33102300103", "始丰便民药房"),
)


def scope_of(client: Client) -> Scope:
    """A system's own scope."""
    return scope_for_client(client.pk, client.name, client.institution_id, ("system/*.cruds",))


# -------------------------------------------------------------------------------------------------------------------- documents


def document(who: Resident, kind: str, centre: Institution, written: dt.datetime, rng: Random) -> bytes:
    """A shared document about a resident, written at ``centre`` then."""
    subject = {"reference": f"Patient/{who.patient_id}"}
    day = written.date()
    sick, name = (
        (who.conditions[0][0], who.conditions[0][1]) if who.conditions else ("J06.9", "急性上呼吸道感染")
    )
    resources: list[dict[str, Any]] = [
        {"resourceType": "Condition", "id": "c", "subject": subject, "recordedDate": day.isoformat(),
         "code": {"coding": [{"system": ICD10, "code": sick, "display": name}], "text": name}},
        blood_pressure("bp", subject, day, round(rng.gauss(136, 12)), round(rng.gauss(83, 7))),
    ]  # fmt: skip
    if kind == "500.4":
        resources.append(
            {"resourceType": "MedicationRequest", "id": "m", "status": "active", "intent": "order", "subject": subject,
             "authoredOn": written.isoformat(timespec="seconds"), "medicationCodeableConcept": {"text": "苯磺酸氨氯地平片 5mg"},
             "dosageInstruction": [{"text": "口服，每日一次，每次一片"}]}
        )  # fmt: skip
    number = str(uuid.uuid5(_NAMESPACE, f"{centre.code}/{kind}/{who.local_id}/{written.isoformat()}"))
    header = writing.header_of(
        patient(who),
        id=Id(writing.DOCUMENTS, number),
        time=written.isoformat(timespec="seconds"),
        author={"display": "尤静姝"},
        organization={"resourceType": "Organization", "name": centre.name,
                      "identifier": [{"system": "urn:oid:2.16.156.10011.1.5", "value": centre.code}]},
        encounter={"resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"}, "period": {"start": written.isoformat(timespec="seconds"), "end": (written + dt.timedelta(minutes=12)).isoformat(timespec="seconds")},
                   "identifier": [{"system": "urn:oid:2.16.156.10011.1.11", "value": f"MZ{who.local_id}"}]},
    )  # fmt: skip
    return writing.write(kind, resources, header)


def send_documents(client: Client, given: Sequence[tuple[dt.datetime, bytes]]) -> int:
    """Hand documents in at the door, each at its instant; how many were taken."""
    scope, taken = scope_of(client), 0
    for at, body in given:
        with clock.at(at):
            (received,) = door.take(scope, [Named("document.xml", body)], f"client:{client.pk}", client.pk)
        taken += received.verdict.state == "taken"
    return taken


# ----------------------------------------------------------------------------------------------------------------------- tables

HEADINGS = ("随访编号", "居民编号", "姓名", "性别", "出生日期", "身份证号", "随访日期", "随访方式", "收缩压", "舒张压", "心率", "体重", "身高", "服药依从性", "此次随访分类", "下次随访日期", "随访医生")  # fmt: skip


def follow_up(who: Resident, day: dt.date, rng: Random) -> list[str]:
    """A row of the follow-up sheet."""
    high = round(rng.gauss(138, 13))
    return [
        f"GXY{day:%Y%m%d}{who.local_id}", who.local_id, who.name, "男" if who.sex == "male" else "女", who.birth_date.isoformat(), who.id_no,
        day.isoformat(), rng.choice(("门诊", "家庭")), str(high), str(round(rng.gauss(84, 8))), str(rng.randint(60, 92)),
        f"{rng.uniform(48, 82):.1f}", str(rng.randint(150, 178)), rng.choice(("规律", "规律", "间断")),
        "控制满意" if high < 140 else "控制不满意", (day + dt.timedelta(days=90)).isoformat(), "沐清和",
    ]  # fmt: skip


def as_csv(rows: Sequence[Sequence[str]], encoding: str = "gb18030") -> bytes:
    """Rows as many a centre's Excel saves them."""
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue().encode(encoding)


def as_workbook(rows: Sequence[Sequence[str]]) -> bytes:
    """Rows as a workbook."""
    book = Workbook()
    assert book.active is not None
    for row in rows:
        book.active.append(list(row))
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def send_table(place: Institution, data: bytes, name: str, at: dt.datetime) -> bool:
    """Upload a sheet as the centre does, mapping and all; False when it was taken before."""
    scope = Scope.system(f"scenario: {place.code} uploads a table")
    with clock.at(at):
        source, _ = TableSource.objects.get_or_create(
            institution=place, name=SHEET, defaults={"target": "hypertension", "created_at": clock.now()}
        )
        if TableRun.objects.filter(source=source, filename=name, state=DONE, dry=False).exists():
            return False
        stored, size = files.keep([data])
        mapping = TableMapping.objects.filter(source=source, state="active").first()
        if mapping is None:
            with files.opened(stored, anywhere=True) as file:
                how = reading.look(file, list(target("hypertension").known()))
            with transaction.atomic():
                draft = mappings.save(scope, source, recognise.rules(target("hypertension"), how))
                mapping = mappings.activate(scope, draft)
        run = running.begin(TableRun(source=source, mapping=mapping, stored=stored, size=size, filename=name))
        running.run_lane(run.pk)
    return True


# ------------------------------------------------------------------------------------------------------------------ settlements

COLUMNS = ("结算ID", "证件号码", "姓名", "险种类型", "医疗类别", "定点医药机构编号", "定点医药机构名称", "参保地", "就诊日期", "出院日期", "结算时间", "主要诊断编码", "医疗费总额", "符合政策范围金额", "基金支付总额", "统筹基金支付", "大病保险支付", "医疗救助支付", "其他支付", "个人负担总金额", "个人账户支付", "个人现金支付", "退费结算标志", "原结算ID")  # fmt: skip
Row = list[str]


def settlements(
    people: Sequence[Resident],
    own: Sequence[tuple[str, str]],
    first: dt.date,
    last: dt.date,
    count: int,
    rng: Random,
    division: str,
) -> list[Row]:
    """``count`` settlements of insured people between two days, a reversal among every two hundred."""
    out: list[Row] = []
    for n in range(count):
        who = rng.choice(people)
        place = rng.choices((own, OTHERS, OUTSIDE, PHARMACIES), (62, 8, 9, 21))[0]
        code, name = rng.choice(place)
        stay = place is not PHARMACIES and rng.random() < (0.7 if place is OUTSIDE else 0.16)
        care = "21" if stay else "41" if place is PHARMACIES else rng.choice(("11", "11", "14"))
        day = first + dt.timedelta(days=rng.randrange((last - first).days + 1))
        total = (
            round(rng.lognormvariate(13.6 if place is OUTSIDE else 12.9, 0.5))
            if stay
            else round(rng.lognormvariate(9.6, 0.6))
        )
        in_scope = total * rng.randint(78, 98) // 100
        fund = (
            in_scope * (rng.randint(52, 82) if stay else rng.randint(35, 60)) // 100
            if place is not PHARMACIES
            else 0
        )
        big = fund // 10 if fund > 1_500_000 else 0
        rest = total - fund
        account = rest if place is PHARMACIES else rest // 3
        began = day - dt.timedelta(days=rng.randint(3, 12)) if stay else day
        row = [
            f"{division}J{day:%Y%m}{n:07d}", who.id_no, who.name, "310" if rng.random() < 0.28 else "390", care, code, name, division,
            began.isoformat(), day.isoformat() if stay else "", f"{day} {rng.randint(8, 17):02d}:{rng.randrange(60):02d}:00",
            who.conditions[0][0] if who.conditions else "J06.9", *(Money(x).yuan() for x in (total, in_scope, fund, fund - big, big)),
            "0.00", "0.00", *(Money(x).yuan() for x in (rest, account, rest - account)), "0", "",
        ]  # fmt: skip
        out.append(row)
        if n % 200 == 199:
            out.append(_reversed(row))
    return out


def _reversed(row: Row) -> Row:
    back = [f"-{x}" if 12 <= at <= 21 and x != "0.00" else x for at, x in enumerate(row)]
    back[0], back[22], back[23] = f"{row[0]}T", "1", row[0]
    return back


def control_sheet(rows: Sequence[Row]) -> list[Row]:
    """The control sheet of settlements: by provider, scheme and month, with a grand total."""
    sums: dict[tuple[str, str, str, str], list[int]] = {}
    for row in rows:
        one = sums.setdefault((row[5], row[6], row[3], row[10][:7]), [0, 0, 0])
        one[0] += 1
        one[1] += Money.of_yuan(row[12]).fen
        one[2] += Money.of_yuan(row[14]).fen
    out = [["机构编码", "机构名称", "险种", "结算月份", "人次", "总费用", "基金支付"]]
    out += [[*key, str(n), Money(t).yuan(), Money(f).yuan()] for key, (n, t, f) in sorted(sums.items())]
    whole = [sum(v[i] for v in sums.values()) for i in range(3)]
    return [*out, ["合计", "", "", "", str(whole[0]), Money(whole[1]).yuan(), Money(whole[2]).yuan()]]


def send_settlements(client: Client, consortium: Consortium, rows: Sequence[Row], sheet: Sequence[Row], name: str, at: dt.datetime) -> str:  # fmt: skip
    """The bureau hands a batch in; the state it is in then."""
    scope = scope_of(client)
    with clock.at(at):
        detail, other = io.BytesIO(as_csv([COLUMNS, *rows])), io.BytesIO(as_csv(sheet))
        batch = batches.keep(scope, consortium, detail, f"{name}.csv", other, f"{name}-对账单.csv")
        return batches.process(scope, batch).state
