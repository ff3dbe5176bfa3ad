"""Rows of the pathology centre beside the reading work: specimens, blocks, slides, pictures, parcels, loans, and every step as a trace.

A slide belongs to its block, a block to its specimen, a specimen to its case: each row carries the case too, and the database holds the
whole chain by keys of two columns (migration 0002), so nothing can come to hang on the wrong case.
"""

from __future__ import annotations

import pgtrigger
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from lianxin.access.scoped import ScopedModel
from lianxin.network.policy import Setting
from lianxin.standards.text import T, Text

FIXATIVES: dict[str, Text] = {
    "nbf": T("10% 中性缓冲福尔马林", "10 % neutral buffered formalin"),
    "alcohol": T("95% 乙醇", "95 % ethanol"),
    "lbc": T("液基保存液", "Liquid-based medium"),
    "fresh": T("新鲜（冰冻）", "Fresh (frozen section)"),
    "other": T("其他", "Other"),
}
SPECIMEN_STATES: dict[str, Text] = {
    "registered": T("已登记", "Registered"),
    "sent": T("运送中", "On its way"),
    "received": T("已签收", "Received"),
    "refused": T("已拒收", "Refused"),
    "grossed": T("已取材", "Grossed"),
}
REFUSALS: dict[str, Text] = {
    "label": T("标签缺失或与申请不符", "Label missing or not matching"),
    "empty": T("容器内无标本", "Empty container"),
    "unfixed": T("未固定或固定液不足", "Unfixed, or too little fixative"),
    "dried": T("标本干涸、自溶", "Dried or autolysed"),
    "leak": T("容器破损、渗漏", "Container broken or leaking"),
    "form": T("申请单信息不全", "Request incomplete"),
    "other": T("其他", "Other"),
}
BLOCK_KINDS: dict[str, Text] = {
    "paraffin": T("石蜡", "Paraffin"),
    "frozen": T("冰冻", "Frozen"),
    "smear": T("涂片、液基", "Smear"),
}
KEPT: dict[str, Text] = {
    "kept": T("在库", "In store"),
    "lent": T("借出", "Lent"),
    "discarded": T("已销毁", "Discarded"),
}
SLIDE_STATES: dict[str, Text] = {
    "ordered": T("待切片", "To be cut"),
    "cut": T("待染色", "To be stained"),
    "ready": T("可阅片", "Ready"),
    "failed": T("不合格，重做", "Failed, made again"),
}
CONCORDANCE: dict[str, Text] = {
    "concordant": T("符合", "Concordant"),
    "deferred": T("延迟诊断", "Deferred to the permanent section"),
    "minor": T("次要不符", "Minor difference"),
    "major": T("重要不符（影响手术）", "Major difference"),
}
TRACES: dict[str, Text] = {
    "registered": T("登记", "Registered"),
    "sent": T("送出", "Handed over"),
    "received": T("签收", "Received"),
    "refused": T("拒收", "Refused"),
    "grossed": T("取材", "Grossed"),
    "stains": T("加做", "Stains ordered"),
    "cut": T("切片完成", "Cut"),
    "ready": T("染色完成", "Stained"),
    "failed": T("不合格", "Failed"),
    "scanned": T("关联整张切片", "Whole-slide image attached"),
    "picture": T("图片", "Picture"),
    "lent": T("借出", "Lent"),
    "returned": T("归还", "Returned"),
    "called": T("电话通知", "Telephoned"),
    "linked": T("关联冰冻", "Linked to its frozen section"),
    "compared": T("冰冻对照", "Compared"),
}
PICTURES: dict[str, Text] = {
    "gross": T("大体", "Gross"),
    "micro": T("镜下", "Microscopic"),
    "whole": T("整张切片", "Whole slide"),
}


def _one_of(field: str, values: dict[str, Text], name: str) -> models.CheckConstraint:
    return models.CheckConstraint(name=name, condition=Q(**{f"{field}__in": list(values)}))


