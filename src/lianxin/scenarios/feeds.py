"""Institutions' systems at work in the demonstration: two weeks of messages, documents, sheets and settlements through the real doors.

Each sender is a client with its maker's name; one of them is neglected and sends bad data on purpose, so that the quality report has
something to show and dead letters something to mend.  Deterministic from the seed; what was sent before is known by its number.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from random import Random

from lianxin.access.models import Client
from lianxin.exchange.feeds import scores
from lianxin.exchange.v2 import receiving
from lianxin.exchange.v2.framing import Frame
from lianxin.exchange.v2.models import Peer
from lianxin.exchange.v2.peers import Origin
from lianxin.network.models import Consortium, Institution
from lianxin.scenarios import feeds_files, feeds_spoilt, tiantai
from lianxin.scenarios.build import Progress, quiet
from lianxin.scenarios.feeds_v2 import PANELS, Message, Segment, Writer
from lianxin.scenarios.population import Resident, Village, generate
from lianxin.standards import clock
from lianxin.standards.text import T

DAYS = 14
LOOKED_AT = 4_000
"""Residents among whom the senders find their patients."""
BUREAU = "TT-YBJ"
SETTLED = 1_500
FULL = 10_000
"""Residents from which on everybody sends as much as is written here; in a smaller county less."""
SPOILT = 0.8
"""Share of the neglected sender's messages that have a mistake."""


@dataclass(frozen=True)
class Sender:
    """A system that speaks HL7 v2: visits and reports a working day, how it writes, and whether it is the neglected one."""

    institution: str
    name: str
    vendor: str
    writer: Writer
    visits: int
    stays: int
    reports: int
    neglected: bool = False


SENDERS = (
    Sender("TT-RMYY", "县人民医院 HIS", "安和医软", Writer("ANHE-HIS", "TT-RMYY", prefix="RM"), 16, 5, 26),
    Sender("TT-ZYY", "县中医院 HIS", "康达信息", Writer("KANGDA", "TT-ZYY", "2.4", "GB18030", prefix="ZY"), 8, 3, 12),
    Sender("TT-PQ", "平桥卫生院 基层系统", "仁心基层", Writer("RENXIN", "TT-PQ", prefix="PQ"), 8, 1, 6),
    Sender("TT-BH", "白鹤卫生院 基层系统", "仁心基层", Writer("RENXIN", "TT-BH", prefix="BH"), 6, 1, 5),
    Sender("TT-TT", "坦头卫生院 旧系统", "旧时软件", Writer("OLDTIME", "TT-TT", "2.3", "GB18030", local_codes=True, prefix="TT"), 6, 1, 10, neglected=True),
)  # fmt: skip
DOCUMENTS = ("TT-CC", "赤城社区 电子病历", "天元卫信", 5)
TABLES = "TT-JT"


