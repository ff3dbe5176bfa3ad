"""Forms of the channel's moves. Every move may say when it happened; left empty it happened now, by the server's clock."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django import forms

from lianxin.duty.forms import MoveForm
from lianxin.network.models import Capability, Institution
from lianxin.regional.emergency import policy, rules
from lianxin.regional.emergency.models import MILESTONES, OUTCOMES, STOPS, STRATEGIES
from lianxin.standards import clock
from lianxin.standards.text import T

_LOCAL = ("%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S")


class When(forms.DateTimeField):
    """A local time; the browser's own picker."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("required", False)
        kwargs.setdefault("input_formats", list(_LOCAL))
        kwargs.setdefault("widget", forms.DateTimeInput(attrs={"type": "datetime-local"}))
        super().__init__(**kwargs)


class AtForm(MoveForm):
    """When it happened. ``milestone`` names what is timed."""

    milestone = ""
    at = When(label=T("发生时间（不填为现在）", "When it happened (empty: now)"))

    def clean_at(self) -> dt.datetime | None:
        """It can be, in the order of things."""
        at: dt.datetime | None = self.cleaned_data.get("at")
        return checked(self, self.milestone, at)


def checked(form: MoveForm, code: str, at: dt.datetime | None) -> dt.datetime | None:
    """``at`` unless it is impossible for ``code`` in this channel."""
    if at is None or form.ctx is None or form.ctx.subject is None or not code:
        return at
    subject = form.ctx.subject
    why = rules.implausible(code, at, times(subject), clock.now(), int(policy.value("plausible.hours", subject.centre_id)))  # fmt: skip
    if why is not None:
        raise forms.ValidationError(why)
    return at


def times(channel: Any) -> rules.Times:
    """The times in force of a channel: the last version of each milestone."""
    return {m.code: m.at for m in channel.milestones.all().order_by("version")}


class OpenForm(MoveForm):
    """What is known at first contact."""

    complaint = forms.CharField(
        label=T("主诉", "Complaint"), max_length=300, widget=forms.Textarea(attrs={"rows": 2})
    )
    onset_at = When(label=T("症状发作时间", "Onset"))
    fmc_at = When(label=T("首次医疗接触时间（不填为现在）", "First medical contact (empty: now)"))

    def clean(self) -> dict[str, Any]:
        """Onset before contact, neither in the future."""
        data = dict(super().clean() or {})
        now = clock.now()
        known: rules.Times = {}
        for name, code in (("fmc_at", "fmc"), ("onset_at", "onset")):
            at = data.get(name)
            if at is None:
                continue
            why = rules.implausible(code, at, known, now, 24)
            if why is not None:
                self.add_error(name, forms.ValidationError(why))
            known[code] = at
        return data


class EcgForm(AtForm):
    """The first ECG was recorded."""

    milestone = "ecg"


class DiagnoseForm(AtForm):
    """The ECG is read as an infarction."""

    milestone = "diagnosed"
    note = forms.CharField(label=T("诊断依据", "On what"), max_length=200, required=False)


