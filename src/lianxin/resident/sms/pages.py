"""The system administrator's page of text messages: through whom they go, how many wait or failed, the latest ones masked.

Texts are shown only while the gateway is the one that keeps them, for a demonstration: then nobody else shows them.
"""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from lianxin.access import audit, seal
from lianxin.access.web import page
from lianxin.exchange.subscriptions import wire
from lianxin.network import roles
from lianxin.resident.sms.models import Gateway, Message
from lianxin.standards import clock
from lianxin.standards.text import T

PER_PAGE = 50
STATES = {
    "waiting": T("等待发送", "Waiting"),
    "sending": T("正在发送", "Being sent"),
    "sent": T("已发送", "Sent"),
    "failed": T("发送失败", "Failed"),
    "expired": T("过期未发", "Ran out"),
    "refused": T("超过号码日限", "Over the number's limit"),
}


class GatewayForm(forms.Form):
    """The gateway over signed JSON."""

    url = forms.CharField(label=T("网关地址", "Address of the gateway"), max_length=300)
    app_id = forms.CharField(label=T("应用标识", "App id"), max_length=80)
    secret = forms.CharField(
        label=T("密钥（留空则不变）", "Secret (empty: unchanged)"),
        max_length=200,
        required=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    def clean_url(self) -> str:
        """An address that may be called."""
        url = str(self.cleaned_data["url"]).strip()
        try:
            wire.endpoint(url)
        except wire.NotAllowed as why:
            raise forms.ValidationError(why.text) from None
        return url


@page(roles.SYSTEM_ADMIN)
def texts(request: HttpRequest) -> HttpResponse:
    """See and set; ``act`` http or none."""
    row = Gateway.objects.first()
    form = GatewayForm(
        request.POST if request.POST.get("act") == "http" else None,
        initial={"url": row.url, "app_id": row.app_id} if row else None,
        label_suffix="",
    )
    if request.method == "POST":
        if request.POST.get("act") == "none":
            return _set(request, None)
        if form.is_valid():
            given = form.cleaned_data
            sealed = seal.seal(given["secret"]) if given["secret"] else row.secret_sealed if row else ""
            if sealed:
                return _set(
                    request,
                    {"kind": "http", "url": given["url"], "app_id": given["app_id"], "secret_sealed": sealed},
                )
            form.add_error("secret", forms.ValidationError(T("请填写密钥。", "Type the secret.")))
    return _show(request, row, form)


def _set(request: HttpRequest, fields: dict[str, Any] | None) -> HttpResponse:
    """Change the gateway. Leaving the keeping one wipes what it kept."""
    before = Gateway.objects.first()
    if before is not None and before.kind == "kept":
        Message.objects.filter(state="sent").update(text_sealed="")
    if fields is None:
        Gateway.objects.all().delete()
    else:
        Gateway.objects.update_or_create(one=True, defaults={**fields, "changed_at": clock.now()})
    audit.write(
        request.scope, "admin", what="sms gateway", detail={"did": fields["kind"] if fields else "none"}
    )
    messages.success(request, T("已保存。", "Saved."))
    return redirect("sms:texts")


def _show(request: HttpRequest, row: Gateway | None, form: GatewayForm) -> HttpResponse:
    kept = row is not None and row.kind == "kept"
    latest = Paginator(Message.objects.order_by("-created_at", "-pk"), PER_PAGE).get_page(
        request.GET.get("page")
    )
    counts = dict(Message.objects.values_list("state").annotate(n=Count("pk")))
    lines = [
        {
            "message": m,
            "state": STATES[m.state],
            "text": seal.unseal(m.text_sealed) if kept and m.text_sealed else "",
            "phone": seal.unseal(m.phone_sealed) if kept else f"*******{m.phone_tail}",
        }
        for m in latest
    ]
    context = {
        "gateway": row,
        "form": form,
        "kept": kept,
        "lines": lines,
        "latest": latest,
        "counts": [(STATES[s], counts.get(s, 0)) for s in STATES],
    }
    return render(request, "sms/texts.html", context, status=422 if form.errors else 200)
