"""Administration of the people who work in the network, and of the posts they hold."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db import IntegrityError, transaction
from django.db.models import Prefetch, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from lianxin.access import audit
from lianxin.access.web import page
from lianxin.network import kinds, roles
from lianxin.network.models import Department, Institution, Post, Practitioner
from lianxin.portal.forms import BLANK, Day, HouseForm, HouseModelForm, code_field
from lianxin.standards import clock
from lianxin.standards.text import T

PAGE = 40


class PersonForm(HouseModelForm):
    """Somebody who works in the network."""

    code = code_field(T("工号，一经建立不再更改。", "Staff number; never changed later."))
    sex = forms.ChoiceField(label=T("性别", "Sex"), choices=lambda: list(kinds.SEXES.items()))
    title = forms.ChoiceField(
        label=T("职称", "Title"),
        required=False,
        choices=lambda: [BLANK, *((t, kinds.title(t)) for t in kinds.TITLES)],
    )

    class Meta:
        model = Practitioner
        fields = ("name", "code", "name_en", "sex", "title", "licence_no", "phone", "active")
        labels = {
            "name": T("姓名", "Name"),
            "name_en": T("英文名或拼音", "English name or pinyin"),
            "licence_no": T("执业证书编号", "Licence number"),
            "phone": T("工作电话", "Work phone"),
            "active": T("在职", "At work"),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.fields["code"].disabled = True

    def clean_licence_no(self) -> str | None:
        """Empty means none (the column is unique)."""
        return self.cleaned_data.get("licence_no") or None


class PostForm(HouseForm):
    """A post to add: where, in which department, as what, from when."""

    institution = forms.ModelChoiceField(
        label=T("机构", "Institution"),
        queryset=Institution.objects.filter(active=True).order_by("code"),
        empty_label="—",
    )
    department = forms.CharField(
        label=T("科室代码", "Department code"),
        required=False,
        help_text=T("留空表示不属于某一科室", "Leave empty for a post outside departments"),
    )
    role = forms.ChoiceField(label=T("岗位", "Post"), choices=lambda: [BLANK, *roles.choices()])
    since = forms.DateField(label=T("开始日期", "From"), widget=Day(), initial=clock.today)

    def __init__(self, *args: Any, holder: Practitioner, **kwargs: Any) -> None:
        self.holder = holder
        super().__init__(*args, **kwargs)

    def clean(self) -> dict[str, Any]:
        """The department must exist there; roles held at the same time must not conflict."""
        data = super().clean() or {}
        inst, code = data.get("institution"), data.get("department")
        data["department"] = None
        if inst and code:
            data["department"] = Department.objects.filter(institution=inst, code=code, active=True).first()
            if data["department"] is None:
                known = "、".join(inst.departments.filter(active=True).values_list("code", flat=True)) or "—"
                self.add_error(
                    "department",
                    ValidationError(
                        T(
                            "该机构没有这个科室。可用代码：{c}",
                            "The institution has no such department. Codes: {c}",
                        ).format(c=known)
                    ),
                )
        if data.get("role"):
            held = set(Post.objects.live().filter(practitioner=self.holder).values_list("role", flat=True))
            why = roles.conflicts(held | {data["role"]})
            if why:
                self.add_error("role", ValidationError(why))
        return data


@page(roles.SYSTEM_ADMIN, roles.MANAGER)
def people(request: HttpRequest) -> HttpResponse:
    """People with their live posts; by words, role and institution."""
    live = Post.objects.live().select_related("institution", "department").order_by("id")
    rows = Practitioner.objects.prefetch_related(Prefetch("posts", queryset=live, to_attr="held"))
    query, role, inst = (request.GET.get(k, "").strip() for k in ("q", "role", "inst"))
    if query:
        low = query.lower()
        rows = rows.filter(
            Q(name__icontains=query)
            | Q(code__icontains=query)
            | Q(pinyin__startswith=low)
            | Q(initials__startswith=low)
        )
    if role in roles.ROLES:
        rows = rows.filter(pk__in=Post.objects.live().filter(role=role).values("practitioner_id"))
    if inst:
        rows = rows.filter(
            pk__in=Post.objects.live().filter(institution__code=inst).values("practitioner_id")
        )
    context = {
        "lines": Paginator(rows.order_by("code"), PAGE).get_page(request.GET.get("page")),
        "roles": roles.choices(),
        "q": query,
        "role_chosen": role,
        "inst": inst,
        "may_write": request.scope.has(roles.SYSTEM_ADMIN),
    }
    return render(request, "portal/manage/people.html", context)


@page(roles.SYSTEM_ADMIN)
def person_edit(request: HttpRequest, code: str | None = None) -> HttpResponse:
    """Make or change somebody; their posts stand beside the form."""
    person = get_object_or_404(Practitioner, code=code) if code else Practitioner()
    form = PersonForm(request.POST if request.method == "POST" else None, instance=person)
    if request.method == "POST" and form.is_valid():
        with transaction.atomic():
            person = form.save()
            audit.write(
                request.scope,
                "admin",
                what=f"practitioner {person.code}",
                detail={"changed": form.changed_data},
            )
        messages.success(request, T("已保存：{n}", "Saved: {n}").format(n=person.label))
        return redirect("portal:manage_person", person.code)
    return _person_page(request, person, form, PostForm(holder=person) if person.pk else None)


def _person_page(
    request: HttpRequest, person: Practitioner, form: PersonForm, post_form: PostForm | None
) -> HttpResponse:
    context = {
        "form": form,
        "person": person if person.pk else None,
        "post_form": post_form,
        "posts": person.posts.select_related("institution", "department").order_by("until", "-since")
        if person.pk
        else [],
        "today": clock.today(),
    }
    return render(request, "portal/manage/person.html", context)


@page(roles.SYSTEM_ADMIN)
@require_POST
def post_add(request: HttpRequest, code: str) -> HttpResponse:
    """Give somebody a post."""
    person = get_object_or_404(Practitioner, code=code)
    form = PostForm(request.POST, holder=person)
    if form.is_valid():
        data = form.cleaned_data
        try:
            with transaction.atomic():
                post = Post.objects.create(
                    practitioner=person,
                    institution=data["institution"],
                    department=data["department"],
                    role=data["role"],
                    since=data["since"],
                )
                audit.write(
                    request.scope,
                    "admin",
                    what=f"post {post.pk} opened",
                    detail={"practitioner": person.code},
                )
        except IntegrityError:
            form.add_error(
                "role", ValidationError(T("此人已有同样的岗位。", "This person holds the same post already."))
            )
        else:
            messages.success(request, T("岗位已增加。", "The post was added."))
            return redirect("portal:manage_person", person.code)
    return _person_page(request, person, PersonForm(instance=person), form)


@page(roles.SYSTEM_ADMIN)
@require_POST
def post_end(request: HttpRequest, pk: int) -> HttpResponse:
    """End a post today; access that rests on it ends with it."""
    post = get_object_or_404(Post.objects.select_related("practitioner"), pk=pk, until__isnull=True)
    with transaction.atomic():
        post.until = max(clock.today(), post.since)
        post.save(update_fields=["until"])
        audit.write(
            request.scope,
            "admin",
            what=f"post {post.pk} ended",
            detail={"practitioner": post.practitioner.code},
        )
    messages.success(request, T("岗位已结束。", "The post was ended."))
    return redirect("portal:manage_person", post.practitioner.code)
