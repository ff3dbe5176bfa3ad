"""On whose behalf something happens: the one argument that every reach for patient data takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from django.db.models import Q

from lianxin.access import policies, sharing
from lianxin.access.errors import NotPermitted
from lianxin.access.models import Account, ActsFor
from lianxin.network.models import Institution, Membership, Post
from lianxin.network.roles import ADMINS, CLINICAL, INDEX_MANAGER, MANAGER, RESIDENT
from lianxin.standards import clock
from lianxin.standards.text import T


@dataclass(frozen=True)
class Scope:
    """Who acts, from which institution, in which roles. Immutable; made at the door and handed down.

    ``smart``: a token's scopes, which only ever narrow. An app that a person opened has ``client_id`` *and* ``account_id``: it
    sees what that person sees, within its scopes; ``person_id`` is the patient its ``patient/`` scopes are about.
    ``strict``: what it writes must keep the rules of R4 and of the profiles it claims, not only the structure.
    ``partner_ids``: institutions of the same consortia (see :mod:`lianxin.access.sharing`).
    ``resident_ids``: the people a resident's account acts for (themselves, family); such a scope has no institution and no post.
    """

    account_id: int | None = None
    client_id: int | None = None
    practitioner_id: int | None = None
    post_id: int | None = None
    institution_id: int | None = None
    institution_ids: frozenset[int] = frozenset()
    roles: frozenset[str] = frozenset()
    smart: tuple[str, ...] = ()
    everything: bool = False
    reason: str = ""
    name: str = ""
    oversight_ids: frozenset[int] = field(default=frozenset())
    partner_ids: frozenset[int] = frozenset()
    person_id: int | None = None
    grant_id: int | None = None
    strict: bool = True
    resident_ids: frozenset[int] = frozenset()

    @classmethod
    def system(cls, reason: str) -> Scope:
        """The platform itself acts (scenario, periodic task, command); ``reason`` goes into every audit event it writes."""
        if not reason.strip():
            raise ValueError("a system scope needs its reason")
        return cls(everything=True, reason=reason, name="system")

    @property
    def machine(self) -> bool:
        """Whether a client acts on its own, with nobody signed in behind it."""
        return self.client_id is not None and self.account_id is None

    @property
    def resident(self) -> bool:
        """Whether a resident acts, for themselves or family."""
        return RESIDENT in self.roles

    @property
    def clinical(self) -> bool:
        """Whether records may be opened at all (still person by person): a clinical role, or a client acting for an institution."""
        return self.everything or self.machine or bool(self.roles & CLINICAL)

    @property
    def sees_institution_rows(self) -> bool:
        """Whether rows of the own institution (cases, sessions of care) are visible: everyone but the three administrators."""
        return self.machine or bool(self.roles - ADMINS - {RESIDENT})

    def has(self, *roles: str) -> bool:
        """Whether any of ``roles`` is held."""
        return bool(self.roles.intersection(roles))

    def may(self, permission: str) -> bool:
        """Whether the roles include ``permission`` (see :mod:`lianxin.access.policies`)."""
        return self.everything or policies.permits(permission, self.roles, client=self.machine)

    def demand(self, permission: str) -> None:
        """Raise :class:`NotPermitted`, naming who may, unless :meth:`may`."""
        if not self.may(permission):
            raise NotPermitted(policies.refusal(permission))


def institutions_for(institution: Institution) -> frozenset[int]:
    """The institution itself and, for a township or community centre, the village clinics below it."""
    ids = {institution.pk}
    if institution.kind in {"township", "community"}:
        ids.update(institution.children.filter(kind="village").values_list("pk", flat=True))
    return frozenset(ids)


def _oversight(institution: Institution, roles: frozenset[str]) -> frozenset[int]:
    """Institutions whose cases, figures and registrations (never record content) a consortium office or index manager follows."""
    if not roles & {MANAGER, INDEX_MANAGER}:
        return frozenset()
    mine = Membership.objects.live().filter(institution=institution).values("consortium_id")
    return frozenset(
        Membership.objects.live().filter(consortium_id__in=mine).values_list("institution_id", flat=True)
    )


def _family(account: Account) -> frozenset[int]:
    """Whom a resident's account acts for now."""
    if not account.resident or not account.is_active:
        return frozenset()
    now = clock.now()
    rows = ActsFor.objects.filter(Q(until__isnull=True) | Q(until__gt=now), account=account, since__lte=now)
    return frozenset(rows.values_list("person_id", flat=True))


def posts_of(account: Account) -> list[Post]:
    """Live posts of the account's practitioner at active institutions, steadily ordered."""
    if account.practitioner_id is None:
        return []
    return list(
        Post.objects.live()
        .filter(practitioner_id=account.practitioner_id, institution__active=True)
        .select_related("institution", "department")
        .order_by("id")
    )


def scope_for_account(
    account: Account, post: Post | None = None, *, posts: Sequence[Post] | None = None
) -> Scope:
    """The scope of ``account`` in ``post`` (default: its first live post); without any post it reaches nothing.

    Roles are those held at the post's institution. The three administrators are kept apart: in an administrator's post only
    that role counts, in any other post no administrator's role does. ``posts`` spares the query when :func:`posts_of` was asked
    in the same request.
    """
    if not account.is_active:
        posts = []
    elif posts is None:
        posts = posts_of(account)
    chosen = (
        posts[0] if posts and post is None else next((p for p in posts if post and p.pk == post.pk), None)
    )
    if chosen is None:
        if post is not None:
            raise NotPermitted(
                T(
                    "该岗位不属于您或已到期，请重新选择岗位。",
                    "This post is not yours or has ended; choose another post.",
                )
            )
        return Scope(
            account_id=account.pk,
            practitioner_id=account.practitioner_id,
            name=account.name,
            roles=frozenset({RESIDENT}) if account.resident and account.is_active else frozenset(),
            resident_ids=_family(account),
        )
    if chosen.role in ADMINS:
        roles = frozenset({chosen.role})
    else:
        roles = frozenset(
            p.role for p in posts if p.institution_id == chosen.institution_id and p.role not in ADMINS
        )
    institutions = institutions_for(chosen.institution)
    return Scope(
        account_id=account.pk,
        practitioner_id=account.practitioner_id,
        post_id=chosen.pk,
        institution_id=chosen.institution_id,
        institution_ids=institutions,
        roles=roles,
        name=account.name,
        oversight_ids=_oversight(chosen.institution, roles),
        partner_ids=sharing.partners(institutions) if roles & CLINICAL else frozenset(),
    )


def scope_for_client(
    client_id: int,
    name: str,
    institution_id: int | None,
    smart: tuple[str, ...],
    villages: Iterable[int] = (),
    partners: frozenset[int] = frozenset(),
    strict: bool = True,
) -> Scope:
    """The scope of a machine client: its institution (with village clinics), or the whole platform when it has none."""
    if institution_id is None:
        return Scope(
            client_id=client_id,
            smart=smart,
            everything=True,
            name=name,
            reason=f"client {name}",
            strict=strict,
        )
    return Scope(
        client_id=client_id,
        institution_id=institution_id,
        institution_ids=frozenset({institution_id, *villages}),
        smart=smart,
        name=name,
        partner_ids=partners,
        strict=strict,
    )
