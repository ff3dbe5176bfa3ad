"""Systems that speak HL7 v2, for the system administrator: their settings, their messages and what became of them, once more.

What a message says is never shown here: its kind, its control id, when, and the reason of a refusal.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any, ClassVar

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.db import IntegrityError, transaction
from django.db.models import Count, Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.views.decorators.http import require_POST

from lianxin.access import audit
from lianxin.access.models import Client
from lianxin.access.web import page
from lianxin.exchange.feeds import errors
from lianxin.exchange.ihe import pixm
from lianxin.exchange.v2 import charset, kinds, outbound, outbound_changes, outbound_frame
from lianxin.exchange.v2.models import HELD, REFUSED, SENT, WAITING, Peer, V2Message
from lianxin.network.roles import SYSTEM_ADMIN
from lianxin.standards import clock
from lianxin.standards.text import T, Text

PAGE = 50
STATES = {
    REFUSED: T("被拒", "Refused"),
    WAITING: T("待发送", "Waiting"),
    SENT: T("已送达", "Sent"),
    HELD: T("已搁置", "Set aside"),
}
WANTED = {
    "A31": T("标识变化（A31）", "Changed identifiers (A31)"),
    "A40": T("主索引号合并（A40）", "Merged person numbers (A40)"),
    "A24": T("关联与取消关联（A24/A37）", "Linked and unlinked (A24, A37)"),
    "A04": T("患者资料：首次 A04，之后 A08", "People's data: A04 first, A08 after"),
    "A08": T("患者资料：一律 A08", "People's data: always A08"),
    "A31P": T("患者资料：一律 A31", "People's data: always A31"),
    "ORU": T("他院报告（ORU^R01）", "Reports of others (ORU^R01)"),
    "REF": T("转诊进展（REF/RRI I12–I15）", "Steps of referrals (REF, RRI I12–I15)"),
    "SIU": T("预约变化（SIU S12–S15、S26）", "Bookings (SIU S12–S15, S26)"),
}
VERSIONS = ("2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.8")


class PeerForm(forms.ModelForm):
    """Settings of one system."""

    addresses = forms.CharField(
        required=False,
        max_length=1000,
        label=T("来源网段", "Networks it calls from"),
        help_text=T(
            "空格分隔，如 10.1.2.0/24；空：只许本机",
            "Separated by blanks, such as 10.1.2.0/24; empty: this machine only",
        ),
    )
    wants = forms.MultipleChoiceField(
        required=False,
        choices=list(WANTED.items()),
        widget=forms.CheckboxSelectMultiple,
        label=T("通知内容", "What it hears"),
    )

    class Meta:
        model = Peer
        fields = (
            "name", "application", "facility", "client", "default_system", "addresses", "fingerprint", "codec", "reuses_ids", "active",
            "host", "port", "tls", "version", "enhanced", "wants",
        )  # fmt: skip
        labels: ClassVar[dict[str, Text]] = {
            "name": T("名称", "Name"),
            "application": T("发送应用 MSH-3", "Sending application MSH-3"),
            "facility": T("发送机构 MSH-4", "Sending facility MSH-4"),
            "client": T("以哪个系统的身份", "Acts as"),
            "default_system": T("院内号的标识域", "Domain of its local numbers"),
            "fingerprint": T("证书指纹（SHA-256）", "Fingerprint of its certificate (SHA-256)"),
            "codec": T("字符集（MSH-18 未说明时）", "Character set (when MSH-18 does not say)"),
            "reuses_ids": T("控制号会重新编号", "Its control ids begin anew now and then"),
            "active": T("启用", "In use"),
            "host": T("接收地址", "Address it listens on"),
            "port": T("接收端口", "Port"),
            "tls": T("用 TLS 发送", "Send by TLS"),
            "version": T("发送的版本", "Version to send"),
            "enhanced": T("两步应答（先 CA，后 AA）", "Answers twice (CA, then AA)"),
        }
        help_texts: ClassVar[dict[str, Text]] = {
            "client": T(
                "在“系统与应用”中登记，决定机构与权限；停用它即不再受理",
                "Entered under “Systems and apps”: it gives the institution and the permissions; switch it off to shut this out",
            ),
            "default_system": T(
                "PID-3 没有发号机构时使用，如 urn:oid:1.2.156.…",
                "For PID-3 without an assigning authority, such as urn:oid:1.2.156.…",
            ),
            "host": T("空：不发送通知", "Empty: nothing is sent"),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""
        for field in self.fields.values():
            field.error_messages["required"] = T("此项必填，请填写。", "This is required; please fill it in.")
        self.fields["version"].widget = forms.Select(choices=[(v, v) for v in VERSIONS])
        client = self.fields["client"]
        assert isinstance(client, forms.ModelChoiceField)
        client.queryset = Client.objects.filter(institution__isnull=False).order_by("name")
        self.initial["addresses"] = " ".join(self.instance.addresses)

    def clean_addresses(self) -> list[str]:
        """Networks, as they will be compared."""
        out = []
        for one in self.cleaned_data["addresses"].replace(",", " ").split():
            try:
                out.append(str(ipaddress.ip_network(one, strict=False)))
            except ValueError:
                raise forms.ValidationError(
                    T("不是合法的网段：{a}", "No valid network: {a}").format(a=one[:60])
                ) from None
        return out

    def clean_fingerprint(self) -> str:
        """SHA-256 in hexadecimal, however it was copied."""
        plain = re.sub(r"[\s:]", "", self.cleaned_data["fingerprint"]).lower()
        if plain and not re.fullmatch(r"[0-9a-f]{64}", plain):
            raise forms.ValidationError(
                T(
                    "应为证书的 SHA-256（64 位十六进制）。",
                    "The SHA-256 of a certificate has 64 hexadecimal digits.",
                )
            )
        return plain

    def clean_default_system(self) -> str:
        """An absolute URI."""
        given: str = self.cleaned_data["default_system"].strip()
        if given and not pixm.is_uri(given):
            raise forms.ValidationError(
                T("标识域应为 URI，如 urn:oid:1.2.3。", "The domain is a URI such as urn:oid:1.2.3.")
            )
        return given

    def clean_codec(self) -> str:
        """The codec of a character set's name."""
        codec = charset.codec_of(self.cleaned_data["codec"])
        if codec is None:
            raise forms.ValidationError(T("不认识的字符集。", "An unknown character set."))
        return codec

    def clean_wants(self) -> list[str]:
        """One way to tell people's data at most."""
        given: list[str] = self.cleaned_data["wants"]
        if len(set(given) & set(outbound_changes.PATIENT_EVENTS)) > 1:
            raise forms.ValidationError(
                T("患者资料的通知方式只选一种。", "Choose one way in which people's data are told.")
            )
        return given

    def clean_version(self) -> str:
        """One of the versions that are written."""
        given: str = self.cleaned_data["version"]
        if given not in VERSIONS:
            raise forms.ValidationError(T("不支持的版本。", "A version that is not written."))
        return given


