"""Carrying out an accepted proposal, slice by slice, through the doors that people use: each step is logged and can be undone.

A slice is one transaction that also notes which changes it made, so a process that is killed loses only the slice it was in, and
whoever comes next (the ticker, another process) goes on. What has changed since the proposal was made is looked at again: who was
merged, said to be different, or contradicts by now is left as it is, and the change says why.
"""

from __future__ import annotations

import logging
import time

from django.db import connection, transaction
from django.db.models import Case, IntegerField, Q, Value, When

from lianxin.access import audit
from lianxin.access.errors import Invalid
from lianxin.access.scope import Scope
from lianxin.index import active, links, reviews, vault
from lianxin.index.batch.models import Proposal, ProposedChange
from lianxin.index.match import policy
from lianxin.index.models import LinkEvent, Person, ReviewItem, SourceRecord
from lianxin.standards import clock
from lianxin.standards.text import T, Text

log = logging.getLogger(__name__)

SLICE = 25
_WHY = "a proposal that a person accepted is carried out"
_FIRST = Case(
    When(kind="split", then=Value(0)),
    When(kind="join", then=Value(1)),
    default=Value(2),
    output_field=IntegerField(),
)
"""Splits before joins (a person is first freed of what is not theirs), questions last."""


def accept(scope: Scope, proposal_id: int, note: str = "") -> Proposal:
    """A person accepts: it is carried out from now on. Permission ``relink``. Raises Invalid when it is not ready, or
    another one is being carried out."""
    return _decide(scope, proposal_id, "ready", "applying", note)


def refuse(scope: Scope, proposal_id: int, note: str = "") -> Proposal:
    """A person refuses: nothing changes, and it stays to be read. Permission ``relink``."""
    return _decide(scope, proposal_id, "ready", "refused", note)


def undo(scope: Scope, proposal_id: int, note: str = "") -> Proposal:
    """Everything it did is taken back, newest first. Permission ``relink``."""
    return _decide(scope, proposal_id, "applied", "undoing", note)


@transaction.atomic
def _decide(scope: Scope, proposal_id: int, before: str, after: str, note: str) -> Proposal:
    scope.demand("relink")
    proposal = Proposal.objects.select_for_update().filter(pk=proposal_id).first()
    if proposal is None or proposal.state != before:
        raise Invalid(
            {
                "proposal": T(
                    "该方案的状态已变化，请刷新后重试。",
                    "The proposal's state has changed; refresh and retry.",
                )
            }
        )
    if (
        after in ("applying", "undoing")
        and Proposal.objects.filter(state__in=("applying", "undoing")).exists()
    ):
        raise Invalid(
            {
                "proposal": T(
                    "另一方案正在执行，请待其完成。",
                    "Another proposal is being carried out; wait until it is done.",
                )
            }
        )
    proposal.state = after
    proposal.decided_at, proposal.decided_by_id, proposal.note = clock.now(), scope.account_id, note[:300]
    proposal.save()
    audit.write(scope, "update", what=f"index proposal {proposal.pk}", detail={"state": after, "note": note})
    return proposal


def work(seconds: float = 20.0) -> int:
    """Go on with whatever is being carried out or taken back, for about so long; changes dealt with. For the ticker."""
    until, done = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        count = _slice()
        if count is None:
            break
        done += count
    return done


@transaction.atomic
def _slice() -> int | None:
    """One slice in one transaction; None when there is nothing to do or somebody else is at it."""
    proposal = (
        Proposal.objects.select_for_update(skip_locked=True).filter(state__in=("applying", "undoing")).first()
    )
    if proposal is None:
        return None
    undoing = proposal.state == "undoing"
    changes = ProposedChange.objects.filter(proposal=proposal, state="applied" if undoing else "open")
    turn = changes.annotate(turn=_FIRST).order_by(*(("-turn", "-pk") if undoing else ("turn", "pk")))
    part = list(turn[:SLICE])
    if not part:
        proposal.state = "undone" if undoing else "applied"
        proposal.save(update_fields=["state"])
        return 0
    scope = _scope(proposal)
    for change in part:
        try:
            with transaction.atomic():
                (_take_back if undoing else _carry_out)(scope, proposal, change)
        except Invalid as error:
            change.state = "skipped"
            change.why_not = error.message.zh[:300]
        change.save(update_fields=["state", "event_ids", "person_b", "why_not"])
    return len(part)


