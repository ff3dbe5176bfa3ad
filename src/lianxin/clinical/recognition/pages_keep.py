"""What decides about recognition, for everybody to read and for the consortium's office to keep: items and days, rules, quality and marks."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from lianxin.access import audit
from lianxin.access.errors import NotPermitted
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.clinical.recognition import knowing, marks, sheets
from lianxin.clinical.recognition.models import KINDS, LEVELS, MARKS, SCOPES, Assessment, Group, Rule, Term
from lianxin.network import directory
from lianxin.network.models import Consortium, Institution
from lianxin.standards import clock
from lianxin.standards.text import T, Text

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
LIMIT = 5 * 1024 * 1024
PAGE = 60


def _consortium(scope: Scope) -> Consortium | None:
    if scope.institution_id is None:
        return None
    found: Consortium | None = directory.consortia_of(
        Institution.objects.get(pk=scope.institution_id)
    ).first()
    return found


def _own(scope: Scope) -> Consortium:
    found = _consortium(scope)
    if found is None:
        raise NotPermitted(T("您的机构还没有加入医共体。", "Your institution is in no consortium yet."))
    return found


class TermForm(forms.Form):
    """Days of a group from a day on."""

    days = forms.IntegerField(label=T("有效天数", "Valid days"), min_value=1, max_value=3650)
    effective_from = forms.DateField(
        label=T("生效日", "From"), widget=forms.DateInput(attrs={"type": "date"})
    )
    source = forms.CharField(label=T("依据文件", "Document"), max_length=300)


class RuleForm(forms.ModelForm):
    """A rule of the own consortium."""

    scope = forms.ChoiceField(label=T("范围", "Scope"), choices=list(SCOPES.items()))
    level = forms.ChoiceField(label=T("级别", "Level"), choices=list(LEVELS.items()))
    kind = forms.ChoiceField(
        label=T("项目类别", "Kind"),
        choices=[("", T("全部项目", "All items")), *KINDS.items()],
        required=False,
    )
    allows = forms.ChoiceField(
        label=T("结论", "Says"),
        choices=[("yes", T("互认", "Recognise")), ("no", T("不互认", "Do not recognise"))],
    )

    class Meta:
        model = Rule
        fields = (
            "name",
            "rank",
            "scope",
            "region",
            "level",
            "kind",
            "marked",
            "must",
            "effective_from",
            "source",
        )
        labels = {
            "name": T("名称", "Name"), "rank": T("次序（小者先）", "Order (lower first)"), "region": T("区划代码前缀（2、4、6 位）", "Division prefix (2, 4 or 6 digits)"),
            "marked": T("仅限带有效标识的结果", "Marked results only"), "must": T("带有效标识者应予互认", "Marked ones must be recognised"),
            "effective_from": T("生效日", "From"), "source": T("依据文件", "Document"),
        }  # fmt: skip
        widgets = {"effective_from": forms.DateInput(attrs={"type": "date"})}

    def clean(self) -> dict[str, Any]:
        """A rule of a region names it."""
        data = super().clean() or {}
        region = data.get("region") or ""
        if data.get("scope") == "region" and not (
            region.isascii() and region.isdigit() and len(region) in (2, 4, 6)
        ):
            self.add_error(
                "region", forms.ValidationError(T("请填 2、4 或 6 位区划代码。", "Give 2, 4 or 6 digits."))
            )
        return data


class AssessmentForm(forms.Form):
    """One assessment."""

    institution = forms.CharField(label=T("机构代码", "Institution code"), max_length=40)
    item = forms.CharField(label=T("项目组代码或类别", "Group code or kind"), max_length=40)
    year = forms.IntegerField(label=T("年度", "Year"), min_value=2000, max_value=2100)
    organiser = forms.CharField(label=T("组织方", "Organiser"), max_length=120)
    reach = forms.ChoiceField(label=T("标识范围", "Reach of the mark"), choices=list(MARKS.items()))
    passed = forms.ChoiceField(
        label=T("结果", "Result"), choices=[("yes", T("合格", "Passed")), ("no", T("不合格", "Failed"))]
    )
    effective_from = forms.DateField(
        label=T("生效日", "From"), widget=forms.DateInput(attrs={"type": "date"})
    )
    effective_until = forms.DateField(
        label=T("失效日", "Until"), required=False, widget=forms.DateInput(attrs={"type": "date"})
    )
    source = forms.CharField(label=T("依据文件", "Document"), max_length=300)


# ------------------------------------------------------------------------------------------------------------------- groups


@page(may="see_recognition")
def groups(request: HttpRequest) -> HttpResponse:
    """Every item group with how long its results stand here, its price and the document; ``?format=xlsx`` as a table."""
    mine = _consortium(request.scope)
    if request.GET.get("format") == "xlsx":
        return _file(sheets.give_terms(mine), "recognition-items")
    return _groups(request, mine)


def _groups(request: HttpRequest, mine: Consortium | None, problems: Any = None) -> HttpResponse:
    known, on = knowing.known(), clock.today()
    ids = frozenset({mine.pk}) if mine else frozenset()
    text, kind = request.GET.get("q", "").strip().lower()[:40], request.GET.get("kind", "")
    found = sorted(known.groups.values(), key=lambda g: (list(KINDS).index(g.kind), g.code))
    found = [g for g in found if not kind or g.kind == kind]
    if text:
        found = [
            g
            for g in found
            if any(text in s.lower() for s in (g.code, g.name, g.name_en, g.pinyin, g.initials))
        ]
    lines = [
        {
            "g": g,
            "w": known.window(g.pk, ids, on),
            "own": (w := known.window(g.pk, ids, on)) and w.consortium is not None,
        }
        for g in found
    ]
    context = {
        "lines": lines, "kinds": KINDS.items(), "kind": kind, "q": text, "mine": mine, "keeps": request.scope.may("run_recognition"),
        "total": len(found), "problems": problems,
    }  # fmt: skip
    return render(request, "recognition/groups.html", context, status=422 if problems else 200)


@page(may="see_recognition")
def group(request: HttpRequest, code: str) -> HttpResponse:
    """One group: its codes, what it covers, how its days changed; the office sets its consortium's own days."""
    found = Group.objects.filter(code=code).first()
    if found is None:
        raise Http404
    mine = _consortium(request.scope)
    form = TermForm(request.POST or None, initial={"effective_from": clock.today()})
    if request.method == "POST":
        request.scope.demand("run_recognition")
        if form.is_valid():
            data = form.cleaned_data
            sheets.set_term(found, _own(request.scope), data["days"], data["effective_from"], data["source"])
            audit.write(
                request.scope, "admin", what=f"recognition days {code}", detail={"days": data["days"]}
            )
            messages.success(request, str(T("已保存。", "Saved.")))
            return redirect("recognition:group", code)
    terms = Term.objects.filter(Q(consortium=None) | Q(consortium=mine), group=found).select_related(
        "consortium"
    )
    covers = Group.objects.filter(code__in=found.covers)
    context = {
        "g": found, "terms": terms.order_by("-effective_from", "-pk"), "codes": found.codes.select_related("institution").order_by("system", "code"),
        "covers": covers, "form": form, "keeps": request.scope.may("run_recognition") and mine is not None,
    }  # fmt: skip
    return render(request, "recognition/group.html", context, status=422 if form.errors else 200)


