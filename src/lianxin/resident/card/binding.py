"""Binding an account to a person of the index: who says who they are, and shows something only they have.

Name and identity number alone are known to many. Something more has to fit: the signed-in phone is the one the index knows, or the
card number is given, or a code that a desk handed out after seeing the document. What does not fit is refused with one sentence
that never tells which part; tries are counted for the account, the document and the network address. Where the index itself is
not sure (two people of one number and name), the desk decides.
"""

from __future__ import annotations

import datetime as dt

from django.db import IntegrityError, transaction
from django.db.models import Q

from lianxin.access import audit, seal
from lianxin.access.errors import Invalid, NotPermitted
from lianxin.access.models import Account, ActsFor
from lianxin.access.scope import Scope
from lianxin.index.facts import id_blind, name_key, read_id, tidy
from lianxin.index.models import Person, ReviewItem
from lianxin.resident import sms
from lianxin.resident.card import codes, limits
from lianxin.resident.card.models import Phone
from lianxin.standards import clock
from lianxin.standards.text import T

NO_MATCH = T(
    "信息核对未通过。请核对姓名、证件号码；手机号与建档时不同的，可填健康卡号，或带身份证到就近机构窗口取绑定码。",
    "The particulars could not be confirmed. Check name and number; if your phone is not the one on file, give the card number, or get a binding code at any institution's desk.",
)
AT_DESK = T(
    "您的档案需要人工核对，请带身份证到就近医疗机构窗口办理。",
    "Your record needs a look by our staff; bring your identity card to the desk of any institution.",
)
TAKEN = T(
    "该身份已由另一个账号绑定。如非本人操作，请带身份证到窗口解除。",
    "This identity is bound to another account. If that is not you, bring your identity card to a desk to have it undone.",
)
BOUND = T("此账号已绑定本人身份。", "This account has its identity already.")
CHILD_AGE = 14
TOO_YOUNG = T("未满14周岁的由监护人在“家人”中添加。", "Under 14: a guardian adds the child under Family.")


def self_of(account: Account) -> int | None:
    """The person an account is, or None while nothing is bound."""
    return (
        ActsFor.objects.filter(account=account, relation="self", until__isnull=True)
        .values_list("person_id", flat=True)
        .first()
    )


def years(born: dt.date, on: dt.date) -> int:
    """Full years of age."""
    return on.year - born.year - ((on.month, on.day) < (born.month, born.day))


def candidates(name: str, id_no: str) -> list[Person]:
    """Living people of the index with exactly this name and document number."""
    kind, number, *_ = read_id("", tidy(id_no)[:40])
    wanted = name_key(tidy(name)[:200])
    if not number or not wanted:
        return []
    people = Person.objects.unscoped("somebody says who they are").filter(
        id_blind=id_blind(kind, number), status="active", merged_into__isnull=True
    )
    return [p for p in people if name_key(p.name) == wanted and p.id_type == kind]


def unsure(person_ids: list[int]) -> bool:
    """Whether the index has an open question about who one of them is."""
    return (
        ReviewItem.objects.filter(state__in=ReviewItem.WAITING)
        .filter(Q(person_a_id__in=person_ids) | Q(person_b_id__in=person_ids))
        .exists()
    )


