"""Who reads at a centre and when: readers with their limits, the duty roster of a week."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django import forms
from django.contrib import messages
from django.db import IntegrityError, transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from lianxin.access import audit
from lianxin.access.models import Account
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.duty.errors import Refused
from lianxin.duty.forms import refuse
from lianxin.network import roles
from lianxin.network.models import Post
from lianxin.regional.reading import desk, doubles, roster, service
from lianxin.regional.reading.models import CENTRES, Entry, Reader, Report
from lianxin.standards import clock
from lianxin.standards.text import T

MODALITIES = {
    "imaging": ("CT", "MR", "DX", "US"),
    "ecg": ("ECG",),
    "laboratory": ("LAB",),
    "pathology": ("PATH", "FROZEN"),
}
STAFF = {"laboratory": (roles.LABORATORY, roles.READER)}
"""Posts whose holders may be readers of a centre (others: diagnostic doctors)."""


def runs(scope: Scope, centre: str) -> bool:
    """Whether somebody decides who reads at a centre of their institution: its office, or an approver there."""
    if scope.institution_id is None:
        return False
    if scope.has(roles.MANAGER):
        return True
    return any(r.centre == centre and r.approves for r in desk.readers_of(scope))


def _centre(request: HttpRequest) -> str:
    given = request.GET.get("centre", "") or request.POST.get("centre", "")
    if given in CENTRES:
        return given
    mine = desk.readers_of(request.scope)
    return mine[0].centre if mine else "imaging"


# -------------------------------------------------------------------------------------------------------------- roster


class ShiftForm(forms.Form):
    """A shift, repeated weekly."""

    reader = forms.TypedChoiceField(label=T("人员", "Reader"), coerce=int)
    kind = forms.ChoiceField(label=T("班次", "Shift"), choices=list(roster.KINDS.items()))
    day = forms.DateField(label=T("日期", "Day"), widget=forms.DateInput(attrs={"type": "date"}))
    start = forms.TimeField(
        label=T("开始", "From"), widget=forms.TimeInput(attrs={"type": "time"}, format="%H:%M")
    )
    end = forms.TimeField(
        label=T("结束（早于开始则到次日）", "To (before the start: next day)"),
        widget=forms.TimeInput(attrs={"type": "time"}, format="%H:%M"),
    )
    weeks = forms.IntegerField(label=T("连续周数", "Weeks"), min_value=1, max_value=roster.MOST_WEEKS, initial=1)  # fmt: skip

    def __init__(self, readers: list[Reader], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        reader = self.fields["reader"]
        assert isinstance(reader, forms.ChoiceField)
        reader.choices = [(r.pk, r.account.name) for r in readers]


@page(may="run_centres")
def roster_page(request: HttpRequest) -> HttpResponse:
    """The week's roster of one's own institution's centre, who stands now, and (for whoever runs it) entering a shift."""
    scope, centre = request.scope, _centre(request)
    institution_id = scope.institution_id or 0
    monday = _monday(request.GET.get("week", "") or request.POST.get("week", ""))
    may = runs(scope, centre)
    staff = list(Reader.objects.filter(institution_id=institution_id, centre=centre, active=True).select_related("account").order_by("account__name"))  # fmt: skip
    form, status = ShiftForm(staff, initial={"day": max(monday, clock.today()), "start": dt.time(8), "end": dt.time(17, 30), "weeks": 1}), 200  # fmt: skip
    if request.method == "POST":
        if not may:
            return _refused(request, scope)
        form = ShiftForm(staff, request.POST)
        if form.is_valid() and _enter(request, form, staff):
            return redirect(f"{reverse('reading:roster')}?centre={centre}&week={monday}")
        status = 422
    shifts = roster.of_week(institution_id, centre, monday)
    days = [monday + dt.timedelta(days=n) for n in range(7)]
    by_day = [
        {"day": day, "today": day == clock.today(), "shifts": [s for s in shifts if s.starts_at.astimezone(clock.ZONE).date() == day or (day == monday and s.starts_at.astimezone(clock.ZONE).date() < monday)]}
        for day in days
    ]  # fmt: skip
    context = {
        "centre": centre, "centres": CENTRES, "days": by_day, "kinds": roster.KINDS, "now_on": roster.on_duty(institution_id, centre), "form": form,
        "may": may, "monday": monday, "before": monday - dt.timedelta(days=7), "after": monday + dt.timedelta(days=7), "now": clock.now(), "staff": staff,
    }  # fmt: skip
    return render(request, "reading/roster.html", context, status=status)