class Work(ScopedModel):
    """What pathology adds to one piece of reading work: its number, the frozen section's clock and call, and how frozen and permanent agree.

    ``frozen`` is the frozen section whose permanent section this is. ``late_at``: when people were told that the clock had run out.
    """

    reading = models.OneToOneField(
        "reading.Reading", models.PROTECT, primary_key=True, related_name="pathology"
    )
    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+")
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    year = models.SmallIntegerField()
    serial = models.IntegerField()
    received_at = models.DateTimeField(null=True, blank=True)
    due_at = models.DateTimeField(null=True, blank=True)
    late_at = models.DateTimeField(null=True, blank=True)
    called_at = models.DateTimeField(null=True, blank=True)
    called_to = models.CharField(max_length=80, blank=True)
    called_by = models.CharField(max_length=80, blank=True)
    read_back = models.CharField(max_length=300, blank=True)
    frozen = models.OneToOneField("self", models.PROTECT, null=True, blank=True, related_name="permanent")
    concordance = models.CharField(max_length=10, blank=True)
    concordance_note = models.CharField(max_length=300, blank=True)
    compared_by = models.CharField(max_length=80, blank=True)
    compared_at = models.DateTimeField(null=True, blank=True)

    scope_institutions = ("institution_id",)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["institution", "year", "serial"], name="pathology_work_number"),
            models.CheckConstraint(name="pathology_work_concordance", condition=Q(concordance="") | Q(concordance__in=list(CONCORDANCE), compared_at__isnull=False, frozen__isnull=False)),
            models.CheckConstraint(name="pathology_work_called", condition=Q(called_at__isnull=True) | (~Q(called_to="") & ~Q(read_back=""))),
            models.CheckConstraint(name="pathology_work_not_own", condition=Q(frozen__isnull=True) | ~Q(frozen=F("reading"))),
        ]  # fmt: skip

    def __str__(self) -> str:
        return self.number

    @property
    def number(self) -> str:
        """The centre's pathology number: year and serial."""
        return f"B{self.year % 100:02d}-{self.serial:05d}"

    @property
    def concordance_label(self) -> Text | None:
        """How frozen and permanent agree, in words; None before they were compared."""
        return CONCORDANCE.get(self.concordance)


class Parcel(models.Model):
    """Specimens handed over together: who sent and carried them, who took them in. Only references, no words about patients."""

    number = models.CharField(max_length=24, unique=True)
    from_institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    to_institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    carrier = models.CharField(max_length=80)
    sent_by = models.CharField(max_length=80)
    sent_at = models.DateTimeField()
    received_by = models.CharField(max_length=80, blank=True)
    received_at = models.DateTimeField(null=True, blank=True)
    key = models.CharField(max_length=120, unique=True)

    class Meta:
        constraints = [
            models.CheckConstraint(name="pathology_parcel_received", condition=Q(received_at__isnull=True, received_by="") | (Q(received_at__isnull=False) & ~Q(received_by=""))),
        ]  # fmt: skip

    def __str__(self) -> str:
        return self.number


