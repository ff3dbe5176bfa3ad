"""Models of patient data that can be read only through a scope.

A subclass says how it belongs to people and institutions::

    class Case(ScopedModel):
        scope_person = "person_id"
        scope_institutions = ("parties__institution_id",)

``Case.objects.within(scope)`` gives the rows that scope may see: a row is visible when the scope's institution has a
relationship with the person, or one of ``scope_institutions`` is the scope's own (or under its oversight).
``filter``/``all``/``get`` raise :class:`ScopeRequired`; mechanisms that must cross say why: ``unscoped("escalation")``.
Creating and saving rows needs no scope.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, cast

from django.db import models
from django.db.models import Q

from lianxin.access import relationships
from lianxin.access.errors import ScopeRequired

if TYPE_CHECKING:
    from lianxin.access.scope import Scope

__all__ = ["ScopeRequired", "ScopedManager", "ScopedModel"]


class ScopedManager(models.Manager):
    """A manager that answers only to a scope."""

    def get_queryset(self) -> models.QuerySet:
        """Refuse: patient data is reached through :meth:`within` (or :meth:`unscoped` with a reason)."""
        raise ScopeRequired(
            f"{self.model.__name__}.objects needs a scope: use .within(scope), or .unscoped('why') in a mechanism"
        )

    def unscoped(self, reason: str) -> models.QuerySet:
        """All rows, for mechanisms that must cross institutions. ``reason`` documents the crossing where it happens."""
        if not reason.strip():
            raise ScopeRequired("unscoped() needs its reason")
        return super().get_queryset()

    def within(self, scope: Scope | None) -> models.QuerySet:
        """Rows that ``scope`` may see."""
        if scope is None:
            raise ScopeRequired(f"{self.model.__name__}.objects.within() was given no scope")
        rows = super().get_queryset()
        if scope.everything:
            return rows
        model = cast(type[ScopedModel], self.model)
        seen = relationships.q(scope, model.scope_person) if model.scope_person else Q(pk__in=())
        if scope.sees_institution_rows:
            mine = scope.institution_ids | scope.oversight_ids
            for field in model.scope_institutions:
                if "__" in field:
                    inner = super().get_queryset().filter(**{f"{field}__in": mine}).values("pk")
                    seen |= Q(pk__in=inner)
                else:
                    seen |= Q(**{f"{field}__in": mine})
        return rows.filter(seen)

    def create(self, **fields: Any) -> Any:
        """Insert one row (writing needs no scope; the caller has checked the act)."""
        return super().get_queryset().create(**fields)

    def bulk_create(self, objs: Iterable[Any], *args: Any, **kwargs: Any) -> list[Any]:
        """Insert many rows."""
        return super().get_queryset().bulk_create(objs, *args, **kwargs)


class ScopedModel(models.Model):
    """Base of every model that holds patient data."""

    scope_person: ClassVar[str] = "person_id"
    scope_institutions: ClassVar[tuple[str, ...]] = ()

    objects = ScopedManager()

    class Meta:
        abstract = True