def _refused(request: HttpRequest, scope: Scope) -> HttpResponse:
    messages.error(
        request,
        str(T("排班由医共体办或中心审核医师维护。", "The office or the centre's approvers keep the roster.")),
    )
    return redirect("reading:roster")


def _monday(text: str) -> dt.date:
    try:
        day = dt.date.fromisoformat(text)
    except ValueError:
        day = clock.today()
    if not 2000 < day.year < 2200:
        day = clock.today()
    return day - dt.timedelta(days=day.weekday())


def _enter(request: HttpRequest, form: ShiftForm, staff: list[Reader]) -> bool:
    data = form.cleaned_data
    reader = next(r for r in staff if r.pk == data["reader"])
    try:
        made = roster.add(reader, data["kind"], data["day"], data["start"], data["end"], data["weeks"])
    except Refused as refusal:
        refuse(form, refusal.errors)
        return False
    audit.write(request.scope, "create", what=f"shift {reader.centre}", detail={"reader": reader.pk, "shifts": len(made)})  # fmt: skip
    messages.success(request, str(T("已排 {n} 个班次。", "{n} shifts entered.").format(n=str(len(made)))))
    return True


@page(may="run_centres")
@require_POST
def roster_remove(request: HttpRequest, shift_id: int) -> HttpResponse:
    """Take a coming shift off the roster."""
    scope, centre = request.scope, _centre(request)
    if not runs(scope, centre):
        return _refused(request, scope)
    if roster.remove(scope.institution_id or 0, centre, shift_id):
        audit.write(scope, "delete", what=f"shift {centre}", detail={"shift": shift_id})
        messages.success(request, str(T("已删除班次。", "Shift removed.")))
    else:
        messages.warning(request, str(T("班次已结束或不存在。", "The shift has ended or is gone.")))
    return redirect(f"{reverse('reading:roster')}?centre={centre}&week={_monday(request.POST.get('week', ''))}")  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- readers


