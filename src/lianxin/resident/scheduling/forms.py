"""Forms of this room: a hospital's booking system, whose its sessions are, a table of sessions."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from django import forms

from lianxin.access import seal
from lianxin.exchange.subscriptions import wire
from lianxin.network.models import Department, Institution
from lianxin.pool.models import KINDS, OWNERS
from lianxin.resident.scheduling.models import LONGEST, WAYS, BookingSystem, OwnerRule
from lianxin.standards.text import T, Text

VERSIONS = ("2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.8")
REQUIRED = T("此项必填，请填写。", "This is required; please fill it in.")


class SystemForm(forms.ModelForm):
    """Where a hospital's system is and how it is spoken to; the token is never shown again."""

    token = forms.CharField(
        required=False, max_length=2000, label=T("访问令牌", "Access token"), widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        help_text=T("留空：不改动已保存的令牌", "Empty: the stored token stays"),
    )  # fmt: skip

    class Meta:
        model = BookingSystem
        fields = (
            "name", "institution", "way", "url", "host", "port", "tls", "application", "facility", "version", "seconds", "asks_by_key",
            "pulls", "pull_minutes", "days", "active",
        )  # fmt: skip
        labels: ClassVar[dict[str, Text]] = {
            "name": T("名称", "Name"),
            "institution": T("医院", "Hospital"),
            "way": T("接口方式", "How it is spoken to"),
            "url": T("FHIR 地址", "FHIR address"),
            "host": T("MLLP 地址", "MLLP host"),
            "port": T("MLLP 端口", "MLLP port"),
            "tls": T("用 TLS", "By TLS"),
            "application": T("接收应用 MSH-5", "Receiving application MSH-5"),
            "facility": T("接收机构 MSH-6", "Receiving facility MSH-6"),
            "version": T("HL7 v2 版本", "HL7 v2 version"),
            "seconds": T("每次调用最长秒数", "Seconds a call may take"),
            "asks_by_key": T("可按预约键查询", "Can be asked by the booking's key"),
            "pulls": T("定时读取其号源", "Its sessions are read regularly"),
            "pull_minutes": T("每隔多少分钟", "Every so many minutes"),
            "days": T("读取今后多少天", "So many days ahead"),
            "active": T("启用", "In use"),
        }
        help_texts: ClassVar[dict[str, Text]] = {
            "url": T("如 https://his.example/fhir；内网地址须列入 LIANXIN_RECEIVERS", "Such as https://his.example/fhir; an inner address has to be listed in LIANXIN_RECEIVERS"),
            "seconds": T("1 到 120，默认 10", "1 to 120; 10 unless told"),
            "asks_by_key": T("不可查询的系统须对同一键的重复预约给出同样的答复", "One that cannot must answer the same key alike"),
        }  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""
        for field in self.fields.values():
            field.error_messages["required"] = REQUIRED
        self.fields["way"].widget = forms.Select(choices=[("", "—"), *WAYS.items()])
        self.fields["version"].widget = forms.Select(choices=[(v, v) for v in VERSIONS])
        institution = self.fields["institution"]
        assert isinstance(institution, forms.ModelChoiceField)
        institution.queryset = Institution.objects.filter(active=True).order_by("code")
        institution.empty_label = "—"

    def clean_seconds(self) -> int:
        """Between a second and two minutes."""
        given: int = self.cleaned_data["seconds"]
        if not 1 <= given <= LONGEST:
            raise forms.ValidationError(T("应为 1 到 120 秒。", "Between 1 and 120 seconds."))
        return given

    def _between(self, name: str, most: int) -> int:
        given: int = self.cleaned_data[name]
        if not 1 <= given <= most:
            raise forms.ValidationError(T("应为 1 到 {n}。", "Between 1 and {n}.").format(n=str(most)))
        return given

    def clean_port(self) -> int:
        """A port."""
        return self._between("port", 65535)

    def clean_pull_minutes(self) -> int:
        """At least once a day."""
        return self._between("pull_minutes", 1440)

    def clean_days(self) -> int:
        """At most a year."""
        return self._between("days", 366)

    def clean_way(self) -> str:
        """One of the ways there are."""
        given: str = self.cleaned_data["way"]
        if given not in WAYS:
            raise forms.ValidationError(T("请选择接口方式。", "Choose how it is spoken to."))
        return given

    def clean_version(self) -> str:
        """One of the versions that are written."""
        given: str = self.cleaned_data["version"]
        if given not in VERSIONS:
            raise forms.ValidationError(T("不支持的版本。", "A version that is not written."))
        return given

    def clean_token(self) -> str:
        """Printable ASCII (it goes into a header)."""
        given: str = self.cleaned_data["token"].strip()
        if given and not re.fullmatch(r"[!-~]+", given):
            raise forms.ValidationError(
                T("令牌只含可见的英文字符。", "A token has visible ASCII characters only.")
            )
        return given

    def clean(self) -> dict[str, Any]:
        """The address that the way needs, and that one may send to."""
        found = super().clean() or self.cleaned_data
        way = found.get("way")
        if way == "fhir":
            if not found.get("url"):
                self.add_error("url", REQUIRED)
            else:
                try:
                    wire.endpoint(found["url"])
                except wire.NotAllowed as refused:
                    self.add_error("url", refused.text)
        if way == "v2":
            if not re.fullmatch(r"[A-Za-z0-9.:\-]+", found.get("host") or ""):
                self.add_error("host", T("请填写主机名或地址。", "Give a host name or address."))
            if found.get("pulls"):
                self.add_error("pulls", T("HL7 v2 不提供号源列表，请用号源表导入。", "HL7 v2 gives no list of sessions; upload them as a table."))  # fmt: skip
        return found

    def save(self, commit: bool = True) -> BookingSystem:
        """With the token sealed, when one was given."""
        made: BookingSystem = super().save(commit=False)
        if self.cleaned_data["token"]:
            made.secret = seal.seal(self.cleaned_data["token"])
        if commit:
            made.save()
        return made


