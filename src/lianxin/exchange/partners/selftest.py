"""The self-test a vendor runs alone: its own samples go the real way, in a transaction that is rolled back.

So what it sees is what would happen: the answer it would get, the resources a message becomes, whether the patient would be known, what
the quality gate finds, that a repetition is known again and junk is refused with a reason.  Nothing is stored but the result
(sealed) with its time.  ``run`` takes one sample and runs every step that can be judged by it; ``lacking`` says what is still to do.
"""

from __future__ import annotations

import io
import itertools
import json
import logging
from dataclasses import dataclass, field
from typing import Any

from django.db import connection, transaction

from lianxin.access import seal
from lianxin.access.models import Client
from lianxin.exchange.feeds.errors import REFUSALS, read, reason_of
from lianxin.exchange.feeds.models import QUARANTINE, QUARANTINED, TAKEN, WARN, Arrival, Finding
from lianxin.exchange.partners import limits
from lianxin.exchange.partners.models import PREPARING, SUSPENDED, TESTING, Partner, PartnerTest
from lianxin.exchange.v2 import charset, message, receiving
from lianxin.exchange.v2.errors import Refused
from lianxin.exchange.v2.models import Peer
from lianxin.index.models import Person
from lianxin.record import rows, store, text
from lianxin.standards import clock
from lianxin.standards.text import T, Text

log = logging.getLogger(__name__)

CREDENTIALS, REACH, CHARSET, ADT, ORU, DOCUMENT, TABLE, QUALITY, RESEND, BAD = (
    "credentials", "reach", "charset", "adt", "oru", "document", "table", "quality", "resend", "bad",
)  # fmt: skip
STEPS: dict[str, Text] = {
    CREDENTIALS: T("凭据与机构", "Credentials and institution"),
    REACH: T("能够连通", "Reaches the platform"),
    CHARSET: T("字符集正确", "Character set"),
    ADT: T("患者消息样例（ADT）", "Sample of a patient (ADT)"),
    ORU: T("检验检查结果样例（ORU）", "Sample of a result (ORU)"),
    DOCUMENT: T("共享文档样例（CDA）", "Sample of a document (CDA)"),
    TABLE: T("表格样例（CSV/Excel）", "Sample of a table (CSV, Excel)"),
    QUALITY: T("质量分达标", "Quality score"),
    RESEND: T("重发能识别", "A repetition is known"),
    BAD: T("错误消息有明确应答", "A bad message is answered properly"),
}
CHOSEN = (ADT, ORU, DOCUMENT, TABLE)
"""Steps a partner needs or not, by what it will send."""
ALWAYS = (CREDENTIALS, REACH, QUALITY, RESEND, BAD)
MOST = 5 * 1024 * 1024
_POINTS = {WARN: 10, QUARANTINE: 30}


