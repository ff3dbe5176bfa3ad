"""Who takes part: institutions, the consortia they form, agreements between them, departments, people and their posts.

Nothing here is patient data. Periods are half-open days: a row holds on day *d* when ``since <= d`` and
(``until`` is null or ``d < until``). The database keeps the invariants; `clean()` says the same to people.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import pgtrigger
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F, Q

from lianxin.network import kinds, roles
from lianxin.standards import clock, identifiers, pinyin
from lianxin.standards.text import T, Text

CODE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9-]{0,39}$"


def live(on: dt.date | None = None, prefix: str = "") -> Q:
    """Condition "this period holds on day ``on``" (default today) for models with ``since`` and ``until``."""
    day = on or clock.today()
    return Q(**{f"{prefix}since__lte": day}) & (
        Q(**{f"{prefix}until__isnull": True}) | Q(**{f"{prefix}until__gt": day})
    )


class PeriodQuerySet(models.QuerySet):
    """Rows with ``since``/``until``."""

    def live(self, on: dt.date | None = None) -> PeriodQuerySet:
        """Rows that hold on day ``on`` (default today)."""
        return self.filter(live(on))


def _period(name: str) -> models.CheckConstraint:
    return models.CheckConstraint(condition=Q(until__isnull=True) | Q(until__gte=F("since")), name=name)


def _one_of(field: str, values: dict[str, Text], name: str) -> models.CheckConstraint:
    return models.CheckConstraint(condition=Q(**{f"{field}__in": list(values)}), name=name)


class Named(models.Model):
    """A thing with a Chinese and an English name, findable by pinyin and initials."""

    name = models.CharField(max_length=120)
    name_en = models.CharField(max_length=160, blank=True)
    pinyin = models.CharField(max_length=400, blank=True, editable=False)
    initials = models.CharField(max_length=120, blank=True, editable=False)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save with search keys that fit the name."""
        self.set_pinyin()
        fields = kwargs.get("update_fields")
        if fields is not None and "name" in fields:
            kwargs["update_fields"] = {*fields, "pinyin", "initials"}
        super().save(*args, **kwargs)

    @property
    def label(self) -> Text:
        """Name in both languages (English falls back to Chinese)."""
        return Text(self.name, self.name_en or self.name)

    def set_pinyin(self) -> None:
        """Refresh the derived search keys from the name (``save`` does it; bulk writers call it)."""
        full, initials = pinyin.term_keys(self.name)
        self.pinyin, self.initials = full[:400], initials[:120]