@page(SYSTEM_ADMIN)
def peers(request: HttpRequest) -> HttpResponse:
    """All systems, those with trouble first."""
    rows = Peer.objects.select_related("client__institution").annotate(
        waiting=Count("messages", filter=Q(messages__state=WAITING)),
        refused=Count("messages", filter=Q(messages__state=REFUSED)),
    )
    lines = Paginator(rows.order_by("-failures", "name"), PAGE).get_page(request.GET.get("page"))
    return render(request, "v2/peers.html", {"lines": lines, "kinds": kinds.taken()})


@page(SYSTEM_ADMIN)
def edit(request: HttpRequest, pk: int | None = None) -> HttpResponse:
    """Enter a system, or change its settings."""
    one = get_object_or_404(Peer, pk=pk) if pk else Peer(created_at=clock.now())
    before = list(one.wants)
    form = PeerForm(request.POST or None, instance=one)
    if request.method == "POST" and form.is_valid():
        saved = form.save(commit=False)
        if not pk:
            saved.told_event = outbound.begin_now()
        if not (pk and outbound_changes.follows(before)):
            saved.told_rid = outbound.begin_record()
        try:
            with transaction.atomic():
                saved.save()
                audit.write(
                    request.scope,
                    "admin",
                    what=f"HL7 v2 system {saved.name}",
                    detail={"changed": sorted(form.changed_data)},
                )
        except IntegrityError:
            form.add_error(
                "application",
                T(
                    "已有同名或相同 MSH-3/MSH-4 的系统。",
                    "There is a system with this name, or this MSH-3 and MSH-4, already.",
                ),
            )
        else:
            messages.success(request, T("已保存。", "Saved."))
            return redirect("v2:one", saved.pk)
    return render(request, "v2/edit.html", {"form": form, "row": one}, status=400 if form.errors else 200)


