"""What the insurance settled: batches with their files and control sheets, lines, the providers they name, and what was wrong.

A line counts when it is ``current`` and its batch is ``accepted``; for one settlement id of a consortium at most one line is current.
Lines never change: another content is another line of a later batch, and the older one is kept.
"""

from __future__ import annotations

from typing import Any, ClassVar

import pgtrigger
from django.db import models
from django.db.models import Q

from lianxin.access.models import Account, Client
from lianxin.access.scoped import ScopedModel
from lianxin.network import kinds
from lianxin.network.models import Consortium, Institution

UPLOADED, CHECKED, HELD, ACCEPTED, WITHDRAWN, REFUSED = (
    "uploaded", "checked", "held", "accepted", "withdrawn", "refused",
)  # fmt: skip
STATES = (UPLOADED, CHECKED, HELD, ACCEPTED, WITHDRAWN, REFUSED)
MOVES = {
    UPLOADED: (CHECKED, REFUSED, WITHDRAWN),
    REFUSED: (CHECKED, WITHDRAWN),
    CHECKED: (HELD, ACCEPTED, WITHDRAWN),
    HELD: (ACCEPTED, WITHDRAWN),
    ACCEPTED: (WITHDRAWN,),
    WITHDRAWN: (),
}
"""Where a batch may go from where."""

OWN, OTHER, OUTSIDE, PHARMACY, UNKNOWN = "own", "other", "outside", "pharmacy", "unknown"
PLACES = (OWN, OTHER, OUTSIDE, PHARMACY, UNKNOWN)
SCHEMES = ("employee", "resident", "other")
CARES = ("outpatient", "emergency", "chronic", "inpatient", "maternity", "pharmacy", "other")
MONEY = (
    "total", "in_scope", "self_pay", "fund", "pool", "big", "aid", "other_fund", "account", "cash", "personal", "hospital",
)  # fmt: skip
"""Amounts of a line, in fen: total 医疗费总额, in_scope 符合政策范围, self_pay 全自费, fund 基金支付总额 with its parts pool 统筹, big 大病及大额,
aid 医疗救助, other_fund 其他基金; personal 个人负担 with its parts account 个人账户 and cash 个人现金; hospital 医院负担."""


class SettlementBatch(models.Model):
    """A file of lines with its control sheet. ``uploaded`` (kept) → ``checked`` (in the table) → ``held`` (does not agree with its
    control sheet) or ``accepted`` (counts) → ``withdrawn``; ``refused``: the file cannot be understood.

    ``report``: columns recognised, rules broken with their counts, new/changed/unchanged lines, people found.
    """

    consortium = models.ForeignKey(Consortium, on_delete=models.PROTECT, related_name="+")
    institution = models.ForeignKey(Institution, null=True, on_delete=models.PROTECT, related_name="+")
    client = models.ForeignKey(Client, null=True, on_delete=models.PROTECT, related_name="+")
    account = models.ForeignKey(Account, null=True, on_delete=models.PROTECT, related_name="+")
    name = models.CharField(max_length=200)
    control_name = models.CharField(max_length=200, blank=True)
    same = models.BinaryField(max_length=16)
    same_control = models.BinaryField(max_length=16)
    state = models.CharField(max_length=9, default=UPLOADED)
    arrival_id = models.BigIntegerField(null=True)
    rows = models.IntegerField(default=0)
    rejected = models.IntegerField(default=0)
    total = models.BigIntegerField(default=0)
    fund = models.BigIntegerField(default=0)
    first_day = models.DateField(null=True)
    last_day = models.DateField(null=True)
    differences = models.IntegerField(null=True)
    report: models.JSONField[Any, Any] = models.JSONField(default=dict)
    at = models.DateTimeField()
    checked_at = models.DateTimeField(null=True)
    decided_at = models.DateTimeField(null=True)
    decided_by = models.ForeignKey(Account, null=True, on_delete=models.PROTECT, related_name="+")
    reason = models.TextField(blank=True)

    class Meta:
        app_label = "exchange"
        constraints = [
            models.CheckConstraint(condition=Q(state__in=STATES), name="settlementbatch_state"),
            models.CheckConstraint(
                condition=Q(state__in=(UPLOADED, REFUSED)) | Q(checked_at__isnull=False) | Q(state=WITHDRAWN),
                name="settlementbatch_checked",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=(HELD, ACCEPTED))
                | Q(differences__isnull=False, decided_at__isnull=False),
                name="settlementbatch_compared",
            ),
            models.CheckConstraint(
                condition=~Q(state=ACCEPTED)
                | Q(differences=0)
                | (~Q(reason="") & Q(decided_by__isnull=False)),
                name="settlementbatch_accepted_by_whom",
            ),
            models.CheckConstraint(
                condition=~Q(state=WITHDRAWN) | ~Q(reason=""), name="settlementbatch_withdrawn_why"
            ),
            models.UniqueConstraint(
                fields=["consortium", "same", "same_control"],
                condition=~Q(state=WITHDRAWN),
                name="settlementbatch_once",
            ),
        ]
        indexes = [models.Index(fields=["consortium", "-at"], name="settlementbatch_recent")]
        triggers = [
            pgtrigger.FSM(
                name="moves",
                field="state",
                transitions=[(a, b) for a, targets in MOVES.items() for b in targets],
            )
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.state}"