class Institution(Named):
    """A hospital, township centre, village clinic… ``code`` is also its FHIR Organization id."""

    code = models.CharField(max_length=40, unique=True)
    short_name = models.CharField(max_length=60, blank=True)
    kind = models.CharField(max_length=20)
    tier = models.CharField(max_length=12)
    level = models.CharField(max_length=20, blank=True)
    ownership = models.CharField(max_length=12, default="public")
    division = models.CharField(max_length=6, blank=True)
    uscc = models.CharField(max_length=18, null=True, blank=True, unique=True)
    parent = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="children"
    )
    lon = models.FloatField(null=True, blank=True)
    lat = models.FloatField(null=True, blank=True)
    address = models.CharField(max_length=200, blank=True)
    phone = models.CharField(max_length=40, blank=True)
    active = models.BooleanField(default=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(code__regex=CODE_PATTERN), name="network_institution_code"),
            _one_of("kind", kinds.KINDS, "network_institution_kind"),
            _one_of("tier", kinds.TIERS, "network_institution_tier"),
            _one_of("ownership", kinds.OWNERSHIPS, "network_institution_ownership"),
            models.CheckConstraint(
                condition=Q(division="") | Q(division__regex=r"^[0-9]{6}$"),
                name="network_institution_division",
            ),
            models.CheckConstraint(
                condition=Q(uscc__isnull=True) | Q(uscc__regex=r"^[0-9A-HJ-NPQRTUWXY]{18}$"),
                name="network_institution_uscc",
            ),
            models.CheckConstraint(
                condition=Q(lon__isnull=True, lat__isnull=True)
                | Q(
                    lon__isnull=False,
                    lat__isnull=False,
                    lon__gte=-180,
                    lon__lte=180,
                    lat__gte=-90,
                    lat__lte=90,
                ),
                name="network_institution_position",
            ),
            models.CheckConstraint(
                condition=~Q(kind="village") | Q(parent__isnull=False), name="network_village_has_parent"
            ),
            models.CheckConstraint(
                condition=Q(parent__isnull=True) | ~Q(parent=F("id")),
                name="network_institution_not_own_parent",
            ),
        ]
        triggers = [
            # The kind of the parent lives in another row: only a trigger can hold "a village clinic hangs on a
            # township or community centre, nothing hangs on a village clinic, and no parent chain is a ring".
            pgtrigger.Trigger(
                name="parent_fits",
                when=pgtrigger.Before,
                operation=pgtrigger.Insert | pgtrigger.UpdateOf("kind", "parent_id"),
                declare=[("parent_kind", "text"), ("ring", "boolean")],
                func="""
                    IF TG_OP = 'UPDATE' AND NEW.parent_id IS DISTINCT FROM OLD.parent_id THEN
                        -- two moves at once could close a ring that neither sees: moves go one at a time
                        PERFORM pg_advisory_xact_lock(hashtext('network_institution.parent'));
                    END IF;
                    IF NEW.parent_id IS NOT NULL THEN
                        SELECT kind INTO parent_kind FROM network_institution WHERE id = NEW.parent_id FOR SHARE;
                        IF NEW.kind = 'village' AND parent_kind NOT IN ('township', 'community') THEN
                            RAISE EXCEPTION 'network_village_parent_kind: a village clinic belongs to a township or community centre'
                                USING ERRCODE = 'check_violation';
                        END IF;
                        IF parent_kind = 'village' THEN
                            RAISE EXCEPTION 'network_no_child_of_village: nothing may belong to a village clinic'
                                USING ERRCODE = 'check_violation';
                        END IF;
                        WITH RECURSIVE up(id, parent_id) AS (
                            SELECT id, parent_id FROM network_institution WHERE id = NEW.parent_id
                            UNION SELECT i.id, i.parent_id FROM network_institution i JOIN up ON i.id = up.parent_id
                        ) SELECT EXISTS (SELECT 1 FROM up WHERE id = NEW.id) INTO ring;
                        IF ring THEN
                            RAISE EXCEPTION 'network_no_ring: an institution may not be above itself'
                                USING ERRCODE = 'check_violation';
                        END IF;
                    END IF;
                    IF TG_OP = 'UPDATE' AND NEW.kind NOT IN ('township', 'community')
                       AND EXISTS (SELECT 1 FROM network_institution WHERE parent_id = NEW.id AND kind = 'village') THEN
                        RAISE EXCEPTION 'network_village_parent_kind: village clinics belong to this institution'
                            USING ERRCODE = 'check_violation';
                    END IF;
                    RETURN NEW;
                """,
            ),
        ]
        indexes = [models.Index(fields=["kind"]), models.Index(fields=["division"])]
        ordering = ["code"]

    @property
    def short(self) -> str:
        """Short name, or the name when there is none."""
        return self.short_name or self.name

    @property
    def short_label(self) -> Text:
        """Short name in Chinese, the English name where there is one."""
        return Text(self.short, self.name_en or self.short)

    @property
    def kind_label(self) -> Text:
        """Kind in words."""
        return kinds.KINDS[self.kind]

    @property
    def tier_label(self) -> Text:
        """Tier in words."""
        return kinds.TIERS[self.tier]

    def clean(self) -> None:
        """Say in both languages what the database would refuse."""
        errors: dict[str, Any] = {}
        if self.uscc:
            try:
                self.uscc = identifiers.uscc(self.uscc).number
            except identifiers.IdentifierError as error:
                errors["uscc"] = str(error.message)
        else:
            self.uscc = None
        if self.kind == "village" and (
            self.parent is None or self.parent.kind not in ("township", "community")
        ):
            errors["parent"] = str(
                T(
                    "村卫生室必须有上级乡镇卫生院或社区卫生服务中心，请填写上级机构。",
                    "A village clinic belongs to a township or community centre; give its parent.",
                )
            )
        if (self.lon is None) != (self.lat is None):
            errors["lon"] = str(T("经度与纬度须同时填写。", "Give longitude and latitude together."))
        if errors:
            raise ValidationError(errors)


