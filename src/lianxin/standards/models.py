"""Standards as rows: code systems (one row per version), concepts, value sets, divisions, calendar overrides.

A code system keeps all its versions; the one in force on a day is the newest whose ``effective_from`` is not after it
(`lianxin.standards.codes` reads them). Nothing here is patient data.
"""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from lianxin.standards.text import Text


class CodeSystem(models.Model):
    """One version of a code system: ``url`` + ``version`` name it, ``effective_from`` says from which day it holds."""

    url = models.CharField(max_length=200)
    version = models.CharField(max_length=60)
    name = models.CharField(max_length=80)
    title = models.CharField(max_length=200)
    title_en = models.CharField(max_length=200, blank=True)
    source = models.CharField(max_length=300, blank=True)
    effective_from = models.DateField()
    effective_to = models.DateField(null=True, blank=True)
    content_hash = models.CharField(max_length=64, blank=True)
    imported_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["url", "version"], name="standards_system_version"),
            models.UniqueConstraint(fields=["url", "effective_from"], name="standards_system_one_per_day"),
            models.CheckConstraint(
                condition=Q(effective_to__isnull=True) | Q(effective_to__gte=F("effective_from")),
                name="standards_system_period",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.title} {self.version}"

    @property
    def label(self) -> Text:
        """Title in both languages."""
        return Text(self.title, self.title_en or self.title)


def _prefix_index(field: str) -> models.Index:
    """An index that answers ``LIKE 'x%'`` whatever the database's collation."""
    return models.Index(
        fields=["system", field],
        name=f"standards_{field}_like",
        opclasses=["int8_ops", "varchar_pattern_ops"],
    )


class Concept(models.Model):
    """One code of one version; ``props`` carries what the standard says beside the name (``needs_comment``, ``level``…)."""

    system = models.ForeignKey(CodeSystem, on_delete=models.CASCADE, related_name="concepts")
    code = models.CharField(max_length=40)
    display = models.CharField(max_length=300)
    display_en = models.CharField(max_length=300, blank=True)
    parent = models.CharField(max_length=40, blank=True)
    pinyin = models.CharField(max_length=600, blank=True)
    initials = models.CharField(max_length=300, blank=True)
    # keys: " synonym pinyin initials …" in lower case, a blank before and after each
    keys = models.TextField(blank=True)
    haystack = models.TextField(blank=True)  # all names and keys in lower case, for "contains"
    position = models.IntegerField(default=0)
    since = models.DateField(null=True, blank=True)
    until = models.DateField(null=True, blank=True)
    props = models.JSONField(default=dict, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["system", "code"], name="standards_concept_code"),
            models.CheckConstraint(
                condition=Q(since__isnull=True) | Q(until__isnull=True) | Q(until__gte=F("since")),
                name="standards_concept_period",
            ),
        ]
        indexes = [
            *(_prefix_index(field) for field in ("code", "display", "initials", "pinyin")),
            models.Index(fields=["system"], condition=~Q(keys=""), name="standards_synonyms"),
        ]

    def __str__(self) -> str:
        return f"{self.code} {self.display}"

    @property
    def label(self) -> Text:
        """Display name in both languages (English falls back to Chinese)."""
        return Text(self.display, self.display_en or self.display)


class ValueSet(models.Model):
    """A named, ordered choice of codes, for forms and validation."""

    name = models.CharField(max_length=80, unique=True)
    title = models.CharField(max_length=200)
    title_en = models.CharField(max_length=200, blank=True)

    def __str__(self) -> str:
        return self.title


class ValueSetMember(models.Model):
    """A code in a value set; an empty ``code`` takes in the whole code system."""

    value_set = models.ForeignKey(ValueSet, on_delete=models.CASCADE, related_name="members")
    url = models.CharField(max_length=200)
    code = models.CharField(max_length=40, blank=True)
    position = models.IntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["value_set", "url", "code"], name="standards_member_once"),
        ]

    def __str__(self) -> str:
        return f"{self.value_set_id}:{self.code or '*'}"


class Division(models.Model):
    """An administrative division of GB/T 2260 (6 digits) or below (9, 12 digits, loaded by the user)."""

    code = models.CharField(max_length=12, primary_key=True)
    name = models.CharField(max_length=60)
    level = models.CharField(max_length=12)  # province | prefecture | county | township | village
    parent = models.CharField(max_length=12, blank=True, db_index=True)
    pinyin = models.CharField(max_length=200, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(code__regex=r"^([0-9]{6}|[0-9]{9}|[0-9]{12})$"), name="standards_division_code"
            ),
            models.CheckConstraint(
                condition=Q(level__in=["province", "prefecture", "county", "township", "village"]),
                name="standards_division_level",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class CalendarDay(models.Model):
    """A day the State Council's notice (or the county) sets otherwise than the built-in calendar says."""

    day = models.DateField(primary_key=True)
    workday = models.BooleanField()
    name = models.CharField(max_length=60, blank=True)

    def __str__(self) -> str:
        return f"{self.day} {self.name}"