class Specimen(ScopedModel):
    """One container's tissue. ``taken_at`` to ``fixed_at`` is the cold ischaemia; ``fixed_at`` to grossing the fixation."""

    reading = models.ForeignKey("reading.Reading", models.PROTECT, related_name="tissues")
    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+")
    sender = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    letter = models.CharField(max_length=2)
    code = models.CharField(max_length=24, unique=True)
    site = models.CharField(max_length=80)
    procedure = models.CharField(max_length=80, blank=True)
    pieces = models.SmallIntegerField(default=1)
    fixative = models.CharField(max_length=8)
    taken_at = models.DateTimeField()
    fixed_at = models.DateTimeField(null=True, blank=True)
    state = models.CharField(max_length=10, default="registered")
    parcel = models.ForeignKey(Parcel, models.PROTECT, null=True, blank=True, related_name="specimens")
    registered_by = models.CharField(max_length=80)
    received_at = models.DateTimeField(null=True, blank=True)
    received_by = models.CharField(max_length=80, blank=True)
    refused_for = ArrayField(models.CharField(max_length=10), default=list)
    refused_note = models.CharField(max_length=300, blank=True)
    gross = models.TextField(blank=True)
    grossed_at = models.DateTimeField(null=True, blank=True)
    grossed_by = models.CharField(max_length=80, blank=True)

    scope_institutions = ("sender_id", "institution_id")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["reading", "letter"], name="pathology_specimen_letter"),
            models.UniqueConstraint(fields=["id", "reading"], name="pathology_specimen_chain"),
            _one_of("state", SPECIMEN_STATES, "pathology_specimen_state"),
            _one_of("fixative", FIXATIVES, "pathology_specimen_fixative"),
            models.CheckConstraint(name="pathology_specimen_fixed", condition=Q(fixed_at__isnull=True) | Q(fixed_at__gte=F("taken_at"))),
            models.CheckConstraint(name="pathology_specimen_refused", condition=~Q(state="refused") | Q(refused_for__len__gte=1)),
            models.CheckConstraint(name="pathology_specimen_grossed", condition=~Q(state="grossed") | (Q(grossed_at__isnull=False) & ~Q(gross=""))),
            models.CheckConstraint(name="pathology_specimen_pieces", condition=Q(pieces__gte=1, pieces__lte=200)),
        ]  # fmt: skip
        indexes = [models.Index(fields=["institution", "state"], name="pathology_specimen_board")]

    def __str__(self) -> str:
        return self.code

    @property
    def state_label(self) -> Text:
        """Where it is, in words."""
        return SPECIMEN_STATES[self.state]

    @property
    def fixative_label(self) -> Text:
        """The fixative in words."""
        return FIXATIVES[self.fixative]

    @property
    def refused_labels(self) -> list[Text]:
        """Why it was refused, in words."""
        return [REFUSALS[code] for code in self.refused_for]

    @property
    def ischaemia(self) -> int | None:
        """Minutes from the body to the fixative."""
        return int((self.fixed_at - self.taken_at).total_seconds() // 60) if self.fixed_at else None


class Block(ScopedModel):
    """A block of a specimen (or its smear): what is kept for thirty years."""

    specimen = models.ForeignKey(Specimen, models.PROTECT, related_name="blocks")
    reading = models.ForeignKey("reading.Reading", models.PROTECT, related_name="+", db_index=False)
    number = models.SmallIntegerField()
    code = models.CharField(max_length=28, unique=True)
    kind = models.CharField(max_length=10, default="paraffin")
    tissue = models.CharField(max_length=120, blank=True)
    kept = models.CharField(max_length=10, default="kept")
    place = models.CharField(max_length=40, blank=True)
    made_at = models.DateTimeField()
    made_by = models.CharField(max_length=80)

    scope_person = "specimen__person_id"

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["specimen", "number"], name="pathology_block_number"),
            models.UniqueConstraint(fields=["id", "reading"], name="pathology_block_chain"),
            _one_of("kind", BLOCK_KINDS, "pathology_block_kind"),
            _one_of("kept", KEPT, "pathology_block_kept"),
        ]

    def __str__(self) -> str:
        return self.code

    @property
    def kind_label(self) -> Text:
        """What it is, in words."""
        return BLOCK_KINDS[self.kind]

    @property
    def kept_label(self) -> Text:
        """Where it is, in words."""
        return KEPT[self.kept]