class Capability(models.Model):
    """Something an institution can do, for a period: a specialty, a device, a procedure, a disease it treats."""

    institution = models.ForeignKey(Institution, on_delete=models.CASCADE, related_name="capabilities")
    kind = models.CharField(max_length=12)
    code = models.CharField(max_length=40)
    name = models.CharField(max_length=120)
    name_en = models.CharField(max_length=160, blank=True)
    since = models.DateField()
    until = models.DateField(null=True, blank=True)

    objects = PeriodQuerySet.as_manager()

    class Meta:
        constraints = [
            _one_of("kind", kinds.CAPABILITIES, "network_capability_kind"),
            _period("network_capability_period"),
            models.UniqueConstraint(
                fields=["institution", "kind", "code"],
                condition=Q(until__isnull=True),
                name="network_capability_live",
            ),
        ]
        indexes = [models.Index(fields=["kind", "code"])]

    def __str__(self) -> str:
        return f"{self.code} {self.name}"

    @property
    def label(self) -> Text:
        """Name in both languages."""
        return Text(self.name, self.name_en or self.name)


class Consortium(Named):
    """A medical consortium of one of the four forms; ``rules`` holds its policy overrides (clock specs and the like)."""

    code = models.CharField(max_length=40, unique=True)
    form = models.CharField(max_length=24)
    lead = models.ForeignKey(Institution, on_delete=models.PROTECT, related_name="leads")
    division = models.CharField(max_length=6, blank=True)
    founded = models.DateField(null=True, blank=True)
    rules = models.JSONField(default=dict, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(code__regex=CODE_PATTERN), name="network_consortium_code"),
            _one_of("form", kinds.FORMS, "network_consortium_form"),
            models.CheckConstraint(
                condition=Q(division="") | Q(division__regex=r"^[0-9]{6}$"),
                name="network_consortium_division",
            ),
        ]
        ordering = ["code"]

    @property
    def form_label(self) -> Text:
        """Form in words."""
        return kinds.FORMS[self.form]


class Membership(models.Model):
    """An institution's place in a consortium for a period."""

    consortium = models.ForeignKey(Consortium, on_delete=models.CASCADE, related_name="memberships")
    institution = models.ForeignKey(Institution, on_delete=models.PROTECT, related_name="memberships")
    role = models.CharField(max_length=8, default="member")
    since = models.DateField()
    until = models.DateField(null=True, blank=True)

    objects = PeriodQuerySet.as_manager()

    class Meta:
        constraints = [
            _one_of("role", kinds.MEMBER_ROLES, "network_membership_role"),
            _period("network_membership_period"),
            models.UniqueConstraint(
                fields=["consortium", "institution"],
                condition=Q(until__isnull=True),
                name="network_membership_live",
            ),
            models.UniqueConstraint(
                fields=["consortium"],
                condition=Q(until__isnull=True, role="lead"),
                name="network_one_live_lead",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.consortium_id}:{self.institution_id} {self.role}"


class Agreement(models.Model):
    """A signed cooperation between two institutions, inside a consortium or across."""

    consortium = models.ForeignKey(
        Consortium, null=True, blank=True, on_delete=models.PROTECT, related_name="agreements"
    )
    party_a = models.ForeignKey(Institution, on_delete=models.PROTECT, related_name="agreements_as_a")
    party_b = models.ForeignKey(Institution, on_delete=models.PROTECT, related_name="agreements_as_b")
    kind = models.CharField(max_length=16)
    number = models.CharField(max_length=60, unique=True)
    since = models.DateField()
    until = models.DateField(null=True, blank=True)
    terms = models.JSONField(default=dict, blank=True)

    objects = PeriodQuerySet.as_manager()

    class Meta:
        constraints = [
            _one_of("kind", kinds.AGREEMENTS, "network_agreement_kind"),
            _period("network_agreement_period"),
            models.CheckConstraint(condition=~Q(party_a=F("party_b")), name="network_agreement_two_parties"),
        ]

    def __str__(self) -> str:
        return self.number


class Department(Named):
    """A department of an institution; ``specialty`` is a 诊疗科目 code."""

    institution = models.ForeignKey(Institution, on_delete=models.CASCADE, related_name="departments")
    code = models.CharField(max_length=40)
    specialty = models.CharField(max_length=20, blank=True)
    active = models.BooleanField(default=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["institution", "code"], name="network_department_code"),
            models.CheckConstraint(
                condition=Q(code__regex=CODE_PATTERN), name="network_department_code_form"
            ),
        ]
        indexes = [models.Index(fields=["specialty"])]
        ordering = ["institution", "code"]
        triggers = [
            # posts name a department and its institution: a department that moved house would part them
            pgtrigger.Trigger(
                name="stays",
                when=pgtrigger.Before,
                operation=pgtrigger.UpdateOf("institution_id"),
                condition=pgtrigger.Q(old__institution__df=pgtrigger.F("new__institution")),
                func="""
                    RAISE EXCEPTION 'network_department_stays: a department does not change its institution'
                        USING ERRCODE = 'check_violation';
                """,
            ),
        ]