@page(may="run_recognition")
@require_POST
def upload_terms(request: HttpRequest) -> HttpResponse:
    """Take a table of days for the own consortium."""
    mine = _own(request.scope)
    content, wrong = _content(request)
    rows, problems = (0, wrong) if wrong else sheets.take_terms(content, mine)
    if problems:
        return _groups(request, mine, problems)
    audit.write(request.scope, "admin", what="recognition days table", detail={"rows": rows})
    messages.success(request, str(T("已导入 {n} 行。", "{n} rows taken.").format(n=str(rows))))
    return redirect("recognition:groups")


def _content(request: HttpRequest) -> tuple[bytes, list[tuple[int, str, Text]]]:
    file = request.FILES.get("file")
    if file is None:
        return b"", [(0, "file", T("请选择表格文件。", "Choose a file."))]
    if (file.size or 0) > LIMIT:
        return b"", [(0, "file", T("文件超过 5 MB，请拆分。", "The file is over 5 MB; split it."))]
    return file.read(), []


def _file(content: bytes, name: str) -> HttpResponse:
    response = HttpResponse(content, content_type=XLSX)
    response["Content-Disposition"] = f'attachment; filename="{name}-{clock.today():%Y%m%d}.xlsx"'
    return response


# -------------------------------------------------------------------------------------------------------------------- rules


@page(may="see_recognition")
def rules(request: HttpRequest) -> HttpResponse:
    """Who recognises whose results, in the order the rules are asked; the office adds its consortium's own."""
    mine = _consortium(request.scope)
    form = RuleForm(request.POST or None, initial={"effective_from": clock.today(), "rank": 50, "must": True})
    if request.method == "POST":
        request.scope.demand("run_recognition")
        if form.is_valid():
            made = form.save(commit=False)
            made.consortium, made.allows = _own(request.scope), form.cleaned_data["allows"] == "yes"
            made.save()
            audit.write(
                request.scope, "admin", what=f"recognition rule {made.pk}", detail={"name": made.name}
            )
            messages.success(request, str(T("规则已生效。", "The rule is in force.")))
            return redirect("recognition:rules")
    found = Rule.objects.filter(Q(consortium=None) | Q(consortium=mine)).select_related("consortium", "group")
    today = clock.today()
    lines = [
        {
            "r": r,
            "kind": KINDS.get(r.kind, ""),
            "ended": bool(r.effective_until and r.effective_until <= today),
        }
        for r in found.order_by("rank", "pk")
    ]
    context = {
        "lines": lines,
        "form": form,
        "mine": mine,
        "keeps": request.scope.may("run_recognition") and mine is not None,
    }
    return render(request, "recognition/rules.html", context, status=422 if form.errors else 200)


