"""Forms of partners and of their exports."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.db.models import QuerySet

from lianxin.access import seal
from lianxin.access.models import Client
from lianxin.access.scope import Scope
from lianxin.exchange.cda import issue
from lianxin.exchange.partners import access, delivery, exports, selftest
from lianxin.exchange.partners.models import (
    BASIC,
    BEARER,
    DOCUMENTS,
    FOLDER,
    FORMATS,
    MTLS,
    NO_AUTH,
    POST,
    PUT,
    RESOURCES,
    TABLE,
    Export,
    Partner,
    PartnerClient,
)
from lianxin.exchange.subscriptions import wire
from lianxin.exchange.v2.outbound_mapping import BadMapping
from lianxin.record import definitions
from lianxin.standards.text import T, Text

REQUIRED = T("此项必填，请填写。", "This is required; please fill it in.")


def clients(scope: Scope, partner: Partner | None = None) -> QuerySet[Client]:
    """Systems that may be linked: of institutions within reach, not another partner's."""
    taken = PartnerClient.objects.exclude(partner=partner) if partner else PartnerClient.objects.all()
    return (
        Client.objects.filter(institution__in=access.institutions(scope))
        .exclude(pk__in=taken.values("client_id"))
        .order_by("name")
    )


class _Plain:
    """No colons after labels, and our own word for what is missing."""

    fields: dict[str, forms.Field]

    def tidy(self) -> None:
        """Once, after the fields are there."""
        for field in self.fields.values():
            field.label_suffix = ""
            field.error_messages["required"] = REQUIRED


