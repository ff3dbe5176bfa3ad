"""Requests of member institutions for sterile sets: asked → packed → sent → received → closed, every hand-over by scan, counts compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django.db import connection

from lianxin.access.policies import PERMISSIONS
from lianxin.access.scope import Scope
from lianxin.duty import kernel
from lianxin.duty.errors import NotAllowed, Refused
from lianxin.duty.machine import Ctx, Effect, Machine, Move, Owes, State, Tell
from lianxin.duty.models import Case
from lianxin.network import directory, roles
from lianxin.network.models import Institution
from lianxin.regional.sterile import forms as f
from lianxin.regional.sterile import policy, scan
from lianxin.regional.sterile.models import Request, RequestLine, Set, SetType, Steriliser
from lianxin.standards import clock
from lianxin.standards.text import T, Text

KIND = "sterile_request"
USERS = tuple(sorted(PERMISSIONS["use_sterile"].roles))
MOST_LINES, MOST_SETS = 30, 200


def centre_of(institution: Institution) -> Institution | None:
    """The centre that supplies an institution: its own when it has a steriliser, else the consortium's lead."""
    if Steriliser.objects.filter(institution=institution, active=True).exists():
        return institution
    lead = directory.lead_of(institution)
    return (
        lead
        if lead is not None and Steriliser.objects.filter(institution=lead, active=True).exists()
        else None
    )


def ask(by: Scope, wanted: Mapping[str, int], form: Mapping[str, Any], key: str) -> Case:
    """Ask the centre for sets: ``wanted`` is kind → count. Raises Refused naming what is wrong, NotAllowed without a centre."""
    by.demand("use_sterile")
    if by.institution_id is None:
        raise NotAllowed(T("请先选择执业机构（岗位）", "Choose the post you act in first"))
    centre = centre_of(Institution.objects.get(pk=by.institution_id))
    if centre is None:
        raise NotAllowed(
            T("本机构所在医共体没有消毒供应中心。", "Your consortium has no sterile supply centre.")
        )
    types = {t.code: t for t in SetType.objects.filter(code__in=wanted, active=True)}
    lines = [(types[code], count) for code, count in wanted.items() if count and code in types]
    if not lines or len(lines) > MOST_LINES or any(not 1 <= n <= MOST_SETS for _, n in lines):
        raise Refused(
            {
                "__all__": T(
                    "请填写需要的器械包及数量（每种 1 至 {n} 包）。",
                    "Say which sets and how many (1 to {n} of a kind).",
                ).format(n=str(MOST_SETS))
            }
        )
    done = kernel.open_case(
        KIND,
        None,
        by,
        form,
        key,
        parties={"asker": by.institution_id, "centre": centre.pk},
        extra={"lines": lines},
    )
    return done.case


def load(case: Case) -> Request | None:
    """The request of a case."""
    return Request.objects.select_related("asker", "centre").filter(pk=case.pk).first()


def load_many(cases: list[Case]) -> dict[int, Request]:
    """The same for many cases in one query."""
    rows = Request.objects.select_related("asker", "centre").filter(pk__in=[c.pk for c in cases])
    return {r.pk: r for r in rows}


def summary(ctx: Ctx) -> Text:
    """What was asked."""
    if ctx.subject is None:
        return ctx.machine.label
    lines = list(ctx.subject.lines.select_related("type").order_by("type__code")[:4])
    return T(
        "、".join(f"{x.type.label.zh}×{x.asked}" for x in lines), ", ".join(f"{x.type.label.en} ×{x.asked}" for x in lines)
    )  # fmt: skip


def _save(ctx: Ctx, **fields: Any) -> None:
    for name, value in fields.items():
        setattr(ctx.subject, name, value)
    ctx.subject.save(update_fields=list(fields))


def _event(ctx: Ctx, topic: str, **fields: Any) -> Effect:
    return Effect(events=((f"sterile.request.{topic}", {"case": ctx.case.number}),), **fields)


def _ask(ctx: Ctx) -> Effect:
    if ctx.data["needed_on"] < clock.today():
        raise Refused({"needed_on": T("需要日期不能早于今天。", "Not before today.")})
    row = Request(
        case_id=ctx.case.pk, asker_id=ctx.parties["asker"], centre_id=ctx.parties["centre"], needed_on=ctx.data["needed_on"],
        note=ctx.data["note"], asked_at=ctx.now,
    )  # fmt: skip
    row.save(force_insert=True)
    RequestLine.objects.bulk_create(
        [RequestLine(request=row, type=t, asked=n) for t, n in ctx.extra["lines"]]
    )
    ctx.subject = row
    return _event(ctx, "asked")