class Slide(ScopedModel):
    """A slide of a block with its stain. ``study_uid`` is its whole-slide image in the archive."""

    block = models.ForeignKey(Block, models.PROTECT, related_name="slides")
    reading = models.ForeignKey("reading.Reading", models.PROTECT, related_name="+")
    number = models.SmallIntegerField()
    code = models.CharField(max_length=32, unique=True)
    stain = models.CharField(max_length=16)
    state = models.CharField(max_length=10, default="ordered")
    kept = models.CharField(max_length=10, default="kept")
    study_uid = models.CharField(max_length=64, blank=True)
    note = models.CharField(max_length=200, blank=True)
    ordered_by = models.CharField(max_length=80)
    ordered_at = models.DateTimeField()
    ready_at = models.DateTimeField(null=True, blank=True)

    scope_person = "block__specimen__person_id"

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["block", "number"], name="pathology_slide_number"),
            models.UniqueConstraint(fields=["id", "reading"], name="pathology_slide_chain"),
            _one_of("state", SLIDE_STATES, "pathology_slide_state"),
            _one_of("kept", KEPT, "pathology_slide_kept"),
            models.UniqueConstraint(
                fields=["study_uid"], condition=~Q(study_uid=""), name="pathology_slide_study"
            ),
            models.CheckConstraint(
                name="pathology_slide_ready", condition=~Q(state="ready") | Q(ready_at__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return self.code

    @property
    def state_label(self) -> Text:
        """How far it is, in words."""
        return SLIDE_STATES[self.state]

    @property
    def stain_label(self) -> Text:
        """The stain in words."""
        from lianxin.regional.pathology import stains

        return stains.label(self.stain)


class Picture(ScopedModel):
    """A photograph of the gross specimen or through the microscope, made anew by us from what was uploaded. ``chosen``: in the report."""

    reading = models.ForeignKey("reading.Reading", models.PROTECT, related_name="pathology_pictures")
    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+", db_index=False)
    specimen = models.ForeignKey(Specimen, models.PROTECT, null=True, blank=True, related_name="pictures")
    slide = models.ForeignKey(Slide, models.PROTECT, null=True, blank=True, related_name="pictures")
    kind = models.CharField(max_length=6)
    data = models.BinaryField()
    sha256 = models.CharField(max_length=64)
    width = models.IntegerField()
    height = models.IntegerField()
    caption = models.CharField(max_length=120, blank=True)
    chosen = models.BooleanField(default=False)
    taken_by = models.CharField(max_length=80)
    at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["reading", "sha256"], name="pathology_picture_once"),
            _one_of("kind", PICTURES, "pathology_picture_kind"),
            models.CheckConstraint(
                name="pathology_picture_of", condition=Q(specimen__isnull=False) | Q(slide__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.reading_id} {self.kind}"

    @property
    def kind_label(self) -> Text:
        """What it shows, in words."""
        return PICTURES[self.kind]


class Loan(models.Model):
    """A block or slide lent out; at most one open loan of each."""

    block = models.ForeignKey(Block, models.PROTECT, null=True, blank=True, related_name="loans")
    slide = models.ForeignKey(Slide, models.PROTECT, null=True, blank=True, related_name="loans")
    borrower = models.CharField(max_length=80)
    house = models.CharField(max_length=80)
    purpose = models.CharField(max_length=200)
    lent_by = models.CharField(max_length=80)
    lent_at = models.DateTimeField()
    due_on = models.DateField()
    returned_at = models.DateTimeField(null=True, blank=True)
    returned_to = models.CharField(max_length=80, blank=True)
    condition = models.CharField(max_length=120, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="pathology_loan_one", condition=Q(block__isnull=True) ^ Q(slide__isnull=True)
            ),
            models.UniqueConstraint(
                fields=["block"], condition=Q(returned_at__isnull=True), name="pathology_loan_block"
            ),
            models.UniqueConstraint(
                fields=["slide"], condition=Q(returned_at__isnull=True), name="pathology_loan_slide"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.block_id or self.slide_id} {self.borrower}"


class Trace(ScopedModel):
    """What happened to a specimen, block or slide, by its code. Never changed."""

    reading = models.ForeignKey("reading.Reading", models.PROTECT, related_name="pathology_traces")
    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+", db_index=False)
    code = models.CharField(max_length=32)
    what = models.CharField(max_length=20)
    note = models.CharField(max_length=300, blank=True)
    by = models.CharField(max_length=80)
    account_id = models.BigIntegerField(null=True, blank=True)
    institution = models.ForeignKey(
        "network.Institution", models.PROTECT, null=True, related_name="+", db_index=False
    )
    at = models.DateTimeField()

    class Meta:
        triggers = [
            pgtrigger.Protect(name="kept", operation=pgtrigger.Delete),
        ]

    def __str__(self) -> str:
        return f"{self.code} {self.what}"

    @property
    def what_label(self) -> Text:
        """The step in words."""
        return TRACES[self.what]


class Policy(Setting):
    """A setting of the pathology centre from a day on: for everybody or one consortium, with the document it comes from."""
