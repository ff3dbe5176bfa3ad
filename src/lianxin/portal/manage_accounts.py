"""Accounts, kept by the security administrator: create with a one-time password, reset, lock, unlock."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Prefetch, Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST
from django_otp.plugins.otp_totp.models import TOTPDevice

from lianxin.access import accounts as service
from lianxin.access import audit
from lianxin.access.errors import Invalid
from lianxin.access.models import Account
from lianxin.access.scope import posts_of
from lianxin.access.web import page
from lianxin.duty.forms import refuse
from lianxin.network.models import Post, Practitioner
from lianxin.portal.forms import HouseForm
from lianxin.standards import clock
from lianxin.standards.text import T

PAGE = 40
ONCE = "lianxin_first_password"
"""Session key under which a first password waits to be shown once."""


class AccountForm(HouseForm):
    """A new account for somebody who holds (or will hold) posts."""

    code = forms.CharField(
        label=T("人员工号", "Staff number"),
        max_length=40,
        help_text=T(
            "在“人员与岗位”里登记的工号，账号的权限来自此人的岗位",
            "As recorded under People; the account may do what that person's posts allow",
        ),
    )
    username = forms.CharField(
        label=T("用户名", "User name"),
        max_length=60,
        widget=forms.TextInput(attrs={"autocapitalize": "none"}),
    )

    def clean_code(self) -> Practitioner:
        """The person behind the number."""
        code = self.cleaned_data["code"].strip()
        person = Practitioner.objects.filter(code=code).first()
        if person is None:
            raise forms.ValidationError(
                T(
                    "没有这个工号，请先由系统管理员登记人员。",
                    "No such number; the system administrator records people first.",
                )
            )
        return person


@page(may="manage_accounts")
def accounts(request: HttpRequest) -> HttpResponse:
    """The list, filtered by words and state."""
    live = Post.objects.live().select_related("institution").order_by("id")
    rows = Account.objects.select_related("practitioner").prefetch_related(
        Prefetch("practitioner__posts", queryset=live, to_attr="held")
    )
    query, state = request.GET.get("q", "").strip(), request.GET.get("state", "")
    now = clock.now()
    if query:
        rows = rows.filter(
            Q(username__icontains=query) | Q(name__icontains=query) | Q(practitioner__code=query)
        )
    if state == "locked":
        rows = rows.filter(locked_until__gt=now)
    elif state == "disabled":
        rows = rows.filter(is_active=False)
    elif state == "new":
        rows = rows.filter(must_change_password=True, is_active=True)
    lines = Paginator(rows.order_by("username"), PAGE).get_page(request.GET.get("page"))
    with_codes = set(
        TOTPDevice.objects.filter(user__in=[a.pk for a in lines], confirmed=True).values_list(
            "user_id", flat=True
        )
    )
    context = {
        "lines": lines,
        "q": query,
        "state": state,
        "now": now,
        "with_codes": with_codes,
        "states": [
            ("locked", T("已锁定", "Locked")),
            ("disabled", T("已停用", "Disabled")),
            ("new", T("待改初始密码", "First password not changed")),
        ],
    }
    return render(request, "portal/manage/accounts.html", context)


@page(may="manage_accounts")
def account_new(request: HttpRequest) -> HttpResponse:
    """Make an account; its one-time password is shown once, on the next page."""
    form = AccountForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        person: Practitioner = form.cleaned_data["code"]
        try:
            made, first = service.create(
                request.scope, form.cleaned_data["username"], person.name, practitioner=person
            )
        except Invalid as error:
            refuse(form, error.errors)
        else:
            request.session[ONCE] = {"account": made.pk, "password": first}
            messages.success(request, T("账号已建立。", "The account was made."))
            return redirect("portal:manage_account", made.pk)
    return render(
        request, "portal/manage/account_new.html", {"form": form}, status=422 if form.errors else 200
    )


@page(may="manage_accounts")
def account(request: HttpRequest, pk: int) -> HttpResponse:
    """One account: state, posts, what may be done with it."""
    row = get_object_or_404(Account.objects.select_related("practitioner"), pk=pk)
    shown: dict[str, Any] = request.session.get(ONCE) or {}
    first = ""
    if shown.get("account") == row.pk:
        first = shown["password"]
        del request.session[ONCE]
    context = {
        "row": row,
        "posts": posts_of(row),
        "first": first,
        "locked": bool(row.locked_until and row.locked_until > clock.now()),
        "device": TOTPDevice.objects.filter(user=row, confirmed=True).exists(),
        "own": row.pk == request.scope.account_id,
    }
    return render(request, "portal/manage/account.html", context)


@page(may="manage_accounts")
@require_POST
def account_act(request: HttpRequest, pk: int, act: str) -> HttpResponse:
    """``reset`` · ``unlock`` · ``disable`` · ``enable`` · ``forget-codes`` (a lost phone)."""
    row = get_object_or_404(Account, pk=pk)
    scope = request.scope
    try:
        if act == "reset":
            request.session[ONCE] = {"account": row.pk, "password": service.reset_password(scope, row)}
            said = T("新的一次性密码已生成。", "A new one-time password was made.")
        elif act == "unlock":
            service.unlock(scope, row)
            said = T("账号已解锁。", "The account was unlocked.")
        elif act in {"disable", "enable"}:
            service.set_active(scope, row, act == "enable")
            said = T("账号已启用。", "Enabled.") if act == "enable" else T("账号已停用。", "Disabled.")
        elif act == "forget-codes":
            TOTPDevice.objects.filter(user=row).delete()
            audit.write(
                scope, "admin", what=f"account {row.username}", detail={"did": "second factor removed"}
            )
            said = T(
                "动态口令已清除，此人可重新启用。",
                "One-time codes were removed; the person can set them up again.",
            )
        else:
            raise Http404
    except Invalid as error:
        messages.error(request, error.message)
    else:
        messages.success(request, said)
    return redirect("portal:manage_account", row.pk)
