"""Systems and apps that call the doors, kept by the security administrator: what each may ask for, how it proves itself, when it
last did. Secrets are shown once; a change of keys, secret or scopes ends what was issued under the old ones."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from lianxin.access import audit, clients, tokens
from lianxin.access.errors import Invalid
from lianxin.access.models import Client, Grant, Token
from lianxin.access.web import page
from lianxin.duty.forms import refuse
from lianxin.network.models import Institution
from lianxin.portal.forms import HouseForm
from lianxin.standards import clock
from lianxin.standards.text import T

PAGE = 40
ONCE = "lianxin_client_secret"
"""Session key under which a new secret waits to be shown once."""

KINDS = {
    "backend": T("后台系统（系统对系统）", "Backend (system to system)"),
    "app": T("应用（由医务人员打开）", "App (opened by a person)"),
}
VALIDATIONS = {
    "strict": T(
        "严格：违反规则或所声明档案的资源拒收", "Strict: what breaks a rule or a claimed profile is refused"
    ),
    "warn": T(
        "警告：结构正确即接收，问题以警告告知", "Warn: what is structurally sound is taken, problems are told"
    ),
}
STATES = (("active", T("使用中", "In use")), ("disabled", T("已停用", "Disabled")))


class ClientForm(HouseForm):
    """A system or an app as it is registered."""

    name = forms.CharField(label=T("名称", "Name"), max_length=120)
    kind = forms.ChoiceField(label=T("类型", "Kind"), choices=lambda: list(KINDS.items()))
    institution = forms.ModelChoiceField(
        Institution.objects.filter(active=True).order_by("code"),
        required=False,
        empty_label=str(T("不限机构（全平台）", "No institution (whole platform)")),
        label=T("所属机构", "Institution"),
        help_text=T(
            "后台系统只能读写该机构能看的资料；不选则不受机构限制，请慎用",
            "A backend reaches what that institution may see; with none chosen it is bound to no institution: take care",
        ),
    )
    scope = forms.CharField(
        label=T("可申请的授权范围", "Scopes it may ask for"),
        max_length=4000,
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false", "autocapitalize": "none"}),
        help_text=T(
            "空格分隔。后台系统如 system/*.rs；应用如 patient/*.rs user/Observation.rs?category=laboratory offline_access",
            "Separated by blanks. A backend: system/*.rs; an app: patient/*.rs user/Observation.rs?category=laboratory offline_access",
        ),
    )
    jwks = forms.CharField(
        required=False,
        max_length=60_000,
        label=T("公钥（JWKS）", "Public keys (JWKS)"),
        widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false", "autocapitalize": "none"}),
        help_text=T('粘贴 {"keys": [...]}，只含公钥', 'Paste {"keys": [...]}, public keys only'),
    )
    jwks_url = forms.CharField(
        required=False,
        max_length=500,
        label=T("公钥地址（JWKS URL）", "Address of the keys (JWKS URL)"),
        help_text=T("https 地址；与上一项只填一项", "An https address; give this or the keys, not both"),
    )
    redirect_uris = forms.CharField(
        required=False,
        max_length=12_000,
        label=T("回调地址", "Redirect addresses"),
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false", "autocapitalize": "none"}),
        help_text=T(
            "应用必填，每行一个，逐字核对", "Needed for an app; one a line, compared letter by letter"
        ),
    )
    launch_url = forms.CharField(
        required=False,
        max_length=500,
        label=T("从病历打开的地址", "Launch address"),
        help_text=T("填写后，病历页上会出现此应用", "With it the app is offered on patients' pages"),
    )
    validation = forms.ChoiceField(
        required=False,
        label=T("写入校验", "Validation of what it writes"),
        choices=lambda: list(VALIDATIONS.items()),
    )

    def draft(self) -> clients.Draft:
        """What was typed, for the service."""
        data = self.cleaned_data
        return clients.Draft(
            data["name"],
            data["kind"],
            data["institution"],
            data["scope"],
            data["jwks"],
            data["jwks_url"],
            data["redirect_uris"].split(),
            data["launch_url"],
            data["validation"] or "strict",
        )


@page(may="manage_accounts")
def clients_list(request: HttpRequest) -> HttpResponse:
    """The list, filtered by words, kind and state."""
    rows = Client.objects.select_related("institution")
    query, kind, state = (request.GET.get(n, "").strip() for n in ("q", "kind", "state"))
    if query:
        rows = rows.filter(Q(name__icontains=query) | Q(key=query) | Q(institution__name__icontains=query))
    if kind in KINDS:
        rows = rows.filter(kind=kind)
    if state in ("active", "disabled"):
        rows = rows.filter(active=state == "active")
    context = {
        "lines": Paginator(rows.order_by("name"), PAGE).get_page(request.GET.get("page")),
        "q": query,
        "kind": kind,
        "state": state,
        "kinds": list(KINDS.items()),
        "states": STATES,
    }
    return render(request, "portal/manage/clients.html", context)


@page(may="manage_accounts")
def client_edit(request: HttpRequest, pk: int | None = None) -> HttpResponse:
    """One client: register it, see how it stands, change it."""
    row = get_object_or_404(Client.objects.select_related("institution"), pk=pk) if pk is not None else None
    form = ClientForm(request.POST if request.method == "POST" else None, initial=_initial(row))
    if request.method == "POST" and form.is_valid():
        try:
            saved = clients.save(request.scope, form.draft(), row)
        except Invalid as error:
            refuse(form, error.errors)
        else:
            messages.success(
                request,
                T("已登记。", "Registered.")
                if row is None
                else T("已保存，此前签发的令牌已失效。", "Saved; tokens issued before have ended."),
            )
            return redirect("portal:manage_client", saved.pk)
    context: dict[str, Any] = {"form": form, "row": row}
    if row is not None:
        now = clock.now()
        live = Token.objects.filter(client=row, revoked_at__isnull=True, expires_at__gt=now)
        shown = request.session.get(ONCE) or {}
        if shown.get("client") == row.pk:
            context["secret"] = shown["secret"]
            del request.session[ONCE]
        context |= {
            "kind_label": KINDS[row.kind],
            "tokens": live.count(),
            "last_token": live.order_by("-expires_at").first(),
            "grants": Grant.objects.filter(client=row, revoked_at__isnull=True, expires_at__gt=now).count(),
        }
    return render(request, "portal/manage/client.html", context, status=422 if form.errors else 200)


def _initial(row: Client | None) -> dict[str, Any]:
    if row is None:
        return {"kind": "backend"}
    return {
        "name": row.name,
        "kind": row.kind,
        "institution": row.institution_id,
        "scope": row.scope,
        "jwks": json.dumps(row.jwks, indent=1) if row.jwks else "",
        "jwks_url": row.jwks_url,
        "redirect_uris": "\n".join(row.redirect_uris),
        "launch_url": row.launch_url,
        "validation": row.validation,
    }


@page(may="manage_accounts")
@require_POST
def client_act(request: HttpRequest, pk: int, act: str) -> HttpResponse:
    """``secret`` · ``no-secret`` · ``disable`` · ``enable`` · ``revoke`` (every token and grant)."""
    row, scope = get_object_or_404(Client, pk=pk), request.scope
    if act == "secret":
        request.session[ONCE] = {"client": row.pk, "secret": clients.new_secret(scope, row)}
        said = T("新的密钥已生成。", "A new secret was made.")
    elif act == "no-secret":
        clients.remove_secret(scope, row)
        said = T("密钥已取消。", "The secret was taken away.")
    elif act in ("disable", "enable"):
        clients.set_active(scope, row, act == "enable")
        said = T("已启用。", "Enabled.") if act == "enable" else T("已停用。", "Disabled.")
    elif act == "revoke":
        count = tokens.revoke(scope, row.name)
        said = T("已收回 {n} 个令牌。", "{n} tokens were revoked.").format(n=count)
        audit.write(scope, "admin", what=f"client {row.name}", detail={"did": "grants revoked"})
    else:
        raise Http404
    messages.success(request, said)
    return redirect("portal:manage_client", row.pk)