@page(SYSTEM_ADMIN)
def one(request: HttpRequest, pk: int) -> HttpResponse:
    """One system with the messages it was sent, newest first."""
    row = get_object_or_404(Peer.objects.select_related("client__institution"), pk=pk)
    asked = {k: request.GET.get(k, "") for k in ("state", "q")}
    rows = V2Message.objects.filter(peer=row)
    if asked["state"] in STATES:
        rows = rows.filter(state=asked["state"])
    if asked["q"].strip():
        rows = rows.filter(control_id=asked["q"].strip()[:199].replace("\x00", ""))
    lines = Paginator(rows.defer("body", "answer").order_by("-at", "-pk"), PAGE).get_page(
        request.GET.get("page")
    )
    shown = [(line, STATES[line.state], *errors.read(line.error)) for line in lines]
    unread = outbound.begin_record() - row.told_rid if outbound_changes.follows(row.wants) else 0
    context = {
        "row": row, "lines": lines, "shown": shown, "asked": asked, "states": STATES.items(),
        "hears": [WANTED[w] for w in WANTED if w in row.wants], "full": outbound_frame.full(pk),
        "waiting": V2Message.objects.filter(peer=row, state=WAITING).count(),
        "behind": T("档案变更还有 {n} 号未读", "{n} numbers of the record are unread").format(n=unread) if unread > 0 else None,
    }  # fmt: skip
    return render(request, "v2/one.html", context)


@require_POST
@page(SYSTEM_ADMIN)
def act(request: HttpRequest, pk: int, what: str) -> HttpResponse:
    """Pause or resume sending, or try again now."""
    row = get_object_or_404(Peer, pk=pk)
    if what == "pause":
        Peer.objects.filter(pk=pk).update(paused=True)
    elif what == "resume":
        Peer.objects.filter(pk=pk).update(paused=False, not_before=None)
    elif what == "retry":
        Peer.objects.filter(pk=pk).update(not_before=None)
    else:
        raise Http404
    audit.write(request.scope, "admin", what=f"HL7 v2 system {row.name}", detail={"did": what})
    messages.success(request, T("已办理。", "Done."))
    return redirect("v2:one", pk)


@require_POST
@page(SYSTEM_ADMIN)
def again(request: HttpRequest, pk: int, what: str) -> HttpResponse:
    """Send a message again, or set one aside."""
    kept = get_object_or_404(V2Message.objects.select_related("peer"), pk=pk)
    if what == "replay":
        outbound.replay(pk)
        messages.success(request, T("将重新发送。", "It will be sent again."))
    elif what == "hold" and kept.state == WAITING:
        outbound.hold(pk)
        messages.success(
            request, T("已搁置，后面的消息可以继续发送。", "It was set aside; the next ones can go.")
        )
    else:
        raise Http404
    audit.write(
        request.scope, "admin", person_id=kept.person_id, what=f"HL7 v2 message {pk}", detail={"did": what}
    )
    return redirect("v2:one", kept.peer_id)


app_name = "v2"
urlpatterns = [
    path("manage/hl7v2", peers, name="peers"),
    path("manage/hl7v2/new", edit, name="new"),
    path("manage/hl7v2/<int:pk>", one, name="one"),
    path("manage/hl7v2/<int:pk>/edit", edit, name="edit"),
    path("manage/hl7v2/<int:pk>/<slug:what>", act, name="act"),
    path("manage/hl7v2/messages/<int:pk>/<slug:what>", again, name="again"),
]
