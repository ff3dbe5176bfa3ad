"""Forms of outreach: an assignment, a day's work, a lesson, a reflection."""

from __future__ import annotations

from typing import Any

from django import forms

from lianxin.access.scope import Scope
from lianxin.network.models import Department, Institution, Post
from lianxin.regional.consult.outreach import learning
from lianxin.regional.consult.outreach.models import KINDS, Assignment
from lianxin.regional.consult.outreach.service import learners
from lianxin.regional.consult.pool import ROLES
from lianxin.standards import clock
from lianxin.standards.text import T

WEEKDAYS = [
    ("1", T("周一", "Mon")), ("2", T("周二", "Tue")), ("3", T("周三", "Wed")), ("4", T("周四", "Thu")), ("5", T("周五", "Fri")),
    ("6", T("周六", "Sat")), ("7", T("周日", "Sun")),
]  # fmt: skip


def _day(label: Any, **more: Any) -> forms.DateField:
    return forms.DateField(
        label=label, widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"), **more
    )


class AssignmentForm(forms.Form):
    """Who goes where, for how long, what for. The doctors offered are those of the institutions one runs."""

    practitioner = forms.ChoiceField(label=T("派出医生", "Doctor"))
    to_institution = forms.ChoiceField(label=T("派往机构", "Sent to"))
    kinds = forms.MultipleChoiceField(
        label=T("工作内容", "What for"), choices=list(KINDS.items()), widget=forms.CheckboxSelectMultiple
    )
    weekdays = forms.MultipleChoiceField(
        label=T("每周", "Weekdays"), choices=WEEKDAYS, widget=forms.CheckboxSelectMultiple
    )
    since = _day(T("开始", "From"))
    until = _day(T("结束", "Until"))
    department = forms.ChoiceField(label=T("科室（选填）", "Department (optional)"), required=False)
    note = forms.CharField(label=T("备注", "Note"), required=False, max_length=300)

    def __init__(self, scope: Scope, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        mine = scope.institution_ids | scope.oversight_ids
        posts = Post.objects.live().filter(
            institution_id__in=mine, role__in=ROLES, institution__tier__in=("county", "city", "province")
        )
        self.fields["practitioner"].choices = [  # type: ignore[attr-defined]
            ("", "—"), *((f"{p.practitioner_id}:{p.institution_id}", f"{p.institution.short} {p.practitioner.name} {p.practitioner.title}")
                         for p in posts.select_related("practitioner", "institution").order_by("institution__code", "practitioner__code")),
        ]  # fmt: skip
        from lianxin.network.models import Membership

        consortia = Membership.objects.live().filter(institution_id__in=mine).values("consortium_id")
        below = Institution.objects.filter(
            active=True, kind__in=("township", "community"), memberships__consortium_id__in=consortia, memberships__until=None
        ).distinct().order_by("code")  # fmt: skip
        self.fields["to_institution"].choices = [("", "—"), *((str(i.pk), str(i.short_label)) for i in below)]  # type: ignore[attr-defined]
        places = (
            Department.objects.filter(institution__in=below, active=True)
            .select_related("institution")
            .order_by("institution__code", "code")
        )
        named = [(str(d.pk), f"{d.institution.short} {d.name}") for d in places]
        self.fields["department"].choices = [("", "—"), *named]  # type: ignore[attr-defined]


class DayForm(forms.Form):
    """A day's work with the patients seen."""

    on = _day(T("日期", "Day"))
    kind = forms.ChoiceField(label=T("工作内容", "What"))
    minutes = forms.IntegerField(label=T("时长（分钟）", "Minutes"), min_value=15, max_value=720, initial=240)
    note = forms.CharField(
        label=T("工作小结", "In words"),
        required=False,
        max_length=600,
        widget=forms.Textarea(attrs={"rows": 2}),
    )
    refs = forms.CharField(
        label=T("看过的患者（每行一个就诊或单号）", "Patients seen (a visit or case number a line)"), required=False, max_length=4000,
        widget=forms.Textarea(attrs={"rows": 3}), help_text=T("例如 Encounter/123 或 ZZ20260302-00012", "for example Encounter/123 or ZZ20260302-00012"),
    )  # fmt: skip

    def __init__(self, assignment: Assignment, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["kind"].choices = [(k, KINDS[k]) for k in assignment.kinds]  # type: ignore[attr-defined]
        self.fields["on"].initial = clock.today()

    @property
    def lines(self) -> list[str]:
        """References, a line each."""
        return [line.strip() for line in self.cleaned_data["refs"].splitlines() if line.strip()][:60]


class LessonForm(forms.Form):
    """A lesson and who took part."""

    topic = forms.CharField(label=T("带教主题", "Topic"), max_length=120)
    on = _day(T("日期", "Day"))
    minutes = forms.IntegerField(label=T("时长（分钟）", "Minutes"), min_value=15, max_value=720, initial=45)
    attendees = forms.MultipleChoiceField(
        label=T("听课人员", "Who took part"), widget=forms.CheckboxSelectMultiple
    )

    def __init__(self, assignment: Assignment, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["on"].initial = clock.today()
        seen: dict[int, str] = {}
        for post in learners(assignment):
            seen.setdefault(post.practitioner_id, f"{post.practitioner.name}（{post.institution.short}）")
        self.fields["attendees"].choices = [(str(k), v) for k, v in seen.items()]  # type: ignore[attr-defined]


class ReflectionForm(forms.Form):
    """What one takes from a case."""

    agreed = forms.ChoiceField(
        label=T("上级意见与我的判断", "The opinion and what I had thought"),
        choices=list(learning.AGREED.items()),
    )
    words = forms.CharField(
        label=T("学习体会", "What I take from it"), max_length=2000, widget=forms.Textarea(attrs={"rows": 5}),
        help_text=T("不少于 20 字：差在哪里，下次怎样做。", "At least 20 characters: what differed, what to do next time."),
    )  # fmt: skip