class ReaderForm(forms.ModelForm):
    """What a reader reads, how much at a time, what they may do."""

    modalities = forms.MultipleChoiceField(
        label=T("检查类型", "Modalities"), widget=forms.CheckboxSelectMultiple
    )
    most_open = forms.IntegerField(label=T("同时认领上限", "Claims at a time"), min_value=1, max_value=20)
    signs = forms.BooleanField(label=T("可直接签发", "May sign"), required=False)
    approves = forms.BooleanField(label=T("可审核与仲裁", "Approves and arbitrates"), required=False)
    expert = forms.BooleanField(label=T("专家（可接收转诊断）", "Expert (hard studies may be handed over)"), required=False)  # fmt: skip
    new = forms.BooleanField(label=T("新任（全部双读）", "New (everything read twice)"), required=False)
    active = forms.BooleanField(label=T("在岗", "Active"), required=False)

    class Meta:
        model = Reader
        fields = ("modalities", "most_open", "signs", "approves", "expert", "new", "active")

    def __init__(self, centre: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        modalities = self.fields["modalities"]
        assert isinstance(modalities, forms.MultipleChoiceField)
        modalities.choices = [(m, m) for m in MODALITIES[centre]]

    def clean(self) -> dict[str, Any]:
        """Who approves others signs their own."""
        data: dict[str, Any] = super().clean() or {}
        if data.get("approves") and not data.get("signs"):
            self.add_error(
                "signs", str(T("审核医师须可直接签发。", "Whoever approves others signs their own."))
            )
        return data


@page(may="run_centres")
def readers(request: HttpRequest) -> HttpResponse:
    """The readers of a centre of one's own institution; whoever runs it adds one from its staff."""
    scope, centre = request.scope, _centre(request)
    institution_id = scope.institution_id or 0
    may = runs(scope, centre)
    rows = list(Reader.objects.filter(institution_id=institution_id, centre=centre).select_related("account").order_by("-active", "account__name"))  # fmt: skip
    open_to = _eligible(institution_id, centre, {r.account_id for r in rows}) if may else []
    if request.method == "POST":
        account = next((a for a in open_to if str(a.pk) == request.POST.get("account", "")), None)
        if not may or account is None:
            messages.error(request, str(T("请选择本机构的诊断人员。", "Choose somebody of the institution.")))
            return redirect(f"{reverse('reading:readers')}?centre={centre}")
        try:
            with transaction.atomic():
                made = Reader.objects.create(
                    account=account, institution_id=institution_id, centre=centre, modalities=list(MODALITIES[centre]), new=True,
                    new_since=clock.now(),
                )  # fmt: skip
        except IntegrityError:
            return redirect(f"{reverse('reading:readers')}?centre={centre}")  # a second press
        audit.write(scope, "create", what=f"reader {centre}", detail={"account": account.pk})
        return redirect("reading:reader", made.pk)
    lines = [{"reader": r, "run": doubles.run_of(r) if r.new else None} for r in rows]
    context = {"centre": centre, "centres": CENTRES, "lines": lines, "may": may, "open_to": open_to}
    return render(request, "reading/readers.html", context)


def _eligible(institution_id: int, centre: str, already: set[int]) -> list[Account]:
    posts = Post.objects.live().filter(
        institution_id=institution_id, role__in=STAFF.get(centre, (roles.READER,))
    )
    rows = Account.objects.filter(practitioner_id__in=posts.values("practitioner_id"), is_active=True)
    return list(rows.exclude(pk__in=already).order_by("name", "pk"))


@page(may="run_centres")
def reader_one(request: HttpRequest, reader_id: int) -> HttpResponse:
    """One reader: limits and rights, and what they have done lately."""
    scope = request.scope
    reader = Reader.objects.select_related("account").filter(pk=reader_id, institution_id=scope.institution_id or 0).first()  # fmt: skip
    if reader is None:
        raise Http404
    may, was_new = runs(scope, reader.centre), reader.new
    form, status = ReaderForm(reader.centre, instance=reader), 200
    if request.method == "POST":
        if not may:
            return _refused(request, scope)
        form = ReaderForm(reader.centre, request.POST, instance=reader)
        if form.is_valid():
            _keep(request, form, was_new=was_new)
            return redirect(f"{reverse('reading:readers')}?centre={reader.centre}")
        status = 422
    since = clock.now() - dt.timedelta(days=28)
    signed = Report.objects.unscoped("how much was signed, no content").filter(
        account_id=reader.account_id, institution_id=reader.institution_id, reading__centre=reader.centre, state="signed", signed_at__gte=since
    )  # fmt: skip
    context = {"reader": reader, "form": form, "may": may, "run": doubles.run_of(reader), "signed": signed.count(), "reviews": doubles.record_of(reader)}  # fmt: skip
    return render(request, "reading/reader.html", context, status=status)


def _keep(request: HttpRequest, form: ReaderForm, *, was_new: bool) -> None:
    """Save what was set; a reader who counts as new again starts anew, and what waits for one who left is everybody's."""
    with transaction.atomic():
        names = list(form.fields)
        reader: Reader = form.save(commit=False)
        if reader.new and not was_new:
            reader.new_since = clock.now()
        reader.save(update_fields=[*names, "new_since"])  # never the counter of open seats: it is the queue's
        opened = 0
        if not reader.active:
            opened = _let_go(request.scope, reader)
        audit.write(
            request.scope, "update", what=f"reader {reader.centre}",
            detail={"reader": reader.pk, "opened": opened, **{n: form.cleaned_data[n] for n in names}},
        )  # fmt: skip
    messages.success(request, str(T("已保存。", "Saved.")))


def _let_go(scope: Scope, reader: Reader) -> int:
    """What waits for somebody who reads no more goes to everybody, what they hold goes back; how many seats."""
    rows = Entry.objects.unscoped("the centre's own queue").filter(
        institution_id=reader.institution_id, centre=reader.centre
    )
    held = list(rows.filter(state="claimed", account_id=reader.account_id).values_list("pk", flat=True))
    for entry_id in held:
        service.take_back(scope, entry_id, reader.account_id)
    return len(held) + rows.filter(state="waiting", only=reader.account_id).update(only=None)