_RESERVE = """
UPDATE sterile_set SET asked_id = %(case)s
 WHERE code = ANY(%(codes)s) AND state IN ('released', 'stored') AND holder_id = %(centre)s AND centre_id = %(centre)s
   AND expires_on >= %(today)s AND (asked_id IS NULL OR asked_id = %(case)s) RETURNING code"""


def _pack(ctx: Ctx) -> Effect:
    codes = scan.codes_of(ctx.data["codes"])
    with connection.cursor() as cursor:
        cursor.execute(
            _RESERVE,
            {"case": ctx.case.pk, "codes": codes, "centre": ctx.parties["centre"], "today": clock.today()},
        )
        packed = {row[0] for row in cursor.fetchall()}
    left = [c for c in codes if c not in packed]
    if left or not packed:
        raise Refused({"codes": _cannot(left)})
    asked = {line.type_id: line.asked for line in ctx.subject.lines.all()}
    for type_id, n in Counter(
        Set.objects.filter(asked_id=ctx.case.pk).values_list("type_id", flat=True)
    ).items():
        if type_id not in asked:
            raise Refused(
                {
                    "codes": T(
                        "装入了未申请的器械包，请取出。",
                        "There is a set of a kind that was not asked for; take it out.",
                    )
                }
            )
        if n > asked[type_id]:
            raise Refused(
                {
                    "codes": T(
                        "装入数量超过申请数量，请核对。", "More sets than were asked for; check the count."
                    )
                }
            )
    return _event(ctx, "packed", outcome={"codes": sorted(packed)})


def _cannot(codes: list[str]) -> Text:
    rows = {s.code: s for s in Set.objects.filter(code__in=codes).select_related("type")}
    zh, en = [], []
    for code in codes[:20]:
        row = rows.get(code)
        if row is None:
            words = T("无此编码", "no such code")
        elif row.expires_on is not None and row.expires_on < clock.today():
            words = T("已过期", "expired")
        elif row.asked_id is not None and row.state in ("released", "stored"):
            words = T("已分配给其他申请", "packed for another request")
        else:
            words = row.state_label
        zh.append(f"{code}（{words.zh}）")
        en.append(f"{code} ({words.en})")
    return T(
        "不能装箱：" + ("、".join(zh) or "请扫描器械包"),
        "Cannot be packed: " + (", ".join(en) or "scan the sets"),
    )


def _free(ctx: Ctx) -> None:
    Set.objects.filter(asked_id=ctx.case.pk, state__in=["released", "stored", "recalled"]).update(
        asked_id=None
    )


def _repack(ctx: Ctx) -> Effect:
    _free(ctx)
    return _event(ctx, "repack")


def _send(ctx: Ctx) -> Effect:
    codes = list(Set.objects.filter(asked_id=ctx.case.pk).values_list("code", flat=True))
    gone = scan.change(
        ctx.by, "send", codes, f"{ctx.case.number}:send:{ctx.case.version}", to=ctx.parties["asker"], asked=ctx.case.pk,
        note=f"{ctx.data['courier']} {ctx.data['box']}".strip(),
    )  # fmt: skip
    if len(gone) != len(codes) or not gone:
        raise Refused(
            {
                "__all__": T(
                    "箱内有已召回或过期的器械包，请重新装箱。",
                    "A set in the box was recalled or has expired; pack it again.",
                )
            }
        )
    _count(ctx, "sent", gone)
    _save(ctx, courier=ctx.data["courier"], box=ctx.data["box"], sent_at=ctx.now)
    owes = ctx.machine.state("sent").owes
    assert owes is not None
    text = T(
        "{no}：{n} 包已发出（{who}），请扫码签收。",
        "{no}: {n} sets on their way ({who}); accept them by scan.",
    )
    role = policy.keeper(ctx.subject.asker)
    return _event(
        ctx, "sent", opens=(replace(owes, role=role),),
        notices=(Tell("asker", role, text.format(no=ctx.case.number, n=str(len(gone)), who=ctx.data["courier"])),),
    )  # fmt: skip


def _count(ctx: Ctx, field: str, ids: set[int]) -> None:
    counted = Counter(Set.objects.filter(pk__in=ids).values_list("type_id", flat=True))
    for line in ctx.subject.lines.all():
        setattr(line, field, counted.get(line.type_id, 0))
        line.save(update_fields=[field])