def play(
    homes: list[Village],
    residents: int,
    seed: int,
    now: dt.datetime,
    progress: Progress = quiet,
    *,
    days: int = DAYS,
) -> int:
    """Send what came in during the ``days`` before ``now``; how many messages there were. Again: nothing is stored twice."""
    people = list(islice(generate(homes, residents, seed, now.date()), LOOKED_AT))
    grown = [p for p in people if (now.date() - p.birth_date).days > 18 * 365]
    by_centre: dict[str, list[Resident]] = {}
    for person in grown:
        by_centre.setdefault(person.village.centre, []).append(person)
    since, busy = now - dt.timedelta(days=days), min(1.0, max(0.1, residents / FULL))
    messages: list[tuple[Sender, Message]] = []
    for sender in SENDERS:
        _stand_up(sender)
        near = by_centre.get(sender.institution, grown)
        rng = Random(f"feeds:{seed}:{sender.institution}")
        messages += [(sender, one) for one in _life(sender, near, rng, since, now, busy)]
    messages.sort(key=lambda pair: pair[1].at)
    label = T("各机构系统报送数据", "Systems send their data")
    batches = [
        list(part)
        for _, part in groupby(messages, key=lambda pair: (pair[1].at.date(), pair[1].at.hour // 3))
    ]
    for batch in progress(label, batches, len(batches)):
        _send([one for _, one in batch])
    _documents(by_centre.get(DOCUMENTS[0], grown), seed, since, now, busy)
    _tables(by_centre.get(TABLES, grown), seed, now)
    _settlements(grown, seed, now, round(SETTLED * busy))
    for offset in range((now.date() - since.date()).days + 1):
        # the chore counts what is newer than its last turn; these days lie before it, played evenings had their turns
        scores.recount(since.date() + dt.timedelta(days=offset))
    return len(messages)


def client(institution: Institution, name: str, vendor: str) -> Client:
    """A system of an institution, as the administrator registers it."""
    found, _ = Client.objects.get_or_create(
        name=name, defaults={"institution": institution, "vendor": vendor, "scope": "system/*.cruds"}
    )
    return found


def _stand_up(sender: Sender) -> Peer:
    place = Institution.objects.get(code=sender.institution)
    found, _ = Peer.objects.get_or_create(
        application=sender.writer.application,
        facility=sender.writer.facility,
        defaults={
            "name": sender.name,
            "client": client(place, sender.name, sender.vendor),
            "created_at": clock.now(),
        },
    )
    return found


def _send(messages: Sequence[Message]) -> None:
    """Through the door, the clock at the instant the last of them came."""
    with clock.at(messages[-1].at):
        receiving.receive_many([receiving.Came(Frame(one.data()), Origin()) for one in messages])


# --------------------------------------------------------------------------------------------------------------- a system's days


def _life(
    sender: Sender, near: Sequence[Resident], rng: Random, since: dt.datetime, now: dt.datetime, busy: float
) -> Iterable[Message]:
    """Everything a system sends between two instants, in no order."""
    number = 0
    for offset in range((now.date() - since.date()).days + 1):
        day = since.date() + dt.timedelta(days=offset)
        share = busy * (0.35 if day.weekday() >= 5 else 1.0)
        for made in _day(sender, near, rng, day, share):
            number += 1
            made.the("MSH").fields[10] = f"{sender.institution}{day:%Y%m%d}{number:05d}"
            sent = feeds_spoilt.spoil(made, rng) if sender.neglected and rng.random() < SPOILT else [made]
            yield from (one for one in sent if since < one.at <= now)


def _day(
    sender: Sender, near: Sequence[Resident], rng: Random, day: dt.date, share: float
) -> Iterable[Message]:
    for _ in range(_some(rng, sender.visits * share)):
        began = _moment(rng, day, 8, 17)
        yield _visit(sender, "A04", rng.choice(near), rng, began, "O")
    for _ in range(_some(rng, sender.stays * share)):
        who, began = rng.choice(near), _moment(rng, day, 8, 20)
        days = rng.randint(2, 8)
        # both draw the same ward and diagnosis: of one stay
        own = rng.randrange(1 << 30)
        yield _visit(sender, "A01", who, Random(own), began, "I")
        ended = dt.datetime.combine(day + dt.timedelta(days=days), dt.time(10, rng.randrange(60)), clock.ZONE)
        yield _visit(sender, "A03", who, Random(own), began, "I", ended)
    for n in range(_some(rng, sender.reports * share)):
        taken = _moment(rng, day, 7, 15)
        reported = taken + dt.timedelta(minutes=rng.randint(30, 170))
        panel = rng.choice(list(PANELS))
        mark = f"{sender.institution}{day:%y%m%d}{n:03d}"
        segments = sender.writer.report(rng.choice(near), rng, panel, mark, taken, reported)
        yield _message(sender, "ORU^R01", segments, taken, reported + dt.timedelta(minutes=rng.randint(1, 9)))


def _some(rng: Random, wanted: float) -> int:
    """So many on average."""
    return int(wanted) + (rng.random() < wanted % 1)


def _visit(
    sender: Sender, event: str, who: Resident, rng: Random, began: dt.datetime, kind: str, ended: dt.datetime | None = None
) -> Message:  # fmt: skip
    segments = sender.writer.visit(event, who, rng, began, kind, ended)
    return _message(
        sender, f"ADT^{event}", segments, began, (ended or began) + dt.timedelta(minutes=rng.randint(1, 9))
    )


def _message(
    sender: Sender, kind: str, segments: list[Segment], about: dt.datetime, at: dt.datetime
) -> Message:
    return Message([sender.writer.head(kind, "", at), *segments], about, at)


def _moment(rng: Random, day: dt.date, first: int, last: int) -> dt.datetime:
    return dt.datetime.combine(
        day, dt.time(rng.randint(first, last - 1), rng.randrange(60), rng.randrange(60)), clock.ZONE
    )


# ----------------------------------------------------------------------------------------------------------------- files


def _documents(
    near: Sequence[Resident], seed: int, since: dt.datetime, now: dt.datetime, busy: float
) -> None:
    code, name, vendor, daily = DOCUMENTS
    place = Institution.objects.get(code=code)
    rng = Random(f"feeds:{seed}:{code}")
    given = []
    for offset in range((now.date() - since.date()).days + 1):
        day = since.date() + dt.timedelta(days=offset)
        for n in range(_some(rng, busy * (daily if day.weekday() < 5 else 1))):
            written, who = _moment(rng, day, 8, 17), rng.choice(near)
            body = feeds_files.document(who, feeds_files.DOCUMENTS[n % 3], place, written, rng)
            at = written + dt.timedelta(minutes=rng.randint(2, 40))
            if since < at <= now:
                given.append((at, body))
    given.sort(key=lambda pair: pair[0])
    feeds_files.send_documents(client(place, name, vendor), given)


def _tables(near: Sequence[Resident], seed: int, now: dt.datetime) -> None:
    place = Institution.objects.get(code=TABLES)
    rng = Random(f"feeds:{seed}:{TABLES}")
    sick = [p for p in near if any(code == "I10" for code, *_ in p.conditions)] or list(near)
    for week in (2, 1):
        at = (now - dt.timedelta(days=7 * (week - 1), hours=3)).replace(minute=20, second=0, microsecond=0)
        rows = [
            feeds_files.follow_up(who, at.date() - dt.timedelta(days=rng.randint(1, 6)), rng)
            for who in rng.sample(sick, min(60, len(sick)))
        ]
        name = f"高血压随访{at:%m%d}.xlsx"
        feeds_files.send_table(place, feeds_files.as_workbook([feeds_files.HEADINGS, *rows]), name, at)


def _settlements(people: Sequence[Resident], seed: int, now: dt.datetime, count: int) -> None:
    """Last month's settlements agree with their sheet; this month's do not, for one row that is wrong."""
    place, _ = Institution.objects.get_or_create(
        code=BUREAU,
        defaults={"name": "天台县医疗保障局", "name_en": "Tiantai County Healthcare Security Bureau", "short_name": "县医保局", "kind": "other",
                  "tier": "county", "ownership": "public", "division": tiantai.DIVISION},
    )  # fmt: skip
    consortium = Consortium.objects.get(code="TT-YGT")
    sender = client(place, "天台医保结算系统", "海纳医保")
    own = [
        (one.code, one.name)
        for one in Institution.objects.filter(memberships__consortium=consortium).order_by("code")
    ]
    rng = Random(f"feeds:{seed}:{BUREAU}")
    first = now.date().replace(day=1)
    before = (first - dt.timedelta(days=1)).replace(day=1)
    rows = feeds_files.settlements(
        people, own, before, first - dt.timedelta(days=1), count, rng, tiantai.DIVISION
    )
    at = dt.datetime.combine(first, dt.time(9, 30), clock.ZONE)
    feeds_files.send_settlements(
        sender, consortium, rows, feeds_files.control_sheet(rows), f"结算明细{before:%Y%m}", min(at, now)
    )
    until = max(first, now.date() - dt.timedelta(days=1))
    rows = feeds_files.settlements(people, own, first, until, count // 2, rng, tiantai.DIVISION)
    sheet = feeds_files.control_sheet(rows)
    rows[7][12] = rows[7][12].replace(".", "元")
    feeds_files.send_settlements(sender, consortium, rows, sheet, f"结算明细{first:%Y%m}", now)