@dataclass
class Shown:
    """One step as its vendor sees it."""

    step: str
    passed: bool
    told: list[str] = field(default_factory=list)
    score: int | None = None
    answer: str = ""
    kind: str = ""
    person: str = ""
    mapping: str = ""
    resources: list[dict[str, Any]] = field(default_factory=list)
    findings: list[dict[str, str]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: kept, and sent over the wire."""
        return {k: v for k, v in self.__dict__.items() if v not in (None, "", [])}


def required(partner: Partner) -> list[str]:
    """Steps that must be green before a partner may ask to go live."""
    chosen = [s for s in partner.steps if s in CHOSEN]
    v2 = [CHARSET] if {ADT, ORU} & set(chosen) else []
    return [s for s in STEPS if s in {*ALWAYS, *v2, *chosen}]


def latest(partner: Partner) -> dict[str, PartnerTest]:
    """The last result of each step."""
    found = partner.tests.order_by("step", "-at", "-pk").distinct("step")
    return {one.step: one for one in found}


def lacking(partner: Partner) -> list[Text]:
    """Required steps that are not green."""
    done = latest(partner)
    missing = [STEPS[s] for s in required(partner) if s not in done or not done[s].passed]
    return missing if partner.steps else [T("先选择要接入的数据", "Choose first what will be sent"), *missing]


def shown(test: PartnerTest) -> dict[str, Any]:
    """What a kept result said."""
    return dict(json.loads(seal.unseal_bytes(bytes(test.report))))


class Unfit(Exception):
    """The self-test cannot be run; ``text`` says why."""

    def __init__(self, told: Text) -> None:
        super().__init__(told.en)
        self.text = told


def run(
    partner: Partner, client: Client, by: str, data: bytes = b"", name: str = "", *, called: bool = False
) -> list[Shown]:
    """Run the steps that ``data`` (a sample as it would be sent; empty: none) allows, keep and return their results.

    ``called``: the request came over the wire with the client's own token.  Raises :class:`Unfit`.
    """
    if partner.state == SUSPENDED:
        raise Unfit(T("该接入方已暂停，不能自测。", "This partner is suspended."))
    if len(data) > MOST:
        raise Unfit(T("样例过大，最多 5 MB。", "The sample is too large: 5 MB at most."))
    if client.pk not in partner.links.values_list("client_id", flat=True):
        raise Unfit(T("该系统不属于此接入方。", "This system does not belong to the partner."))
    out = [_credentials(client), _reach(client, called)]
    if data.strip():
        with limits.lifted():
            out += _sample(partner, client, data, name)
    _keep(partner, by, out)
    return out


def _keep(partner: Partner, by: str, out: list[Shown]) -> None:
    now = clock.now()
    with transaction.atomic():
        PartnerTest.objects.bulk_create(
            [
                PartnerTest(
                    partner=partner, step=one.step, passed=one.passed, score=one.score, by=by[:120], at=now,
                    report=seal.seal_bytes(json.dumps(one.as_dict(), ensure_ascii=False).encode()),
                )
                for one in out
            ]
        )  # fmt: skip
        Partner.objects.filter(pk=partner.pk, state=PREPARING).update(state=TESTING, state_at=now)
        partner.refresh_from_db()
        if partner.tested_at is None and not lacking(partner):
            Partner.objects.filter(pk=partner.pk).update(tested_at=now)
            partner.refresh_from_db()


def _said(told: Text) -> str:
    return f"{told.zh} / {told.en}"


# -------------------------------------------------------------------------------------------------------- the general steps


def _credentials(client: Client) -> Shown:
    told = []
    if not client.active:
        told.append(_said(T("该系统已停用", "the system is switched off")))
    if client.institution_id is None or not client.institution or not client.institution.active:
        told.append(_said(T("没有所属机构，或机构已停用", "it has no institution, or that is closed")))
    with connection.cursor() as cur:
        cur.execute(
            "SELECT EXISTS (SELECT 1 FROM access_token WHERE client_id = %s AND revoked_at IS NULL AND expires_at > %s)",
            [client.pk, clock.now()],
        )
        tokens = bool(cur.fetchone()[0])
    if client.public and not tokens and not Peer.objects.filter(client=client, active=True).exists():
        told.append(_said(T("没有令牌、密钥或已登记的 HL7 v2 系统", "it has no token, key or HL7 v2 system")))
    return Shown(CREDENTIALS, not told, told)


def _reach(client: Client, called: bool) -> Shown:
    """It has called, by token just now or by HL7 v2 some time."""
    heard = called or Arrival.objects.filter(peer__client=client).exists() or client.last_used_at is not None
    told = (
        []
        if heard
        else [_said(T("平台还没有收到过该系统的请求", "nothing has been heard from the system yet"))]
    )
    return Shown(REACH, heard, told)


# -------------------------------------------------------------------------------------------------------------- samples


def _sample(partner: Partner, client: Client, data: bytes, name: str) -> list[Shown]:
    plain = data.lstrip(b"\xef\xbb\xbf \r\n\t\x0b")
    if plain.startswith(b"MSH"):
        return _of_v2(partner, client, plain.rstrip(b"\x1c\r\n") + b"\r")
    if plain.startswith(b"<"):
        return _of_document(partner, client, data)
    return [_of_table(client, data, name)]


def _of_v2(partner: Partner, client: Client, data: bytes) -> list[Shown]:
    try:
        asked = message.parse(data)
    except Refused as malformed:
        return [Shown(CHARSET, False, [_said(malformed.text)])]
    out = [_charset(asked)]
    step = ORU if asked.kind[0] in ("ORU", "OUL") else ADT
    whose = Peer.objects.filter(
        application=asked.header.text(3), facility=asked.header.text(4), client=client
    )
    if not whose.exists():
        told = T(
            "MSH-3/MSH-4 与该系统登记的不符，请先在“HL7 v2 系统”登记。",
            "MSH-3 and MSH-4 are not those of this system; enter them under “HL7 v2 systems”.",
        )
        return [*out, Shown(step, False, [_said(told)], kind="^".join(asked.kind))]
    first, again, bad = _dry_v2(step, asked, data)
    return [*out, first, again, bad, _quality(partner, [first])]


def _charset(asked: message.Message) -> Shown:
    """MSH-18 says what the bytes are."""
    named = asked.header.text(18)
    codec = charset.codec_of(named)
    real = asked.codec
    text_of = "".join("".join(s.fields) for s in asked.segments)
    if codec == real or text_of.isascii():
        told = (
            []
            if named
            else [_said(T("未填 MSH-18，按 UTF-8 处理；建议填写", "MSH-18 is empty; better say it"))]
        )
        return Shown(CHARSET, True, told)
    wanted = charset.name_of(real)
    told = [
        _said(
            T(
                "MSH-18 写的是“{a}”，内容实为 {b}，请改为“{b}”",
                "MSH-18 says {a}, the content is {b}; write {b}",
            ).format(a=named or "（空）", b=wanted)
        )
    ]
    return Shown(CHARSET, False, told)


class _Undo(Exception):
    """Ends a dry run."""


def _dry_v2(step: str, asked: message.Message, data: bytes) -> tuple[Shown, Shown, Shown]:
    """The sample, the same again, and a spoilt one: as the listener would take them, and undone."""
    first, again, bad = Shown(step, False), Shown(RESEND, False), Shown(BAD, False)
    try:
        with transaction.atomic():
            before = Arrival.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
            answer = receiving.receive(data)
            _tell(first, before, answer.decode(asked.codec, "replace"), "^".join(asked.kind))
            repeated = receiving.receive(data)
            kept = Arrival.objects.filter(pk__gt=before)
            same = message.parse(repeated).text("MSA", 1) == message.parse(answer).text("MSA", 1)
            again.passed = first.passed and same and kept.count() == 1
            again.told = [_said(SAME if again.passed else NOT_SAME)]
            again.answer = repeated.decode(asked.codec, "replace")
            spoilt = receiving.receive(_spoilt(data))
            code, why = message.parse(spoilt).text("MSA", 1), message.parse(spoilt).text("ERR", 8)
            bad.passed, bad.answer = code in ("AE", "AR"), spoilt.decode("utf-8", "replace")
            bad.told = [f"{code} {why}".strip()]
            raise _Undo
    except _Undo:
        pass
    return first, again, bad


def _spoilt(data: bytes) -> bytes:
    """The sample without its patient, under another control id."""
    head, *rest = data.replace(b"\n", b"\r").split(b"\r")
    fields = head.split(head[3:4])
    if len(fields) > 9:
        fields[9] = fields[9][:180] + b"-X"
    return (
        b"\r".join([head[3:4].join(fields), *(s for s in rest if s and not s.startswith((b"PID", b"PV1")))])
        + b"\r"
    )


def _tell(one: Shown, after: int, answer: str, kind: str) -> None:
    """What became of the piece that was taken last, told from its arrival (in the transaction that will be undone)."""
    kept = Arrival.objects.filter(pk__gt=after).order_by("pk").first()
    one.kind, one.answer = kind, answer
    if kept is None:
        one.told.append(_said(T("消息没有被受理，见应答", "it was not taken: see the answer")))
        return
    one.passed, one.mapping = kept.state == TAKEN, kept.mapping
    if kept.state == QUARANTINED:
        one.told.append(
            _said(T("会被暂存待核，不进健康档案", "it would be kept for checking, outside the record"))
        )
    elif kept.error:
        place, words = read(kept.error)
        one.told.append(f"{place} {_said(words)}".strip())
    found = list(Finding.objects.filter(arrival=kept))
    one.findings = [
        {"rule": f.rule, "severity": f.severity, "place": f.place, "zh": f.zh, "en": f.en} for f in found
    ]
    one.score = (
        0
        if kept.state not in (TAKEN, QUARANTINED)
        else max(0, 100 - sum(_POINTS.get(f.severity, 100) for f in found))
    )
    one.resources = _resources(kept.resources)
    one.person = _person(kept, after)


def _resources(names: list[str]) -> list[dict[str, Any]]:
    out = []
    with connection.cursor() as own:
        cur = rows.server_cursor(own)
        for name in names[:50]:
            rtype, fhir_id, _ = name.split("/")
            cur.execute("SELECT body FROM record_resource WHERE rtype = %s AND id = %s", [rtype, fhir_id])
            row = cur.fetchone()
            if row:
                out.append(text.parse(store.opened(rtype, row[0]).encode()))
    return out


def _person(kept: Arrival, after: int) -> str:
    """Whether the patient would be somebody who is known already."""
    if kept.person_id is None:
        return ""
    person = Person.objects.unscoped("a vendor's own sample").filter(pk=kept.person_id).first()
    if person is None:
        return ""
    with connection.cursor() as cur:
        cur.execute("SELECT count(*) FROM index_sourcerecord WHERE person_id = %s", [kept.person_id])
        sources = int(cur.fetchone()[0])
    return _said(
        T("与已有居民匹配（共 {n} 处登记）", "matched with somebody known ({n} registrations)").format(
            n=sources
        )
        if sources > 1
        else T("将登记为新居民（或仅本机构登记过）", "would be a new person (or known from here only)")
    )


def _quality(partner: Partner, samples: list[Shown]) -> Shown:
    """The score of this run's samples against the partner's threshold."""
    scores = [s.score for s in samples if s.score is not None]
    score = round(sum(scores) / len(scores)) if scores else 0
    told = [_said(T("{s} 分，要求 {t} 分", "{s} points, {t} wanted").format(s=score, t=partner.threshold))]
    return Shown(QUALITY, score >= partner.threshold, told, score)


def _of_document(partner: Partner, client: Client, data: bytes) -> list[Shown]:
    """A document, as the document door would take it."""
    from lianxin.exchange.cda import door
    from lianxin.exchange.cda.door_files import Named
    from lianxin.exchange.subscriptions.ownership import scope_now

    one, again, bad = Shown(DOCUMENT, False), Shown(RESEND, False), Shown(BAD, False)
    try:
        with transaction.atomic(), connection.cursor() as own:
            scope = scope_now(rows.server_cursor(own), client.pk, "system/*.cruds")
            if scope is None:
                return [Shown(DOCUMENT, False, [_said(T("该系统没有权限", "the system has no permission"))])]
            before = Arrival.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
            sender = f"client:{client.pk}"
            taken = door.take(scope, [Named("sample.xml", data)], sender, client.pk)[0]
            reason = taken.verdict.reason
            _tell(one, before, reason.kept() if reason else "", "CDA")
            kept = Arrival.objects.filter(pk__gt=before).order_by("pk").first()
            one.kind = kept.kind if kept else "CDA"
            repeated = door.take(scope, [Named("sample.xml", data)], sender, client.pk)[0]
            again.passed = one.passed and repeated.verdict.repeated
            again.told = [_said(SAME if again.passed else NOT_SAME)]
            spoilt = door.take(scope, [Named("bad.xml", data[: len(data) // 2])], sender, client.pk)[
                0
            ].verdict
            bad.passed = spoilt.reason is not None
            bad.told = [_said(spoilt.reason.text)] if spoilt.reason else []
            raise _Undo
    except _Undo:
        pass
    except REFUSALS as failure:
        one.told.append(_said(reason_of(failure).text))
    return [one, again, bad, _quality(partner, [one])]


def _of_table(client: Client, data: bytes, name: str) -> Shown:
    """The first rows of a table: which target and columns are recognised, and which rows would be refused."""
    from lianxin.exchange.tables import reading, recognise
    from lianxin.exchange.tables.chunks import Taker
    from lianxin.exchange.tables.models import TableMapping, TableSource
    from lianxin.exchange.tables.running import scope_of

    one = Shown(TABLE, False, kind=name or "CSV")
    try:
        layout, names, found = _opened(reading, io.BytesIO(data))
        target = recognise.guess(names)
        rules = recognise.rules(target, layout, recognise.columns(target, names))
        short = recognise.lacking(target, rules)
        if short:
            one.told = [_said(t) for t in short]
            return one
        source = TableSource(institution=client.institution, name="selftest", target=target.code)
        taker = Taker(source, TableMapping(source=source, version=0, rules=rules), names, scope_of(source))
        with transaction.atomic(), connection.cursor() as own:
            figures, refused, converted = taker.check(rows.server_cursor(own), found)
            one.resources = [r for c in converted[:2] for r in taker.built(c)][:10]
    except reading.Unreadable as bad:
        one.told = [_said(bad.text)]
        return one
    one.mapping = target.code
    one.passed = bool(figures.rows) and figures.refused == 0
    one.told = [
        _said(T("识别为“{t}”：{n} 行，可受理 {g} 行", "read as {t}: {n} rows, {g} would be taken").format(
            t=target.name, n=figures.rows, g=figures.rows - figures.refused
        )),
        *(f"{r.row.number}: {_said(r.reason.text)}" for r in refused[:20]),
    ]  # fmt: skip
    return one


def _opened(reading: Any, file: io.BytesIO) -> tuple[Any, list[str], list[Any]]:
    """Layout, headings and the first rows of a file."""
    from lianxin.exchange.tables.targets import targets

    known = {heading for one in targets().values() for heading in one.known()}
    layout = reading.look(file, sorted(known))
    file.seek(0)
    return layout, list(layout.columns), list(itertools.islice(reading.rows(file, layout), 200))


SAME = T("重发得到相同应答，只存一份", "the repetition got the same answer and was stored once")
NOT_SAME = T(
    "重发没有被识别（请沿用原控制号与内容）",
    "the repetition was not known (send the same control id and content)",
)