def _receive(ctx: Ctx) -> Effect:
    codes = scan.codes_of(ctx.data["codes"])
    sent = dict(Set.objects.filter(asked_id=ctx.case.pk).values_list("code", "state"))
    strange = [c for c in codes if c not in sent]
    if strange:
        raise Refused(
            {"codes": T("不在本次发货内：{c}", "Not of this delivery: {c}").format(c="、".join(strange[:20]))}
        )
    done = scan.change(ctx.by, "accept", codes, f"{ctx.case.number}:receive:{ctx.case.version}")
    here = set(Set.objects.filter(code__in=codes, state="stored").values_list("code", flat=True))
    recalled = sorted(c for c in sent if sent[c] == "recalled")
    missing = sorted(c for c in sent if c not in here and sent[c] == "sent")
    note = ctx.data["note"].strip()
    if missing and not note:
        raise Refused(
            {
                "note": T(
                    "少收 {n} 包（{c}），请说明。", "{n} sets are missing ({c}); say what happened."
                ).format(n=str(len(missing)), c="、".join(missing[:20]))
            }
        )
    _count(ctx, "received", done | set(Set.objects.filter(code__in=here).values_list("pk", flat=True)))
    said = "；".join(
        filter(
            None,
            (
                f"少收 {'、'.join(missing)}" if missing else "",
                f"途中召回 {'、'.join(recalled)}" if recalled else "",
                note,
            ),
        )
    )
    _save(ctx, received_at=ctx.now, difference=said[:400])
    return _event(ctx, "received", outcome={"missing": missing, "recalled": recalled})


def _close(ctx: Ctx) -> Effect:
    if ctx.subject.difference and not ctx.data["note"].strip():
        raise Refused(
            {"note": T("本次有差异，请写明核对结果。", "The counts differ: write how it was settled.")}
        )
    _save(ctx, live=False)
    return _event(ctx, "closed")


def _end(ctx: Ctx) -> Effect:
    _free(ctx)
    _save(ctx, live=False)
    return _event(ctx, "ended")


def _owes(kind: str, zh: str, en: str, party: str, role: str, button: str) -> Owes:
    return Owes(kind, T(zh, en), party, role, kind, button)


MACHINE = Machine(
    kind=KIND,
    label=T("无菌包申领", "Request for sterile sets"),
    prefix="XG",
    personal=False,
    parts={"asker": T("申领机构", "Asked by"), "centre": T("消毒供应中心", "Sterile supply centre")},
    states=(
        State("requested", T("待装箱", "To be packed"), owes=_owes("pack", "装箱", "Pack the sets", "centre", roles.STERILE, "pack")),
        State("packed", T("已装箱", "Packed"), owes=_owes("send", "发货", "Send the box", "centre", roles.STERILE, "send")),
        State("sent", T("运送中", "On its way"), owes=_owes("receive", "扫码签收", "Accept by scan", "asker", roles.GP, "receive")),
        State("received", T("已签收", "Received"), owes=_owes("close", "核对结案", "Check and close", "centre", roles.STERILE, "close")),
        State("closed", T("已结案", "Closed"), terminal=True),
        State("refused", T("未能供应", "Refused"), terminal=True),
        State("cancelled", T("已撤销", "Cancelled"), terminal=True),
    ),
    moves=(
        Move("ask", T("申领", "Ask"), (), "requested", ("asker",), USERS, f.AskForm, effect=_ask, tone="primary"),
        Move("pack", T("装箱", "Pack"), ("requested",), "packed", ("centre",), (roles.STERILE,), f.PackForm, effect=_pack, tone="primary"),
        Move("repack", T("重新装箱", "Pack again"), ("packed",), "requested", ("centre",), (roles.STERILE,), effect=_repack),
        Move("send", T("发货", "Send"), ("packed",), "sent", ("centre",), (roles.STERILE,), f.SendForm, effect=_send, tone="primary"),
        Move("receive", T("扫码签收", "Accept by scan"), ("sent",), "received", ("asker",), USERS, f.ReceiveForm, effect=_receive, tone="primary"),
        Move("close", T("核对结案", "Check and close"), ("received",), "closed", ("centre",), (roles.STERILE,), f.CloseForm, effect=_close, tone="primary"),
        Move("refuse", T("不能供应", "Refuse"), ("requested",), "refused", ("centre",), (roles.STERILE,), f.ReasonForm, effect=_end, tone="danger"),
        Move("cancel", T("撤销申领", "Cancel"), ("requested", "packed"), "cancelled", ("asker",), USERS, f.ReasonForm, effect=_end, tone="danger"),
    ),
    clocks={"pack": "1wd", "send": "4wh", "receive": "1d", "close": "2wd"},
    path=("requested", "packed", "sent", "received", "closed"),
    load=load,
    load_many=load_many,
    summary=summary,
)  # fmt: skip