class RuleForm(forms.ModelForm):
    """Whose the sessions of a department, clinic type or kind are."""

    class Meta:
        model = OwnerRule
        fields = ("department", "clinic_type", "kind", "owner")
        labels: ClassVar[dict[str, Text]] = {
            "department": T("科室", "Department"),
            "clinic_type": T("门诊类型", "Clinic type"),
            "kind": T("类别", "Kind"),
            "owner": T("号源归属", "Whose numbers"),
        }

    def __init__(self, *args: Any, system: BookingSystem, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""
        every = T("全部", "All")
        department = self.fields["department"]
        assert isinstance(department, forms.ModelChoiceField)
        department.queryset = Department.objects.filter(institution_id=system.institution_id).order_by("code")
        department.empty_label = str(every)
        self.fields["kind"].widget = forms.Select(choices=[("", every), *KINDS.items()])
        self.fields["owner"].widget = forms.Select(choices=list(OWNERS.items()))
        self.fields["clinic_type"].widget.attrs["placeholder"] = str(every)
        self.fields["owner"].error_messages["required"] = REQUIRED

    def clean_owner(self) -> str:
        """The platform or the hospital."""
        given: str = self.cleaned_data["owner"]
        if given not in OWNERS:
            raise forms.ValidationError(T("请选择归属。", "Choose whose they are."))
        return given

    def clean_kind(self) -> str:
        """A kind there is, or all."""
        given: str = self.cleaned_data["kind"]
        if given not in ("", *KINDS):
            raise forms.ValidationError(T("没有该类别。", "There is no such kind."))
        return given


class TableForm(forms.Form):
    """A table of sessions; whether what it does not name is gone."""

    file = forms.FileField(
        label=T("号源表（CSV）", "Table of sessions (CSV)"), error_messages={"required": REQUIRED, "empty": T("文件是空的。", "The file is empty.")}
    )  # fmt: skip
    whole = forms.BooleanField(
        required=False,
        label=T(
            "这是今后的全部场次：表中没有的按停诊处理",
            "These are all sessions to come: what is not in it is stopped",
        ),
    )