class PartnerForm(_Plain, forms.ModelForm):
    """A partner; limits are shown to the consortium only."""

    systems = forms.ModelMultipleChoiceField(
        Client.objects.none(), required=False, widget=forms.CheckboxSelectMultiple, label=T("所属系统", "Its systems"),
        help_text=T(
            "在“系统与应用”登记。接入方上线之前，所选系统的正式数据暂不受理",
            "Entered under “Systems and apps”. Until the partner is live nothing is taken from the systems chosen",
        ),
    )  # fmt: skip
    steps = forms.MultipleChoiceField(
        required=False, choices=[(s, selftest.STEPS[s]) for s in selftest.CHOSEN], widget=forms.CheckboxSelectMultiple,
        label=T("将报送的数据（须自测）", "What it will send (to be tested)"),
    )  # fmt: skip

    class Meta:
        model = Partner
        fields = (
            "name", "vendor", "contact", "phone", "institutions", "systems", "steps", "threshold", "per_minute", "per_day", "note",
        )  # fmt: skip
        labels: ClassVar[dict[str, Text]] = {
            "name": T("名称", "Name"), "vendor": T("厂商", "Vendor"), "contact": T("联系人", "Contact"), "phone": T("电话", "Telephone"),
            "institutions": T("服务的机构", "Institutions"), "threshold": T("质量分要求（0–100）", "Quality score wanted (0–100)"),
            "per_minute": T("每分钟上限（条）", "At most a minute"), "per_day": T("每日配额（条）", "At most a day"), "note": T("备注", "Remarks"),
        }  # fmt: skip
        widgets: ClassVar[dict[str, Any]] = {
            "institutions": forms.CheckboxSelectMultiple,
            "note": forms.Textarea({"rows": 3}),
        }

    def __init__(self, scope: Scope, *args: Any, limits: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tidy()
        places, systems = self.fields["institutions"], self.fields["systems"]
        assert isinstance(places, forms.ModelMultipleChoiceField)
        assert isinstance(systems, forms.ModelMultipleChoiceField)
        places.queryset = access.institutions(scope)
        systems.queryset = clients(scope, self.instance if self.instance.pk else None)
        if self.instance.pk:
            self.initial["systems"] = list(self.instance.links.values_list("client_id", flat=True))
        if not limits:
            del self.fields["per_minute"], self.fields["per_day"]


class ExportForm(_Plain, forms.ModelForm):
    """A scheduled export; the secret is never shown again."""

    what = forms.ChoiceField(
        choices=[(RESOURCES, T("FHIR 资源", "FHIR resources")), (DOCUMENTS, T("共享文档", "Documents")), (TABLE, T("表格（CSV）", "Table (CSV)"))],
        label=T("内容", "What"),
    )  # fmt: skip
    kinds = forms.CharField(
        max_length=1000, label=T("种类", "Kinds"),
        help_text=T(
            "空格分隔。资源如 Patient Observation；文档如 500.7 500.49；表格填一种资源",
            "Separated by blanks: resources such as Patient Observation, documents such as 500.7 500.49; one resource for a table",
        ),
    )  # fmt: skip
    format = forms.ChoiceField(
        choices=[("ndjson", "FHIR NDJSON"), ("bundle", "FHIR Bundle"), ("cda", "CDA"), ("csv", "CSV")], label=T("格式", "Format")
    )  # fmt: skip
    method = forms.ChoiceField(
        choices=[(POST, "HTTPS POST"), (PUT, "HTTPS PUT"), (FOLDER, T("服务器目录", "A folder of the server"))], label=T("方式", "How")
    )  # fmt: skip
    auth = forms.ChoiceField(
        choices=[
            (NO_AUTH, T("无", "None")), (BEARER, T("Bearer 令牌", "Bearer token")), (BASIC, T("用户名与密码", "Name and password")),
            (MTLS, T("客户端证书（PEM）", "Client certificate (PEM)")),
        ],
        label=T("认证", "Authentication"),
    )  # fmt: skip
    secret = forms.CharField(
        required=False, widget=forms.Textarea({"rows": 3, "autocomplete": "off"}), label=T("凭据", "Secret"), max_length=20_000,
        help_text=T("加密保存，不再显示；留空则不变", "Sealed and never shown again; leave empty to keep it"),
    )  # fmt: skip

    class Meta:
        model = Export
        fields = (
            "name", "client", "what", "kinds", "filters", "columns", "format", "method", "url", "folder", "auth", "every", "daily", "active",
        )  # fmt: skip
        labels: ClassVar[dict[str, Text]] = {
            "name": T("名称", "Name"), "client": T("以哪个系统的权限", "With the permissions of"), "filters": T("筛选条件", "Filter"),
            "columns": T("列（表格）", "Columns (table)"), "url": T("接收地址", "Address"), "folder": T("目录", "Folder"),
            "every": T("每几分钟", "Every so many minutes"), "daily": T("或每天几点", "Or daily at"), "active": T("启用", "In use"),
        }  # fmt: skip
        help_texts: ClassVar[dict[str, Text]] = {
            "filters": T("FHIR 查询条件，如 status=final", "FHIR search conditions such as status=final"),
            "columns": T("每行一列：列名 = 路径，如 出生日期 = birthDate | day", "A line a column: heading = path, such as Born = birthDate | day"),
            "folder": T("LIANXIN_HOME/exports 之下的目录名", "Below LIANXIN_HOME/exports"),
        }  # fmt: skip
        widgets: ClassVar[dict[str, Any]] = {
            "columns": forms.Textarea({"rows": 4}), "daily": forms.TimeInput({"type": "time"}, format="%H:%M"),
        }  # fmt: skip

    def __init__(self, partner: Partner, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tidy()
        client = self.fields["client"]
        assert isinstance(client, forms.ModelChoiceField)
        client.queryset = Client.objects.filter(pk__in=partner.links.values("client_id"))
        self.initial["kinds"] = " ".join(self.instance.kinds or [])

    def clean_kinds(self) -> list[str]:
        """Kinds there are."""
        given = list(dict.fromkeys(self.cleaned_data["kinds"].replace(",", " ").split()))
        known = set(issue.KINDS) if self.data.get("what") == DOCUMENTS else set(definitions.types())
        wrong = [k for k in given if k not in known]
        if wrong or not given:
            raise forms.ValidationError(
                T("没有这种内容：{k}", "There is no such kind: {k}").format(k=" ".join(wrong)[:100])
            )
        if self.data.get("what") == TABLE and len(given) != 1:
            raise forms.ValidationError(T("表格只能是一种资源。", "A table is of one resource type."))
        return given

    def clean_url(self) -> str:
        """An address one may send to."""
        given: str = self.cleaned_data["url"].strip()
        if given:
            try:
                wire.endpoint(given)
            except wire.NotAllowed as refused:
                raise forms.ValidationError(refused.text) from None
        return given

    def clean(self) -> dict[str, Any]:
        """What belongs together."""
        data = super().clean() or self.cleaned_data
        folder = data.get("method") == FOLDER
        if data.get("what") in FORMATS and data.get("format") not in FORMATS[data["what"]]:
            self.add_error("format", T("该内容不能用此格式。", "This cannot be sent in this format."))
        if folder:
            data["url"] = ""
            try:
                delivery.folder_of(Export(folder=data.get("folder", "").strip()))
            except delivery.Failed as refused:
                self.add_error("folder", refused.text)
        elif not data.get("url") and "url" not in self.errors:
            self.add_error("url", REQUIRED)
        if data.get("what") == TABLE:
            try:
                exports.columns_of(data.get("columns", ""))
            except BadMapping as bad:
                self.add_error(
                    "columns",
                    T("列的写法有误：{e}", "A column is not understood: {e}").format(e=str(bad)[:200]),
                )
        if bool(data.get("every")) == bool(data.get("daily")):
            self.add_error(
                "every", T("“每几分钟”与“每天几点”填一项。", "Give either minutes or a time of day.")
            )
        self._secret(data)
        return data

    def _secret(self, data: dict[str, Any]) -> None:
        auth, given = data.get("auth"), data.get("secret", "").strip()
        if auth == NO_AUTH:
            self.instance.secret = ""
            return
        if not given:
            if not self.instance.secret or "auth" in self.changed_data:
                self.add_error("secret", REQUIRED)
            return
        if auth == MTLS:
            try:
                delivery.context_of(given)
            except (OSError, ValueError):
                self.add_error(
                    "secret", T("不是可用的证书与私钥（PEM）。", "No usable certificate with its key (PEM).")
                )
                return
        elif "\n" in given or "\r" in given or (auth == BASIC and ":" not in given):
            self.add_error("secret", T("凭据格式不对。", "The secret has not the right form."))
            return
        self.instance.secret = seal.seal(given)
