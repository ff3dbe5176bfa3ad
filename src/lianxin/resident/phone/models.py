"""Rows of this room: what somebody says is wrong in their record, and the answer."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from lianxin.access.scoped import ScopedModel
from lianxin.standards.text import T, Text

ANSWERS: dict[str, Text] = {
    "": T("等待答复", "waiting for an answer"),
    "corrected": T("已更正", "corrected"),
    "kept": T("核实后维持原记录", "checked and kept as it is"),
    "withdrawn": T("已撤回", "withdrawn"),
}


class Correction(ScopedModel):
    """A mistake somebody reported in their record; who sent the entry owes an answer (see ``corrections``).

    ``reference`` is the entry ("Observation/12"), ``title`` what it is called, ``text`` what is wrong, ``answer`` how it ended and
    ``words`` what the institution says; both are shown to the person.
    """

    case = models.OneToOneField(
        "duty.Case", models.PROTECT, primary_key=True, related_name="record_correction"
    )
    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+")
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    reference = models.CharField(max_length=160)
    title = models.CharField(max_length=200)
    text = models.CharField(max_length=1000)
    answer = models.CharField(max_length=10, blank=True)
    words = models.CharField(max_length=1000, blank=True)

    scope_institutions = ("institution_id",)

    class Meta:
        constraints = [
            models.CheckConstraint(name="phone_correction_answer", condition=Q(answer__in=list(ANSWERS))),
            models.UniqueConstraint(
                fields=["person", "reference"], condition=Q(answer=""), name="phone_correction_open_once"
            ),
        ]
        indexes = [models.Index(fields=["person"], name="phone_correction_person")]

    def __str__(self) -> str:
        return f"{self.case_id} {self.reference}"

    @property
    def answer_label(self) -> Text:
        """How it stands, in words."""
        return ANSWERS[self.answer]