@page(may="run_recognition")
@require_POST
def end_rule(request: HttpRequest, pk: int) -> HttpResponse:
    """End a rule of the own consortium (today is its last day; one made today never held)."""
    found = Rule.objects.filter(pk=pk, consortium=_own(request.scope)).first()
    if found is None:
        raise Http404
    found.effective_until = max(clock.today(), found.effective_from) + dt.timedelta(days=1)
    found.save(update_fields=["effective_until"])
    audit.write(request.scope, "admin", what=f"recognition rule {pk} ended")
    messages.success(request, str(T("规则自明日起不再有效。", "The rule ends today.")))
    return redirect("recognition:rules")


# -------------------------------------------------------------------------------------------------------------- assessments


def _members(scope: Scope) -> set[int]:
    return set(scope.institution_ids | scope.oversight_ids)


def _assessments(scope: Scope) -> Any:
    mine = _consortium(scope)
    members = {i.pk for i in directory.members_of(mine, below=True)} if mine else set()
    rows = Assessment.objects.filter(institution_id__in=members | _members(scope))
    return rows.select_related("institution", "group", "consortium").order_by(
        "-year", "institution__code", "pk"
    )


@page(may="see_recognition")
def assessments(request: HttpRequest) -> HttpResponse:
    """Who passed which quality assessment and so which mark their results carry; ``?format=xlsx`` as a table."""
    if request.GET.get("format") == "xlsx":
        return _file(sheets.give_assessments(_assessments(request.scope)), "recognition-quality")
    form = AssessmentForm(
        request.POST or None, initial={"year": clock.today().year, "effective_from": clock.today()}
    )
    if request.method == "POST":
        request.scope.demand("run_recognition")
        if form.is_valid() and _add(request, form):
            return redirect("recognition:assessments")
    return _drawn(request, form)


def _drawn(request: HttpRequest, form: forms.Form, problems: Any = None) -> HttpResponse:
    lines = Paginator(_assessments(request.scope), PAGE).get_page(request.GET.get("page"))
    shown = [
        {"a": a, "mark": marks.text(a) if a.passed else "", "kind": KINDS.get(a.kind, "")} for a in lines
    ]
    context = {
        "lines": shown,
        "page": lines,
        "form": form,
        "problems": problems,
        "keeps": request.scope.may("run_recognition"),
    }
    return render(
        request, "recognition/assessments.html", context, status=422 if form.errors or problems else 200
    )


@transaction.atomic
def _add(request: HttpRequest, form: forms.Form) -> bool:
    data = form.cleaned_data
    where = Institution.objects.filter(
        code=data["institution"].strip(), pk__in=_members(request.scope)
    ).first()
    if where is None:
        form.add_error(
            "institution",
            forms.ValidationError(T("不是本医共体的成员机构。", "Not a member of the consortium.")),
        )
        return False
    row, errors = sheets.assessment(
        where, data["item"].strip(), data["year"], data["organiser"], data["reach"], data["passed"] == "yes", data["effective_from"],
        data["effective_until"], data["source"], _consortium(request.scope),
    )  # fmt: skip
    for name, words in errors.items():
        form.add_error(name, forms.ValidationError(words))
    if row is None:
        return False
    changed = sheets.keep(row)
    audit.write(
        request.scope,
        "admin",
        what="recognition quality",
        detail={"institution": where.code, "item": data["item"], "passed": row.passed},
    )
    messages.success(
        request,
        str(
            T("已保存，{n} 条结果的标识已更新。", "Saved; {n} results got their mark anew.").format(
                n=str(changed)
            )
        ),
    )
    return True


@page(may="run_recognition")
@require_POST
def upload_assessments(request: HttpRequest) -> HttpResponse:
    """Take a table of assessments of the own consortium's members."""
    content, wrong = _content(request)
    rows, problems = (
        (0, wrong)
        if wrong
        else sheets.take_assessments(content, _members(request.scope), _consortium(request.scope))
    )
    if problems:
        return _drawn(request, AssessmentForm(), problems)
    audit.write(request.scope, "admin", what="recognition quality table", detail={"rows": rows})
    messages.success(request, str(T("已导入 {n} 行。", "{n} rows taken.").format(n=str(rows))))
    return redirect("recognition:assessments")