class Practitioner(Named):
    """A person who works in the network; where and as what is in `Post`."""

    code = models.CharField(max_length=40, unique=True)
    sex = models.CharField(max_length=8, default="unknown")
    licence_no = models.CharField(max_length=40, null=True, blank=True, unique=True)
    title = models.CharField(max_length=40, blank=True)
    phone = models.CharField(max_length=40, blank=True)
    active = models.BooleanField(default=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(code__regex=CODE_PATTERN), name="network_practitioner_code"),
            _one_of("sex", kinds.SEXES, "network_practitioner_sex"),
        ]
        ordering = ["code"]

    def set_pinyin(self) -> None:
        """A person's name is read with the surname table."""
        self.pinyin = pinyin.full(self.name)[:400]
        self.initials = pinyin.initials(self.name)[:120]

    @property
    def title_label(self) -> Text:
        """Professional title in both languages."""
        return kinds.title(self.title)


class Post(models.Model):
    """A practitioner holds a role at an institution (and department) for a period."""

    practitioner = models.ForeignKey(Practitioner, on_delete=models.CASCADE, related_name="posts")
    institution = models.ForeignKey(Institution, on_delete=models.PROTECT, related_name="posts")
    department = models.ForeignKey(
        Department, null=True, blank=True, on_delete=models.PROTECT, related_name="posts"
    )
    role = models.CharField(max_length=20)
    since = models.DateField()
    until = models.DateField(null=True, blank=True)

    objects = PeriodQuerySet.as_manager()

    class Meta:
        constraints = [
            _period("network_post_period"),
            models.UniqueConstraint(
                fields=["practitioner", "institution", "department", "role"],
                condition=Q(until__isnull=True),
                nulls_distinct=False,
                name="network_post_live",
            ),
        ]
        indexes = [models.Index(fields=["institution", "role"])]
        triggers = [
            pgtrigger.Trigger(
                name="department_fits",
                when=pgtrigger.Before,
                operation=pgtrigger.Insert | pgtrigger.UpdateOf("institution_id", "department_id"),
                func="""
                    IF NEW.department_id IS NOT NULL AND NOT EXISTS (
                        SELECT 1 FROM network_department
                        WHERE id = NEW.department_id AND institution_id = NEW.institution_id) THEN
                        RAISE EXCEPTION 'network_post_department: the department belongs to another institution'
                            USING ERRCODE = 'check_violation';
                    END IF;
                    RETURN NEW;
                """,
            ),
        ]

    def __str__(self) -> str:
        return f"{self.practitioner_id}@{self.institution_id} {self.role}"

    @property
    def role_label(self) -> Text:
        """Role in words."""
        return roles.label(self.role)
