"""Acting for others: guardians of children, delegates of whoever asked them to. Visible to the person, ended at any time.

A child's guardian is known to the index (the mother or guardian whose identity number came with the child's registration), or a desk
has seen evidence. The right ends on the eighteenth birthday by itself: the row carries that end, and every look-up compares it with
now. A delegate has a code from the person's own hand, or from a desk that spoke to them.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from django.db import transaction
from django.db.models import Q

from lianxin.access import audit, seal
from lianxin.access.errors import Invalid, NoRelationship, NotPermitted
from lianxin.access.models import Account, ActsFor
from lianxin.access.scope import Scope
from lianxin.index import payload
from lianxin.index.facts import name_key, phone_blind, read_id, tidy
from lianxin.index.models import Person, SourceRecord
from lianxin.resident import sms
from lianxin.resident.card import binding, codes, limits
from lianxin.resident.card.binding import self_of
from lianxin.resident.card.models import Phone
from lianxin.resident.sms import phones
from lianxin.standards import clock
from lianxin.standards.text import T

ADULT = 18
NO_CHILD = T(
    "没有核对到您与这名儿童的监护关系。请核对姓名、证件号码，或带出生证明、户口簿到就近机构窗口办理。",
    "No guardianship of this child could be confirmed. Check name and number, or bring the birth certificate or household book to any desk.",
)
FIRST_BIND = T("请先绑定您本人的身份。", "Bind your own identity first.")
WRONG_CODE = T(
    "授权码不对或已过期，请让家人重新生成。", "The code is wrong or has expired; ask for a new one."
)
ALREADY = T("您已经可以代为办理。", "You may act for this person already.")
EVIDENCE = T("请写明核对的证明材料及编号。", "Name the document you have seen and its number.")


@dataclass(frozen=True)
class Right:
    """One right to act: whose account, for whom, by what, until when."""

    pk: int
    account_name: str
    phone_tail: str
    person_id: int
    relation: str
    since: dt.datetime
    until: dt.datetime | None


def _live() -> Q:
    now = clock.now()
    return Q(since__lte=now) & (Q(until__isnull=True) | Q(until__gt=now))


def who_acts_for(person_id: int) -> list[Right]:
    """Accounts of others that may act for a person now."""
    rows = (
        ActsFor.objects.filter(_live(), person_id=person_id)
        .exclude(relation="self")
        .select_related("account")
        .order_by("id")
    )
    tails = dict(
        Phone.objects.filter(account__in=[r.account_id for r in rows]).values_list("account_id", "tail")
    )
    return [
        Right(r.pk, r.account.name, tails.get(r.account_id, ""), person_id, r.relation, r.since, r.until)
        for r in rows
    ]


@dataclass(frozen=True)
class Ward:
    """Somebody an account acts for."""

    pk: int
    person: Person
    relation: str
    until: dt.datetime | None


def acting(account: Account) -> list[Ward]:
    """Whom an account acts for now, without itself."""
    rows = list(ActsFor.objects.filter(_live(), account=account).exclude(relation="self").order_by("id"))
    people = Person.objects.unscoped("whom an account acts for").in_bulk([r.person_id for r in rows])
    return [Ward(r.pk, people[r.person_id], r.relation, r.until) for r in rows if r.person_id in people]


def birthday(born: dt.date, age: int) -> dt.datetime:
    """Midnight of the day somebody reaches ``age`` (29 February counts as 1 March in other years)."""
    try:
        day = born.replace(year=born.year + age)
    except ValueError:
        day = dt.date(born.year + age, 3, 1)
    return dt.datetime.combine(day, dt.time(), clock.ZONE)


def add_child(
    scope: Scope,
    account: Account,
    name: str,
    id_no: str,
    *,
    birth_date: dt.date | None = None,
    address: str = "",
) -> Person:
    """The account becomes guardian of a child under 14 whose registration names its holder as mother or guardian.

    A newborn without a number of its own is found by name and ``birth_date`` among registrations that name the mother's number.
    Refusals say one sentence whatever the reason; tries are counted with those of binding.
    """
    mine = _holder(scope, account)
    counted = (limits.who("account", str(account.pk)), limits.who("address", address))
    limits.check("wrong_bind_per_account", "bind", counted[0])
    limits.check("wrong_bind_per_address", "bind", counted[1])
    child = _child(mine, name, id_no, birth_date)
    if child is None:
        limits.failed("bind", *counted)
        audit.write(scope, "deny", what="add child", outcome="refused")
        raise Invalid({"name": NO_CHILD})
    _grant(scope, account, child, "guardian", "index")
    return child


def _child(guardian: Person, name: str, id_no: str, birth_date: dt.date | None) -> Person | None:
    if not id_no.strip():
        wanted = name_key(tidy(name)[:200])
        near = Person.objects.unscoped("a mother looks for her newborn").filter(
            status="active", birth_date=birth_date, name=tidy(name)[:200]
        )
        found = [p for p in near[:50] if name_key(p.name) == wanted] if birth_date and wanted else []
    else:
        found = binding.candidates(name, id_no)
    fitting = [
        p
        for p in found
        if p.birth_date is not None
        and binding.years(p.birth_date, clock.today()) < binding.CHILD_AGE
        and p.deceased_on is None
        and _named_by(p, guardian)
    ]
    return fitting[0] if len(fitting) == 1 else None


def _named_by(child: Person, guardian: Person) -> bool:
    """Whether a registration of the child gives the guardian's identity number as its mother's or guardian's."""
    own = seal.unseal(guardian.id_sealed)
    if not own:
        return False
    rows = SourceRecord.objects.unscoped("whose child this is").filter(person_id=child.pk, disputed=False)
    for row in rows[:20]:
        reg = payload.unpack(row.payload)
        for given in (reg.mother_id_no, reg.guardian_id_no):
            kind, number, *_ = read_id("", given) if given else ("", "")
            if number == own and kind == guardian.id_type:
                return True
    return False


