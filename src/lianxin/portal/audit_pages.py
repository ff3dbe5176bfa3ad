"""The audit log for the audit administrator: who did what to whom, whether the chain is whole, export."""

from __future__ import annotations

import csv
import datetime as dt
import json
from collections.abc import Iterator
from typing import Any

from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render

from lianxin.access import audit as log
from lianxin.access.models import Account, AuditEvent, ChainHead, Client
from lianxin.access.web import page
from lianxin.index.models import Person
from lianxin.network.models import Institution
from lianxin.standards import clock
from lianxin.standards.text import T

PAGE = 50
EXPORT_LIMIT = 100_000
VERIFY_KEY = "lianxin-audit-verified"

ACTIONS = {
    "read": T("查看", "Read"),
    "search": T("查找", "Search"),
    "create": T("新建", "Create"),
    "update": T("修改", "Change"),
    "delete": T("删除", "Delete"),
    "login": T("登录", "Sign-in"),
    "logout": T("退出", "Sign-out"),
    "login_failed": T("登录失败", "Failed sign-in"),
    "export": T("导出", "Export"),
    "print": T("打印", "Print"),
    "break_glass": T("紧急查阅", "Break-glass"),
    "deny": T("拒绝", "Refused"),
    "admin": T("管理", "Administration"),
}
OUTCOMES = {"ok": T("成功", "Done"), "refused": T("被拒", "Refused"), "failed": T("出错", "Failed")}


def _filtered(request: HttpRequest) -> tuple[QuerySet[AuditEvent], dict[str, str], Any]:
    """Events that fit the query, what was asked, and what was wrong with it (or None)."""
    asked = {
        k: request.GET.get(k, "").strip()
        for k in ("person", "account", "action", "since", "until", "outcome")
    }
    rows = AuditEvent.objects.all()
    wrong = None
    if asked["person"]:
        ids = Person.objects.unscoped("audit administrator filters events by a person's number")
        rows = rows.filter(
            person_id__in=list(ids.filter(number=asked["person"]).values_list("pk", flat=True))
        )
    if asked["account"]:
        found = Account.objects.filter(Q(username__iexact=asked["account"]) | Q(name=asked["account"]))
        rows = rows.filter(account_id__in=list(found.values_list("pk", flat=True)))
    if asked["action"] in ACTIONS:
        rows = rows.filter(action=asked["action"])
    if asked["outcome"] in OUTCOMES:
        rows = rows.filter(outcome=asked["outcome"])
    for name, step in (("since", 0), ("until", 1)):
        if asked[name]:
            try:
                day = dt.date.fromisoformat(asked[name])
            except ValueError:
                wrong = T("日期请写成 2026-11-23 的样子。", "Write dates like 2026-11-23.")
                continue
            edge = dt.datetime.combine(day + dt.timedelta(days=step), dt.time(), clock.ZONE)
            rows = rows.filter(at__gte=edge) if name == "since" else rows.filter(at__lt=edge)
    return rows.order_by("-at", "-id"), asked, wrong


def _dress(events: list[AuditEvent]) -> list[dict[str, Any]]:
    """Events with names instead of numbers, fetched in one query each."""
    accounts = Account.objects.in_bulk({e.account_id for e in events if e.account_id})
    clients = Client.objects.in_bulk({e.client_id for e in events if e.client_id})
    places = Institution.objects.in_bulk({e.institution_id for e in events if e.institution_id})
    people = dict(
        Person.objects.unscoped("audit administrator sees index numbers, never names")
        .filter(pk__in={e.person_id for e in events if e.person_id})
        .values_list("pk", "number")
    )
    return [
        {
            "event": e,
            "action": ACTIONS.get(e.action, e.action),
            "outcome": OUTCOMES.get(e.outcome, e.outcome),
            "account": accounts.get(e.account_id),
            "client": clients.get(e.client_id),
            "institution": places.get(e.institution_id),
            "number": people.get(e.person_id, ""),
            "detail": json.loads(e.detail) if e.detail else {},
        }
        for e in events
    ]


@page(may="read_audit")
def audit(request: HttpRequest) -> HttpResponse:
    """The log with filters; a press of the button verifies the whole chain."""
    if request.method == "POST":
        problems = log.verify()
        request.session[VERIFY_KEY] = {
            "at": clock.now().isoformat(),
            "problems": problems[:50],
            "count": len(problems),
        }
        log.write(request.scope, "admin", what="audit chain verified", detail={"problems": len(problems)})
    rows, asked, wrong = _filtered(request)
    lines = Paginator(rows, PAGE).get_page(request.GET.get("page"))
    log.write(request.scope, "search", what="audit log", detail={k: v for k, v in asked.items() if v})
    verified = request.session.get(VERIFY_KEY)
    context = {
        "lines": lines,
        "events": _dress(list(lines)),
        "asked": asked,
        "wrong": wrong,
        "actions": ACTIONS.items(),
        "outcomes": OUTCOMES.items(),
        "verified": verified,
        "verified_at": dt.datetime.fromisoformat(verified["at"]) if verified else None,
        "links": sum(ChainHead.objects.values_list("seq", flat=True)),
        "query": request.GET.urlencode(),
    }
    return render(request, "portal/audit.html", context)


class _Echo:
    """A file that hands back what is written, so that csv can stream."""

    def write(self, value: str) -> str:
        return value


@page(may="read_audit")  # type: ignore[arg-type]
def audit_csv(request: HttpRequest) -> StreamingHttpResponse:
    """The filtered log as CSV (UTF-8 with BOM for spreadsheets), at most 100,000 events; itself audited."""
    rows, asked, _ = _filtered(request)
    log.write(request.scope, "export", what="audit log", detail={k: v for k, v in asked.items() if v})
    writer = csv.writer(_Echo())

    def lines() -> Iterator[str]:
        yield "\ufeff" + writer.writerow(
            [
                "id",
                "at",
                "action",
                "outcome",
                "account",
                "name",
                "client",
                "institution",
                "person",
                "what",
                "detail",
                "sm3",
            ]
        )
        start = 0
        while start < EXPORT_LIMIT:
            events = list(rows[start : start + 1000])
            for line in _dress(events):
                e, account, client, place = (
                    line["event"],
                    line["account"],
                    line["client"],
                    line["institution"],
                )
                cells = [
                    e.pk, e.at.astimezone(clock.ZONE).isoformat(), e.action, e.outcome,
                    account.username if account else "", account.name if account else "",
                    client.name if client else "", place.code if place else "", line["number"],
                    e.what, e.detail, bytes(e.digest).hex(),
                ]  # fmt: skip
                yield writer.writerow([_plain(cell) for cell in cells])
            if len(events) < 1000:
                return
            start += 1000

    response = StreamingHttpResponse(lines(), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="audit-{clock.today().isoformat()}.csv"'
    return response


def _plain(cell: Any) -> Any:
    """A text cell that a spreadsheet would take for a formula gets an apostrophe before it."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in "=+-@\t\r" else cell