def _scope(proposal: Proposal) -> Scope:
    who = proposal.decided_by
    name = f", accepted by {who.username}" if who else ""
    return Scope.system(f"index proposal {proposal.pk}{name}")


def _stale(message: Text) -> Invalid:
    return Invalid({"change": message})


_GONE = T("其中一人已被合并、停用或改动。", "One of the two has been merged, retired or changed since.")
_CONTRADICTS = T("两人的登记相互矛盾。", "Registrations of the two contradict each other.")
_MOVED = T("有关登记已不在此人名下。", "The registrations are no longer this person's.")


def _carry_out(scope: Scope, proposal: Proposal, change: ProposedChange) -> None:
    reason = str(T("重新关联方案", "Re-link proposal").zh) + f" {proposal.pk} ({proposal.model_version})"
    if change.kind == "review":
        _ask(proposal, change)
    elif change.kind == "join":
        _join(scope, change, reason)
    else:
        _split(scope, change, reason)
    change.state = "applied"


def _living(*ids: int | None) -> dict[int, Person]:
    wanted = [pk for pk in ids if pk is not None]
    people = Person.objects.unscoped(_WHY).select_for_update().filter(pk__in=wanted, status="active")
    found = {p.pk: p for p in people.order_by("pk")}
    if len(found) != len(wanted):
        raise _stale(_GONE)
    return found


def _join(scope: Scope, change: ProposedChange, reason: str) -> None:
    people = _living(change.person_a, change.person_b)
    keep, gone = people[change.person_a], people[change.person_b or 0]
    with connection.cursor() as cur:
        cur.execute("SELECT person_id, body FROM index_form WHERE person_id = ANY(%s)", [[keep.pk, gone.pk]])
        rows = cur.fetchall()
    forms = vault.open_all([bytes(body) for _, body in rows])
    ours = [form for (person_id, _), form in zip(rows, forms, strict=True) if person_id == keep.pk]
    theirs = [form for (person_id, _), form in zip(rows, forms, strict=True) if person_id == gone.pk]
    if not policy.united(ours, theirs, active.current_model()):
        raise _stale(_CONTRADICTS)
    change.event_ids = [links.merge(scope, keep, gone, reason).pk]


def _split(scope: Scope, change: ProposedChange, reason: str) -> None:
    people = _living(change.person_a, change.person_b)
    sources = list(
        SourceRecord.objects.unscoped(_WHY)
        .select_for_update()
        .filter(pk__in=change.sources, person_id=change.person_a)
        .order_by("pk")
    )
    if len(sources) != len(change.sources):
        raise _stale(_MOVED)
    target = people[change.person_b] if change.person_b is not None else None
    for source in sources:
        target = links.move(scope, source, target, reason, apart=False)
    if target is not None:
        change.person_b = target.pk
    change.event_ids = _moves(change)


def _moves(change: ProposedChange) -> list[int]:
    """Events of the moves just made."""
    events = []
    for source_id in change.sources:
        rows = LinkEvent.objects.filter(source_id=source_id, kind="moved").order_by("-pk")
        events.append(rows.values_list("pk", flat=True)[0])
    return events


def _ask(proposal: Proposal, change: ProposedChange) -> None:
    people = _living(change.person_a, change.person_b)
    question: reviews.Row = (
        change.reason,
        min(people),
        max(people),
        None,
        change.bits,
        change.probability,
        change.parts,
        proposal.model_version,
    )
    with connection.cursor() as cur:
        reviews.open_many(cur, [question])


def _take_back(scope: Scope, proposal: Proposal, change: ProposedChange) -> None:
    reason = str(T("撤销重新关联方案", "Undo of re-link proposal").zh) + f" {proposal.pk}"
    for event_id in reversed(change.event_ids):
        links.undo(scope, event_id, reason)
    if change.kind == "review":
        pair = Q(person_a_id=change.person_a, person_b_id=change.person_b)
        ReviewItem.objects.filter(pair, state="open", model_version=proposal.model_version).delete()
    change.state = "undone"