class DecideForm(AtForm):
    """Which way, and where."""

    milestone = "decided"
    strategy = forms.ChoiceField(label=T("再灌注方式", "Reperfusion"), choices=list(STRATEGIES.items()), widget=forms.RadioSelect)  # fmt: skip
    lab = forms.ChoiceField(label=T("导管室", "Cath lab"), required=False)
    travel = forms.IntegerField(
        label=T("预计转运分钟数", "Minutes on the road"), required=False, min_value=0, max_value=600
    )
    reason = forms.CharField(
        label=T("与建议不同的理由", "Why not as proposed"), required=False, max_length=200
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        subject = self.ctx.subject if self.ctx else None
        self.fields["lab"].choices = labs(subject)  # type: ignore[attr-defined]
        if subject is not None:
            self.fields["lab"].initial = str(subject.lab_id)

    def clean(self) -> dict[str, Any]:
        """Going against the times needs a reason."""
        data = dict(super().clean() or {})
        if self.ctx is None or self.ctx.subject is None or "strategy" not in data:
            return data
        subject = self.ctx.subject
        travel = data.get("travel")
        advice = advised(subject, clock.now(), travel)
        if data["strategy"] != advice.strategy and not (data.get("reason") or "").strip():
            self.add_error("reason", forms.ValidationError(T("{why}，建议{what}；请写明理由。", "{why}: {what} is advised; say why not.").format(why=advice.why, what=STRATEGIES[advice.strategy])))  # fmt: skip
        return data


def advised(channel: Any, now: dt.datetime, travel: int | None = None) -> rules.Advice:
    """What the times of a channel say now."""
    here = channel.centre_id
    if travel is None:
        travel = 0 if channel.first_id == channel.lab_id else channel.travel
    if travel is None:
        travel = int(policy.value("transfer.minutes", here))
    return rules.advise(times(channel), now, travel=travel, lab=int(policy.value("pci.lab_minutes", here)), within=int(policy.value("pci.within", here)))  # fmt: skip


def labs(channel: Any) -> list[tuple[str, Any]]:
    """Institutions with a cath lab (the network's capabilities), the channel's own first."""
    if channel is None:
        return []
    code = str(policy.value("pci.capability", channel.centre_id))
    ids = set(
        Capability.objects.live().filter(kind="procedure", code=code).values_list("institution_id", flat=True)
    )
    rows = Institution.objects.filter(pk__in=ids | {channel.lab_id}).order_by("code")
    return [(str(i.pk), i.label) for i in sorted(rows, key=lambda i: i.pk != channel.lab_id)]


class AcceptForm(MoveForm):
    """The cath lab is being made ready."""

    at = When(label=T("启动时间（不填为现在）", "When (empty: now)"))
    note = forms.CharField(label=T("接诊安排", "Arrangement"), required=False, max_length=200)

    def clean_at(self) -> dt.datetime | None:
        """It can be."""
        return checked(self, "activated", self.cleaned_data.get("at"))


class DepartForm(AtForm):
    """On the road."""

    milestone = "departed"
    transport = forms.ChoiceField(
        label=T("转运方式", "By"),
        choices=[("ambulance", T("120 救护车", "Ambulance (120)")), ("hospital", T("医院车辆", "The hospital's car")), ("own", T("自行前往", "Own means"))],
    )  # fmt: skip
    travel = forms.IntegerField(
        label=T("预计路上分钟数", "Minutes on the road"), required=False, min_value=0, max_value=600
    )


class ArriveForm(AtForm):
    """At the door of the hospital with the cath lab."""

    milestone = "door"
    bypassed = forms.BooleanField(
        label=T("绕行急诊，直达导管室", "Past the emergency room, straight to the lab"), required=False
    )


class LabReadyForm(AtForm):
    """The lab can begin."""

    milestone = "lab_ready"


class WireForm(AtForm):
    """The wire is through."""

    milestone = "wire"


class LyseForm(AtForm):
    """Thrombolysis begins: the whole checklist was gone through."""

    milestone = "needle"
    present = forms.MultipleChoiceField(
        label=T("存在以下禁忌证（逐条核对，没有则不选）", "Contraindications present (go through each)"), required=False,
        choices=[(c.code, c.label) for c in policy.checklist()], widget=forms.CheckboxSelectMultiple,
    )  # fmt: skip
    gone_through = forms.BooleanField(
        label=T("已逐条核对并取得知情同意", "Each was gone through, consent was given"),
        error_messages={
            "required": T("请逐条核对禁忌证后确认。", "Go through the contraindications and confirm.")
        },
    )
    drug = forms.CharField(label=T("药物与剂量", "Drug and dose"), max_length=120)
    weighed = forms.CharField(
        label=T("存在相对禁忌证时的权衡", "How a relative one was weighed"), required=False, max_length=300
    )

    def clean(self) -> dict[str, Any]:
        """An absolute contraindication ends it; a relative one wants its weighing."""
        data = dict(super().clean() or {})
        present = set(data.get("present", []))
        absolute = [c for c in policy.checklist() if c.absolute and c.code in present]
        if absolute:
            names = T("、".join(c.label.zh for c in absolute), "; ".join(c.label.en for c in absolute))
            self.add_error("present", forms.ValidationError(T("存在绝对禁忌证，不能溶栓：{names}。请改为直接 PCI。", "Absolute contraindication, no thrombolysis: {names}. Choose primary PCI.").format(names=names)))  # fmt: skip
        elif present and not (data.get("weighed") or "").strip():
            self.add_error("weighed", forms.ValidationError(T("存在相对禁忌证，请写明权衡。", "A relative contraindication is present: say how it was weighed.")))  # fmt: skip
        return data


class AssessForm(AtForm):
    """Did thrombolysis work?"""

    milestone = "assessed"
    worked = forms.ChoiceField(
        label=T("溶栓结果", "Thrombolysis"), choices=[("yes", T("再通", "Reopened")), ("no", T("未再通（补救 PCI）", "Not reopened (rescue PCI)"))],
        widget=forms.RadioSelect,
    )  # fmt: skip


class CloseForm(AtForm):
    """How it ended."""

    milestone = "outcome"
    outcome = forms.ChoiceField(label=T("结局", "Outcome"), choices=list(OUTCOMES.items()))
    note = forms.CharField(label=T("说明", "Note"), required=False, max_length=300)


class StopForm(MoveForm):
    """Why the channel is not needed."""

    code = forms.ChoiceField(label=T("原因", "Reason"), choices=list(STOPS.items()))
    reason = forms.CharField(label=T("说明", "What happened"), max_length=300, min_length=2)


class CorrectForm(MoveForm):
    """A recorded time was wrong (a device's clock, a slip)."""

    code = forms.ChoiceField(label=T("节点", "Milestone"), choices=list(MILESTONES.items()))
    at = When(label=T("正确时间", "The right time"), required=True)
    reason = forms.CharField(label=T("更正原因", "Why"), max_length=200, min_length=2)

    def clean(self) -> dict[str, Any]:
        """Only what was recorded can be corrected, to a time that can be."""
        data = dict(super().clean() or {})
        if self.ctx is None or self.ctx.subject is None or not data.get("at") or not data.get("code"):
            return data
        known = times(self.ctx.subject)
        if data["code"] not in known:
            self.add_error(
                "code", forms.ValidationError(T("该节点还没有记录。", "It has not been recorded yet."))
            )
            return data
        others = {k: v for k, v in known.items() if k != data["code"]}
        why = rules.implausible(data["code"], data["at"], others, clock.now(), int(policy.value("plausible.hours", self.ctx.subject.centre_id)))  # fmt: skip
        if why is not None:
            self.add_error("at", forms.ValidationError(why))
        return data
