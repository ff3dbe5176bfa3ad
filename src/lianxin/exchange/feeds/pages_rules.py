"""Rules: what each means and how often it speaks; setting one otherwise from a day on; trying that on messages that are here."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.exchange.feeds import scores
from lianxin.exchange.feeds.models import Arrival
from lianxin.exchange.feeds.quality import kinds, rules, selecting, trying, words
from lianxin.exchange.feeds.quality.models import RuleSetting
from lianxin.exchange.feeds.quality.rules import Rule, Setting
from lianxin.network.models import Consortium, Institution, Membership
from lianxin.standards import clock
from lianxin.standards.text import T

NAMES = {
    "hours": T("时限（小时）", "Limit (hours)"),
    "minutes": T("容差（分钟）", "Tolerance (minutes)"),
    "days": T("容差（天）", "Tolerance (days)"),
}
AHEAD = dt.timedelta(days=366)


class SettingForm(forms.Form):
    """How a rule is set otherwise, for whom, from when, and why."""

    severity = forms.ChoiceField(
        label=T("程度", "Severity"), required=False,
        choices=[("", T("不变", "As it is")), *((c, words.SEVERITIES[c]) for c in ("refuse", "quarantine", "warn", "off"))],
    )  # fmt: skip
    consortium = forms.ModelChoiceField(
        Consortium.objects.none(), label=T("医共体", "Consortium"), required=False, empty_label="—"
    )
    institution = forms.ModelChoiceField(
        Institution.objects.none(), label=T("机构", "Institution"), required=False, empty_label="—"
    )
    effective_from = forms.DateField(
        label=T("自何日起", "From"), widget=forms.DateInput(attrs={"type": "date"}),
        error_messages={"required": T("此项必填，请填写。", "This is required; please fill it in."), "invalid": T("日期不正确。", "This is no date.")},
    )  # fmt: skip
    reason = forms.CharField(
        label=T("理由", "Why"), max_length=400, min_length=4,
        error_messages={"required": T("此项必填，请填写。", "This is required; please fill it in."), "min_length": T("请写明理由（至少 4 个字）。", "Please say why (4 characters at least).")},
    )  # fmt: skip

    def __init__(self, *args: Any, rule: Rule, scope: Scope, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rule, self.seen = rule, selecting.institutions(scope)
        self.label_suffix = ""
        places = Institution.objects.filter(active=True).order_by("code")
        consortia = Consortium.objects.order_by("code")
        if self.seen is not None:
            places = places.filter(pk__in=self.seen)
            led = Membership.objects.live().filter(institution_id__in=scope.institution_ids, role="lead")
            consortia = consortia.filter(pk__in=led.values("consortium_id"))
        for name, queryset in (("institution", places), ("consortium", consortia)):
            field = self.fields[name]
            assert isinstance(field, forms.ModelChoiceField)
            field.queryset = queryset
        for name, value in rule.thresholds.items():
            self.fields[name] = forms.FloatField(
                label=NAMES.get(name, T(name, name)), required=False, min_value=0, max_value=100_000,
                widget=forms.NumberInput(attrs={"placeholder": f"{value:g}"}),
            )  # fmt: skip
        self.order_fields(
            ["severity", *rule.thresholds, "consortium", "institution", "effective_from", "reason"]
        )

    @property
    def thresholds(self) -> dict[str, float]:
        """The numbers that were given."""
        return {n: self.cleaned_data[n] for n in self.rule.thresholds if self.cleaned_data.get(n) is not None}

    def clean(self) -> dict[str, Any]:
        """Something is set, for one place, from today on."""
        data = super().clean() or {}
        if data.get("consortium") and data.get("institution"):
            raise ValidationError(
                T("医共体和机构只能选一个。", "Choose a consortium or an institution, not both.")
            )
        if self.seen is not None and not data.get("consortium") and not data.get("institution"):
            raise ValidationError(T("请选医共体或机构；全平台的规则由系统管理员调整。", "Choose a consortium or an institution; rules of everybody are set by the system administrator."))  # fmt: skip
        day = data.get("effective_from")
        if day is not None and not clock.today() <= day <= clock.today() + AHEAD:
            self.add_error(
                "effective_from", T("须在今天起一年内。", "It must lie within the year from today on.")
            )
        return data


def _rule(code: str) -> Rule:
    found = rules.shipped().get(code)
    if found is None:
        raise Http404
    return found


def _hits(seen: frozenset[int] | None) -> dict[str, tuple[int, int]]:
    where, params = "day >= %s", [clock.today() - dt.timedelta(days=6)]
    if seen is not None:
        where, params = where + " AND institution_id = ANY(%s)", [*params, sorted(seen)]  # type: ignore[list-item]
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT rule, count(*), count(DISTINCT institution_id) FROM exchange_finding WHERE {where} GROUP BY 1",
            params,
        )
        return {rule: (n, places) for rule, n, places in cursor.fetchall()}


def _settings(scope: Scope) -> Any:
    rows = RuleSetting.objects.select_related("consortium", "institution").order_by("-effective_from", "-pk")
    seen = selecting.institutions(scope)
    if seen is None:
        return rows
    mine = Membership.objects.live().filter(institution_id__in=seen).values("consortium_id")
    return (
        rows.filter(institution_id__in=seen)
        | rows.filter(consortium_id__in=mine)
        | rows.filter(consortium=None, institution=None)
    )


@page(may="see_feeds")
def rules_list(request: HttpRequest) -> HttpResponse:
    """Every rule by dimension, with its severity, hits of a week, and whether it is set otherwise somewhere."""
    hits = _hits(selecting.institutions(request.scope))
    changed: dict[str, int] = {}
    for one in _settings(request.scope):
        changed[one.rule] = changed.get(one.rule, 0) + 1
    groups: dict[str, list[dict[str, Any]]] = {}
    for r in rules.shipped().values():
        groups.setdefault(r.dimension, []).append(
            {"r": r, "kind": kinds.WORDS[r.kind], "severity": words.SEVERITIES[r.severity], "tone": words.TONES[r.severity],
             "hits": hits.get(r.code, (0, 0)), "changed": changed.get(r.code, 0)}
        )  # fmt: skip
    context = {
        "groups": [(scores.LABELS[d], groups[d]) for d in groups], "version": rules.data()["version"], "total": len(rules.shipped()),
        "since": clock.today() - dt.timedelta(days=6),
    }  # fmt: skip
    return render(request, "feeds/rules.html", context)


@page(may="see_feeds")
def rule(request: HttpRequest, code: str) -> HttpResponse:
    """One rule: what it means, how it is set, and the form to set it otherwise."""
    found = _rule(code)
    form = None
    if request.scope.may("mend_feeds"):
        form = SettingForm(
            request.POST or None, rule=found, scope=request.scope, initial={"effective_from": clock.today()}
        )
        if request.method == "POST" and form.is_valid() and _keep(request, found, form):
            return redirect("feeds:rule", code)
    elif request.method == "POST":
        request.scope.demand("mend_feeds")
    return render(
        request,
        "feeds/rules_one.html",
        _context(request, found, form),
        status=422 if form is not None and form.errors else 200,
    )


def _keep(request: HttpRequest, found: Rule, form: SettingForm) -> bool:
    data = form.cleaned_data
    if not data["severity"] and not form.thresholds:
        form.add_error("severity", T("请至少改一项。", "Change at least one thing."))
        return False
    try:
        with transaction.atomic():
            one = RuleSetting.objects.create(
                rule=found.code, severity=data["severity"], thresholds=form.thresholds, consortium=data["consortium"],
                institution=data["institution"], effective_from=data["effective_from"], reason=data["reason"],
                made_by=request.scope.name[:80], made_at=clock.now(),
            )  # fmt: skip
            audit.write(
                request.scope, "admin", what=f"quality rule {found.code}",
                detail={"setting": one.pk, "severity": one.severity, "thresholds": one.thresholds, "from": str(one.effective_from), "reason": one.reason},
            )  # fmt: skip
    except IntegrityError:
        form.add_error("effective_from", T("这一天已有同样范围的设置，请换一天。", "There is a setting of the same place from that day on; choose another day."))  # fmt: skip
        return False
    rules.forget()
    messages.success(
        request, T("已保存，半分钟内各接口生效。", "Saved; every door follows within half a minute.")
    )
    return True


def _context(request: HttpRequest, found: Rule, form: SettingForm | None) -> dict[str, Any]:
    hits = _hits(selecting.institutions(request.scope)).get(found.code, (0, 0))
    settings = [
        {"s": s, "severity": words.SEVERITIES.get(s.severity), "thresholds": [(NAMES.get(n, T(n, n)), v) for n, v in s.thresholds.items()],
         "ahead": s.effective_from > clock.today()}
        for s in _settings(request.scope).filter(rule=found.code)
    ]  # fmt: skip
    return {
        "r": found, "kind": kinds.WORDS[found.kind], "severity": words.SEVERITIES[found.severity], "tone": words.TONES[found.severity],
        "dimension": scores.LABELS[found.dimension], "hits": hits, "settings": settings, "form": form, "since": clock.today() - dt.timedelta(days=6),
        "doors": [words.DOORS[d] for d in found.doors], "thresholds": [(NAMES.get(n, T(n, n)), f"{v:g}") for n, v in found.thresholds.items()],
        "types": found.row.get("types") if isinstance(found.row.get("types"), list) else [], "limits": [(NAMES.get(n, T(n, n)), f"{v:g}", n) for n, v in found.thresholds.items()], "may_try": request.scope.may("mend_feeds"),
        "tries": trying.COUNTS, "says": found.words.format(name="…", low="…", high="…", unit="…"), "severities": [(c, words.SEVERITIES[c]) for c in ("refuse", "quarantine", "warn")],
    }  # fmt: skip


@require_POST
@page(may="mend_feeds")
def attempt(request: HttpRequest, code: str) -> HttpResponse:
    """Try a rule, as it is or set otherwise, on the last arrivals of its doors: nothing is stored, nobody's values are shown."""
    found = _rule(code)
    count = request.POST.get("count", "")
    severity = request.POST.get("severity", "")
    thresholds: dict[str, float] = {}
    for name in found.thresholds:
        try:
            thresholds[name] = min(
                max(float(request.POST.get(name) or found.thresholds[name]), 0.0), 100_000.0
            )
        except ValueError:
            thresholds[name] = found.thresholds[name]
    setting = Setting(severity if severity in words.SEVERITIES else "", tuple(sorted(thresholds.items())))
    began = time.monotonic()
    seen = selecting.institutions(request.scope)
    rows = Arrival.objects.all() if seen is None else Arrival.objects.filter(institution_id__in=seen)
    trial = trying.attempt(found, setting, rows, int(count) if count in trying.COUNTS else 100)
    audit.write(
        request.scope, "admin", what=f"quality rule {code}", detail={"did": "try", "arrivals": trial.looked}
    )
    form = SettingForm(rule=found, scope=request.scope, initial={"effective_from": clock.today()})
    context = _context(request, found, form) | {"trial": trial, "took": time.monotonic() - began}
    return render(request, "feeds/rules_one.html", context)