def bind(
    scope: Scope, account: Account, name: str, id_no: str, *, proof: str = "", address: str = ""
) -> Person:
    """Bind ``account`` to the person it says it is. ``proof``: card number or desk code; "" relies on the phone.

    Raises :class:`Invalid` (one sentence for whatever does not fit; others only once everything fitted), or ``limits.TooMany``.
    """
    if not scope.resident or scope.account_id != account.pk:
        raise NotPermitted(T("请用居民账号办理。", "Use a resident's account for this."))
    if self_of(account) is not None:
        raise Invalid({"name": BOUND})
    counted = (
        limits.who("account", str(account.pk)),
        limits.who("document", tidy(id_no).upper()[:40]),
        limits.who("address", address),
    )
    for limit, one in zip(
        ("wrong_bind_per_account", "wrong_bind_per_document", "wrong_bind_per_address"), counted, strict=True
    ):
        limits.check(limit, "bind", one)
    fitting = [p for p in candidates(name, id_no) if _proven(p, account, proof)]
    if not fitting:
        limits.failed("bind", *counted)
        audit.write(scope, "deny", what="bind identity", outcome="refused")
        raise Invalid({"id_no": NO_MATCH})
    desk = codes.peek("bind", proof) == fitting[0].pk
    if len(fitting) > 1 or (not desk and unsure([fitting[0].pk])):
        audit.write(
            scope,
            "deny",
            person_id=fitting[0].pk,
            what="bind identity",
            detail={"why": "unsure"},
            outcome="refused",
        )
        raise Invalid({"id_no": AT_DESK})
    person = fitting[0]
    if person.deceased_on is not None:
        raise Invalid({"id_no": AT_DESK})
    if person.birth_date is not None and years(person.birth_date, clock.today()) < CHILD_AGE:
        raise Invalid({"id_no": TOO_YOUNG})
    _store(scope, account, person, proof if desk else "", "desk code" if desk else _how(person, proof))
    return person


def _how(person: Person, proof: str) -> str:
    return "card" if proof.strip() and proof.strip() == person.card_number else "phone"


def _proven(person: Person, account: Account, proof: str) -> bool:
    """Whether what only the person has fits: a desk's code, the card number, or (nothing else given) the phone."""
    given = proof.strip()
    if given:
        return given == person.card_number or codes.peek("bind", given) == person.pk
    mine = Phone.objects.filter(account=account).values_list("blind", flat=True).first()
    return bool(mine and person.phone_blind) and bytes(mine or b"") == bytes(person.phone_blind or b"")


def _store(scope: Scope, account: Account, person: Person, code: str, how: str) -> None:
    try:
        with transaction.atomic():
            Account.objects.select_for_update().get(pk=account.pk)
            if code and not codes.use("bind", code):
                raise Invalid({"id_no": NO_MATCH})
            ActsFor.objects.create(
                account=account, person_id=person.pk, relation="self", since=clock.now(), evidence=how
            )
            Account.objects.filter(pk=account.pk).update(name=person.name[:120])
            audit.write(scope, "create", person_id=person.pk, what="bind identity", detail={"how": how})
            phone = Phone.objects.filter(account=account).first()
            if phone is not None:
                sms.send(
                    seal.unseal(phone.sealed),
                    "bound",
                    {"name": _short(person.name)},
                    f"bound:{account.pk}:{person.pk}:{clock.now():%Y%m%d%H%M%S}",
                    person_id=person.pk,
                )
    except IntegrityError:  # somebody else is this person already, or this account was bound a moment ago
        if self_of(account) is not None:
            raise Invalid({"name": BOUND}) from None
        audit.write(
            scope,
            "deny",
            person_id=person.pk,
            what="bind identity",
            detail={"why": "taken"},
            outcome="refused",
        )
        raise Invalid({"id_no": TAKEN}) from None


def _short(name: str) -> str:
    return f"{name[:1]}*{name[-1:]}" if len(name) > 2 else f"{name[:1]}*"


@transaction.atomic
def unbind(scope: Scope, person_id: int, evidence: str) -> bool:
    """A desk ends the binding of a person to whatever account has it (lost phone, wrong hands); the evidence is kept.

    The account's rights to act for others, which rest on who it is, end with it.
    """
    scope.demand("manage_cards")
    if len(evidence.strip()) < 2:
        raise Invalid({"evidence": T("请写明核对了什么证件。", "Say which document you have seen.")})
    now = clock.now()
    row = (
        ActsFor.objects.select_for_update()
        .filter(person_id=person_id, relation="self", until__isnull=True)
        .first()
    )
    if row is None:
        return False
    ended = ActsFor.objects.filter(Q(until__isnull=True) | Q(until__gt=now), account_id=row.account_id)
    for one in ended:
        ActsFor.objects.filter(pk=one.pk).update(until=max(now, one.since))
        audit.write(
            scope,
            "delete",
            person_id=one.person_id,
            what=f"acts for ({one.relation})",
            detail={"evidence": evidence.strip()[:100], "by": "desk"},
        )
    return True
