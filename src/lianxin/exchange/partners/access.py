"""Which partners a signed-in person may see and change: those of the institutions the page's reader keeps or follows."""

from __future__ import annotations

from django.db.models import QuerySet
from django.http import Http404

from lianxin.access.scope import Scope
from lianxin.exchange.partners.models import Partner
from lianxin.network.models import Institution
from lianxin.network.roles import MANAGER


def reach(scope: Scope) -> frozenset[int]:
    """Institutions the reader keeps or follows."""
    own = frozenset({scope.institution_id}) if scope.institution_id else frozenset[int]()
    return scope.institution_ids | scope.oversight_ids | own


def partners(scope: Scope) -> QuerySet[Partner]:
    """The partners of those institutions."""
    if scope.everything:
        return Partner.objects.all()
    return Partner.objects.filter(institutions__in=reach(scope)).distinct()


def find(scope: Scope, pk: int) -> Partner:
    """One partner; 404 when there is none within reach."""
    found = partners(scope).filter(pk=pk).first()
    if found is None:
        raise Http404
    return found


def institutions(scope: Scope) -> QuerySet[Institution]:
    """Institutions that may be named."""
    found = Institution.objects.filter(active=True)
    return found if scope.everything else found.filter(pk__in=reach(scope))


def decides(scope: Scope, partner: Partner) -> bool:
    """Whether the reader speaks for the consortium of all of a partner's institutions."""
    ids = set(partner.institutions.values_list("pk", flat=True))
    return scope.everything or (scope.has(MANAGER) and bool(ids) and ids <= set(reach(scope)))