class SettlementFile(models.Model):
    """The files of a batch exactly as they came, cut in pieces, each compressed and sealed."""

    batch = models.ForeignKey(SettlementBatch, on_delete=models.CASCADE, related_name="files", db_index=False)
    role = models.CharField(max_length=7)
    number = models.IntegerField()
    body = models.BinaryField()

    class Meta:
        app_label = "exchange"
        constraints = [
            models.UniqueConstraint(fields=["batch", "role", "number"], name="settlementfile_number"),
            models.CheckConstraint(condition=Q(role__in=("detail", "control")), name="settlementfile_role"),
        ]

    def __str__(self) -> str:
        return f"{self.batch_id} {self.role} {self.number}"


class SettlementProvider(models.Model):
    """A hospital or pharmacy as the insurance names it, and where it stands for a consortium.

    ``how``: recognised by "code", "name", "rule" (of ``data/layout.yaml``) or a "person".  ``own_since``/``own_until``: the days of
    its membership; before and after, an own institution is another one in the county.
    """

    consortium = models.ForeignKey(Consortium, on_delete=models.PROTECT, related_name="+", db_index=False)
    code = models.CharField(max_length=60)
    name = models.CharField(max_length=200, blank=True)
    place = models.CharField(max_length=8, default=UNKNOWN)
    institution = models.ForeignKey(Institution, null=True, on_delete=models.PROTECT, related_name="+")
    tier = models.CharField(max_length=12, blank=True)
    how = models.CharField(max_length=6, default="rule")
    own_since = models.DateField(null=True)
    own_until = models.DateField(null=True)

    class Meta:
        app_label = "exchange"
        constraints = [
            models.UniqueConstraint(fields=["consortium", "code"], name="settlementprovider_once"),
            models.CheckConstraint(condition=Q(place__in=PLACES), name="settlementprovider_place"),
            models.CheckConstraint(
                condition=Q(tier="") | Q(tier__in=list(kinds.TIERS)), name="settlementprovider_tier"
            ),
            models.CheckConstraint(
                condition=~Q(place=OWN) | Q(institution__isnull=False), name="settlementprovider_own"
            ),
            models.CheckConstraint(
                condition=Q(how__in=("code", "name", "rule", "person")), name="settlementprovider_how"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.code} {self.name}"


class SettlementLine(ScopedModel):
    """One settlement of one person. Amounts are in fen (see :data:`MONEY`); negative for a reversal 冲销 only.

    ``body``: sealed JSON with what names the person (number, name, insured number, diagnosis in words).  ``id_blind`` finds the person
    in the index (:func:`lianxin.index.facts.id_blind`); who is not there yet stays unlinked.
    """

    scope_person: ClassVar[str] = "person_id"

    consortium = models.ForeignKey(
        Consortium, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    batch = models.ForeignKey(SettlementBatch, on_delete=models.PROTECT, related_name="lines", db_index=False)
    row = models.IntegerField()
    settlement_id = models.CharField(max_length=60)
    version = models.SmallIntegerField(default=1)
    digest = models.BinaryField(max_length=16)
    current = models.BooleanField()
    reversal = models.BooleanField(default=False)
    reverses = models.CharField(max_length=60, blank=True)
    person_id = models.BigIntegerField(null=True)
    id_blind = models.BinaryField(max_length=16, null=True)
    body = models.BinaryField()
    scheme = models.CharField(max_length=8)
    care = models.CharField(max_length=10)
    insured_place = models.CharField(max_length=12, blank=True)
    provider = models.ForeignKey(
        SettlementProvider, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    admitted_on = models.DateField(null=True)
    discharged_on = models.DateField(null=True)
    settled_on = models.DateField()
    diagnosis = models.CharField(max_length=20, blank=True)
    grouped = models.CharField(max_length=40, blank=True)
    excluded = models.BooleanField(default=False)
    total = models.BigIntegerField()
    in_scope = models.BigIntegerField(null=True)
    self_pay = models.BigIntegerField(null=True)
    fund = models.BigIntegerField()
    pool = models.BigIntegerField(null=True)
    big = models.BigIntegerField(null=True)
    aid = models.BigIntegerField(null=True)
    other_fund = models.BigIntegerField(null=True)
    account = models.BigIntegerField(null=True)
    cash = models.BigIntegerField(null=True)
    personal = models.BigIntegerField(null=True)
    hospital = models.BigIntegerField(null=True)

    class Meta:
        app_label = "exchange"
        constraints = [
            models.UniqueConstraint(
                fields=["consortium", "settlement_id", "batch"], name="settlementline_once"
            ),
            models.UniqueConstraint(
                fields=["consortium", "settlement_id"],
                condition=Q(current=True),
                name="settlementline_one_current",
            ),
            models.CheckConstraint(
                condition=Q(scheme__in=SCHEMES) & Q(care__in=CARES), name="settlementline_kinds"
            ),
            models.CheckConstraint(
                condition=Q(reversal=True) | (Q(total__gte=0) & Q(fund__gte=0)),
                name="settlementline_negative",
            ),
        ]
        indexes = [
            models.Index(fields=["batch", "row"], name="settlementline_batch"),
            models.Index(
                fields=["consortium", "settled_on"], condition=Q(current=True), name="settlementline_day"
            ),
            models.Index(
                fields=["person_id", "settled_on"],
                condition=Q(person_id__isnull=False),
                name="settlementline_person",
            ),
            models.Index(
                fields=["id"],
                condition=Q(person_id__isnull=True, id_blind__isnull=False, current=True),
                name="settlementline_unlinked",
            ),
        ]
        triggers = [
            pgtrigger.Trigger(
                name="stands",
                when=pgtrigger.Before,
                operation=pgtrigger.Update,
                condition=pgtrigger.AnyChange(exclude=["current", "person_id"]),
                func="""
                    RAISE EXCEPTION 'settlementline_stands: a settlement line does not change; another content is another line'
                        USING ERRCODE = 'check_violation';
                """,
            )
        ]

    def __str__(self) -> str:
        return f"{self.settlement_id} v{self.version}"


class SettlementControl(models.Model):
    """A line of a control sheet 对账单: what a provider, a scheme, a month should sum up to; what the sheet does not tell apart is "".

    ``whole``: the sheet's own grand total.
    """

    batch = models.ForeignKey(SettlementBatch, on_delete=models.CASCADE, related_name="controls")
    row = models.IntegerField()
    provider = models.CharField(max_length=200, blank=True)
    scheme = models.CharField(max_length=8, blank=True)
    month = models.CharField(max_length=7, blank=True)
    rows = models.BigIntegerField(null=True)
    total = models.BigIntegerField(null=True)
    fund = models.BigIntegerField(null=True)
    whole = models.BooleanField(default=False)

    class Meta:
        app_label = "exchange"
        constraints = [
            models.CheckConstraint(
                condition=Q(month="") | Q(month__regex=r"^\d{4}-\d{2}$"), name="settlementcontrol_month"
            )
        ]

    def __str__(self) -> str:
        return f"{self.provider} {self.scheme} {self.month}"


class SettlementIssue(models.Model):
    """A row against a rule: where, never the person's values. ``refuse``: the row is no line of the batch.

    Kept for the first thousand rows of a rule; the batch's report counts them all.
    """

    batch = models.ForeignKey(
        SettlementBatch, on_delete=models.CASCADE, related_name="issues", db_index=False
    )
    row = models.IntegerField()
    settlement_id = models.CharField(max_length=60, blank=True)
    provider = models.CharField(max_length=60, blank=True)
    scheme = models.CharField(max_length=8, blank=True)
    month = models.CharField(max_length=7, blank=True)
    total = models.BigIntegerField(null=True)
    fund = models.BigIntegerField(null=True)
    rule = models.CharField(max_length=40)
    severity = models.CharField(max_length=6)
    column = models.CharField(max_length=40, blank=True)
    zh = models.TextField()
    en = models.TextField()

    class Meta:
        app_label = "exchange"
        constraints = [
            models.CheckConstraint(
                condition=Q(severity__in=("refuse", "warn")), name="settlementissue_severity"
            )
        ]
        indexes = [models.Index(fields=["batch", "rule", "row"], name="settlementissue_batch")]

    def __str__(self) -> str:
        return f"{self.batch_id}:{self.row} {self.rule}"