def _holder(scope: Scope, account: Account) -> Person:
    """Who the account is; raises Invalid while nothing is bound."""
    if not scope.resident or scope.account_id != account.pk:
        raise NotPermitted(T("请用居民账号办理。", "Use a resident's account for this."))
    mine = self_of(account)
    if mine is None:
        raise Invalid({"name": FIRST_BIND})
    return Person.objects.unscoped("who the account is").get(pk=mine)


@transaction.atomic
def _grant(scope: Scope, account: Account, person: Person, relation: str, evidence: str) -> ActsFor:
    """Store the right (one for an account and a person); audited, and told to the person's own phone."""
    Account.objects.select_for_update().get(pk=account.pk)
    if ActsFor.objects.filter(_live(), account=account, person_id=person.pk).exists():
        raise Invalid({"name": ALREADY})
    until = None
    if relation == "guardian":
        if person.birth_date is None or binding.years(person.birth_date, clock.today()) >= ADULT:
            raise Invalid({"name": T("监护只适用于未满18周岁的人。", "Guardianship is for people under 18.")})
        until = birthday(person.birth_date, ADULT)
    row = ActsFor.objects.create(
        account=account,
        person_id=person.pk,
        relation=relation,
        since=clock.now(),
        until=until,
        evidence=evidence[:200],
    )
    audit.write(
        scope,
        "create",
        person_id=person.pk,
        what=f"acts for ({relation})",
        detail={"account": account.pk, "evidence": evidence[:100]},
    )
    own = Phone.objects.filter(
        account__acts_for__person_id=person.pk,
        account__acts_for__relation="self",
        account__acts_for__until__isnull=True,
    ).first()
    if own is not None:
        sms.send(
            seal.unseal(own.sealed),
            "family_added",
            {"name": account.name},
            f"family:{row.pk}",
            person_id=person.pk,
        )
    return row


def invite(scope: Scope, account: Account) -> str:
    """A code from the person's own hand: who types it may act for them."""
    return codes.give(scope, "delegate", _holder(scope, account).pk)


def accept(scope: Scope, account: Account, name: str, code: str) -> Person:
    """The account acts for whoever gave it the code, whose name must fit; wrong ones are counted for the account and over all."""
    _holder(scope, account)
    counted = limits.who("account", str(account.pk))
    limits.check("wrong_code_per_account", "code", counted)
    limits.check("wrong_code_overall", "code", limits.EVERYBODY)
    person_id = codes.peek("delegate", code)
    person = (
        Person.objects.unscoped("somebody was given a code").get(pk=person_id)
        if person_id is not None
        else None
    )
    if person is None or name_key(person.name) != name_key(tidy(name)[:200]):
        limits.failed("code", counted, limits.EVERYBODY)
        audit.write(scope, "deny", what="accept delegation", outcome="refused")
        raise Invalid({"code": WRONG_CODE})
    if person_id == self_of(account):
        raise Invalid({"code": T("不能代理自己。", "This is you.")})
    with transaction.atomic():
        if codes.use("delegate", code) is None:
            raise Invalid({"code": WRONG_CODE})
        _grant(scope, account, person, "delegate", "own code")
    return person


def at_desk(scope: Scope, person: Person, phone: str, relation: str, evidence: str) -> None:
    """A desk that has seen the evidence lets the account of ``phone`` act for ``person`` (permission ``manage_cards``)."""
    scope.demand("manage_cards")
    if relation not in ("guardian", "delegate"):
        raise Invalid({"relation": T("请选择关系。", "Choose the relation.")})
    if len(evidence.strip()) < 4:
        raise Invalid({"evidence": EVIDENCE})
    row = Phone.objects.select_related("account").filter(blind=phone_blind(phones.mobile(phone))).first()
    mine = self_of(row.account) if row is not None else None
    if row is None or mine is None:
        raise Invalid(
            {"phone": T("该手机还没有绑定本人身份的账号，请对方先用手机登录并绑定。",
                        "No account with a bound identity has this phone; let them sign in and bind first.")}
        )  # fmt: skip
    if mine == person.pk:
        raise Invalid({"phone": T("这是本人的手机。", "This is the person's own phone.")})
    _grant(scope, row.account, person, relation, evidence.strip())


@transaction.atomic
def end(scope: Scope, account: Account | None, right_id: int) -> None:
    """End a right to act, at once: by who holds it, by the person (or the person's own account), or by a desk."""
    row = ActsFor.objects.select_for_update().filter(_live(), pk=right_id).exclude(relation="self").first()
    mine = self_of(account) if account is not None else None
    if row is None:
        return  # ended already: what was wanted is so
    if scope.resident:
        if account is None or (row.account_id != account.pk and row.person_id != mine):
            raise NoRelationship(row.person_id)
    else:
        scope.demand("manage_cards")
    ActsFor.objects.filter(pk=row.pk).update(until=max(clock.now(), row.since))
    audit.write(
        scope,
        "delete",
        person_id=row.person_id,
        what=f"acts for ({row.relation})",
        detail={"account": row.account_id},
    )
