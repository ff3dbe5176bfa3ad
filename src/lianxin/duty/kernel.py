"""The one door through which a case changes.

``execute`` runs one move in one transaction: the case's row is locked, a repeated key gives the first result again, the
expected version is compared, party, role, state and guards are asked, the form is cleaned, the effect runs, duties open
and end, access follows them, the act is chained, owners are told, the record is published. ``allowed`` asks the same
questions without the form, so the buttons shown are the moves that would succeed (I7).
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import OperationalError, connection, transaction

from lianxin.access import audit, tokens
from lianxin.duty import chain, forms, ledger, machine, plan
from lianxin.duty.errors import KeyReused, MoveError, NotAllowed, Refused, Stale
from lianxin.duty.machine import Ctx, Effect, Machine, Move
from lianxin.duty.models import Act, Case, CaseParty, Duty
from lianxin.duty.plan import Owed
from lianxin.network import roles as role_words
from lianxin.standards import clock
from lianxin.standards.text import T, Text

if TYPE_CHECKING:
    from lianxin.access.scope import Scope

__all__ = [
    "Allowed", "Done", "KeyReused", "MoveError", "NotAllowed", "Refused", "Stale", "allowed", "allowed_many", "buttons",
    "context", "execute", "get_case", "open_case",
]  # fmt: skip


@dataclass(frozen=True)
class Done:
    """The result of a move; ``replayed`` when the same request had been done before."""

    act: Act
    case: Case
    replayed: bool = False


@dataclass(frozen=True)
class Allowed:
    """A move from where the case stands: allowed when ``why`` is None, else the reason it is not."""

    move: Move
    why: Text | None = None

    @property
    def ok(self) -> bool:
        """Would it succeed (with a valid form)?"""
        return self.why is None

    @property
    def name(self) -> str:
        """The move's name."""
        return self.move.name


def get_case(number: str, by: Scope) -> Case:
    """The case of this number as ``by`` may see it; ``Case.DoesNotExist`` otherwise."""
    return Case.objects.within(by).select_related("person", "owner_institution").get(number=number)


# ---------------------------------------------------------------- may this be done?


def _where(m: Machine, move: Move, case: Case, facts: dict[str, str]) -> Text | None:
    if case.state not in move.sources:
        return T(
            "当前状态为「{state}」，不能办理「{move}」。",
            "The case stands at “{state}”; “{move}” cannot be done from there.",
        ).format(state=m.state(case.state).label, move=move.label)
    for name, value in move.when.items():
        if facts.get(name) != value:
            return T("当前不具备办理「{move}」的条件。", "“{move}” has nothing to act on now.").format(
                move=move.label
            )
    return None


def _who(ctx: Ctx, move: Move) -> Text | None:
    by = ctx.by
    if move.system != (by.everything and by.client_id is None):
        return (
            T("该操作由系统自动办理。", "Only the system does this.")
            if move.system
            else T("该操作须由机构人员办理。", "A person of an institution does this, not the system.")
        )
    if move.system:
        return None
    if by.resident:
        if not move.resident or ctx.case.person_id not in by.resident_ids:
            return T("该操作由机构人员办理。", "Staff of an institution do this.")
        return None
    mine = ctx.mine
    if not mine or (move.parties and mine.isdisjoint(move.parties)):
        names = [ctx.machine.parts[p] for p in (move.parties or ctx.machine.parts)]
        return T(
            "该操作由{who}办理，您所在机构不是。", "This is for the {who} to do; your institution is not."
        ).format(who=T("或".join(n.zh for n in names), " or ".join(n.en for n in names)))
    if by.client_id is not None and not tokens.allows(by, "Task", "u"):
        return T("该客户端令牌没有 Task 的更新权限。", "This client's token may not update Task.")
    if by.machine:
        return None
    if move.roles and by.roles.isdisjoint(move.roles):
        words = [role_words.label(r) for r in move.roles]
        return T("该操作由{roles}岗位办理。", "This is done by: {roles}.").format(
            roles=T("、".join(w.zh for w in words), ", ".join(w.en for w in words))
        )
    return None


def _forbidden(ctx: Ctx, move: Move) -> Text | None:
    """Why ``move`` may not be made, asking state, party, role, then guards; None when it may."""
    if move.sources:
        why = _where(ctx.machine, move, ctx.case, ctx.facts)
        if why is not None:
            return why
    why = _who(ctx, move)
    if why is not None:
        return why
    return next((said for guard in move.guards if (said := guard(ctx)) is not None), None)


def context(case: Case, by: Scope) -> Ctx:
    """What guards and pages look at for this case and this reader."""
    return _contexts([case], by)[case.pk]


def _contexts(cases: list[Case], by: Scope) -> dict[int, Ctx]:
    now = clock.now()
    ids = [c.pk for c in cases]
    parties: dict[int, dict[str, int]] = {i: {} for i in ids}
    for case_id, part, institution in CaseParty.objects.filter(case_id__in=ids, until_seq=None).values_list(
        "case_id", "part", "institution_id"
    ):
        parties[case_id][part] = institution
    owed: dict[int, set[str]] = {i: set() for i in ids}
    for case_id, kind in (
        Duty.objects.unscoped("guards see the case's duties")
        .filter(case_id__in=ids, ended="")
        .values_list("case_id", "kind")
    ):
        owed[case_id].add(kind)
    subjects: dict[int, Any] = {}
    for kind in {c.kind for c in cases}:
        m, some = machine.get(kind), [c for c in cases if c.kind == kind]
        if m.load_many and len(some) > 1:
            subjects |= m.load_many(some)
        elif m.load:
            subjects |= {c.pk: m.load(c) for c in some}
    return {
        c.pk: Ctx(
            machine=machine.get(c.kind), case=c, by=by, now=now, subject=subjects.get(c.pk), parties=parties[c.pk],
            facts=dict(c.facts), open_duties=frozenset(owed[c.pk]),
        )
        for c in cases
    }  # fmt: skip


def _offers(ctx: Ctx) -> list[Allowed]:
    return [
        Allowed(move, _forbidden(ctx, move))
        for move in ctx.machine.moves
        if ctx.case.state in move.sources and not move.system
    ]


def allowed(case: Case, by: Scope) -> list[Allowed]:
    """Every move a person could make from the case's state: those that would succeed, and the others with their reason."""
    return _offers(context(case, by))


def allowed_many(cases: Iterable[Case], by: Scope) -> dict[int, list[Allowed]]:
    """The same for a list of cases in a fixed number of queries (one domain query per kind that has ``load_many``)."""
    listed = list(cases)
    return {pk: _offers(ctx) for pk, ctx in _contexts(listed, by).items()} if listed else {}


def buttons(case: Case, by: Scope) -> list[Move]:
    """The moves that would succeed, in the table's order."""
    return [a.move for a in allowed(case, by) if a.ok]


# ---------------------------------------------------------------- doing it

_STANDING = """
SELECT (SELECT json_agg(json_build_object('id', d.id, 'kind', d.kind, 'zh', d.label_zh, 'en', d.label_en,
               'party', d.party, 'institution', d.owner_institution_id, 'role', d.owner_role,
               'account', d.owner_account_id, 'button', d.button, 'clock', d.clock, 'spec', d.spec, 'since', d.since,
               'opened_at', d.opened_at, 'due_at', d.due_at, 'paused_since', d.paused_since,
               'pause_until', d.pause_until, 'paused_minutes', d.paused_minutes, 'level', d.level) ORDER BY d.id)
          FROM duty_duty d WHERE d.case_id = %s AND d.ended = ''),
       (SELECT json_object_agg(p.part, p.institution_id) FROM duty_caseparty p
         WHERE p.case_id = %s AND p.until_seq IS NULL),
       (SELECT a.id FROM duty_act a WHERE a.key = %s)"""


def _standing(case_id: int, key: str) -> tuple[dict[str, Owed], dict[str, int], int | None]:
    """Open duties, live parties and the act that already has ``key`` (fresh: read after the case's lock was taken)."""
    with connection.cursor() as cursor:
        cursor.execute(_STANDING, [case_id, case_id, key])
        duties, parties, act_id = cursor.fetchone()
    owed = {}
    for d in _json(duties) or []:
        owed[d["kind"]] = Owed(
            id=d["id"], kind=d["kind"], label=T(d["zh"], d["en"]), party=d["party"], institution_id=d["institution"],
            role=d["role"], account_id=d["account"], button=d["button"], clock=d["clock"], spec=d["spec"],
            since=d["since"], opened_at=_instant(d["opened_at"]), due_at=_instant(d["due_at"]),
            paused_since=_instant(d["paused_since"]), pause_until=_instant(d["pause_until"]),
            paused_minutes=d["paused_minutes"], level=d["level"],
        )  # fmt: skip
    return owed, _json(parties) or {}, act_id


Result = TypeVar("Result")
_TRIES = 4
_COLLISIONS = ("40P01", "40001")  # deadlock, serialisation: the database rolled us back and asks to try again


def collision_proof(work: Callable[[], Result]) -> Result:
    """Run ``work`` again when the database broke a deadlock at its cost. Only the outermost transaction can be repeated."""
    for left in reversed(range(_TRIES)):
        try:
            return work()
        except OperationalError as error:
            state = getattr(error.__cause__, "sqlstate", None)
            if connection.in_atomic_block or state not in _COLLISIONS or not left:
                raise
    raise AssertionError("unreachable")


def execute(
    move: str,
    case: Case | str,
    by: Scope,
    form: Mapping[str, Any] | None = None,
    expected_version: int | None = None,
    key: str = "",
) -> Done:
    """Make ``move`` on ``case`` (a Case or its number) on behalf of ``by``.

    ``form`` is what the person sent; ``expected_version`` the version they looked at (None: whatever it is now); ``key``
    names this request, and sending it again gives the first result. Raises Stale, NotAllowed, Refused, KeyReused, or what
    the effect raises (``pool.Full``); then nothing has been written.
    """
    if not key:
        raise ValueError("a move needs its idempotency key")
    return collision_proof(lambda: _execute(move, case, by, form, expected_version, key))


def _execute(
    move: str,
    case: Case | str,
    by: Scope,
    form: Mapping[str, Any] | None,
    expected_version: int | None,
    key: str,
) -> Done:
    with transaction.atomic():
        found = Case.objects.unscoped("a move checks party and role itself").select_for_update(
            of=("self",), no_key=True
        )
        row = found.get(pk=case.pk) if isinstance(case, Case) else found.get(number=case)
        duties, parties, act_id = _standing(row.pk, key)
        digest = chain.request_hash(row.number, move, form, by)
        if act_id is not None:
            return _again(act_id, digest, row)
        own = row.person_id is not None and row.person_id in by.resident_ids
        if not by.everything and not own and by.institution_ids.isdisjoint(parties.values()):
            raise NotAllowed(  # before anything is said of where the case stands
                T("您所在机构不是该事项的参与方。", "Your institution has no part in this case.")
            )
        if expected_version is not None and expected_version != row.version:
            raise _stale(row)
        m = machine.get(row.kind)
        step = m.move(move)
        if step is None or not step.sources:
            raise NotAllowed(T("没有「{name}」这一操作。", "There is no action “{name}”.").format(name=move))
        ctx = Ctx(
            machine=m, case=row, by=by, now=clock.now(), parties=parties, facts=dict(row.facts), move=step,
            open_duties=frozenset(duties), subject=m.load(row) if m.load else None,
        )  # fmt: skip
        return _do(ctx, step, form, key, digest, duties, new=False)


def open_case(
    kind: str,
    person_id: int | None,
    by: Scope,
    form: Mapping[str, Any] | None,
    key: str,
    *,
    parties: Mapping[str, int],
    move: str | None = None,
    priority: str = "routine",
    extra: Mapping[str, Any] | None = None,
) -> Done:
    """Open a case of ``kind`` for a person by an opening move (default: the table's first).

    ``person_id`` is None only for machines that are not ``personal`` (ValueError otherwise).

    ``parties`` says which institution plays which part (the move's effect may add more); ``extra`` reaches the effect as
    ``ctx.extra``. The effect creates the domain row with ``case_id=ctx.case.pk`` (the case itself is inserted after it;
    foreign keys are deferred). Raises like :func:`execute`.
    """
    if not key:
        raise ValueError("opening a case needs its idempotency key")
    m = machine.get(kind)
    if (person_id is not None) != m.personal:
        raise ValueError(f"a case of {kind} is {'about a person' if m.personal else 'about nobody'}")
    step = m.move(move) if move else m.openings()[0]
    if step is None or step.sources:
        raise NotAllowed(T("「{name}」不能开立。", "“{name}” opens no case.").format(name=move or kind))
    return collision_proof(lambda: _open(m, step, person_id, by, form, key, parties, priority, extra or {}))


def _open(
    m: Machine,
    step: Move,
    person_id: int | None,
    by: Scope,
    form: Mapping[str, Any] | None,
    key: str,
    parties: Mapping[str, int],
    priority: str,
    extra: Mapping[str, Any],
) -> Done:
    with transaction.atomic():
        digest = chain.request_hash(f"{m.kind}:{person_id}", step.name, form, by)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 7))", [key])
            cursor.execute(
                "SELECT a.id, a.case_id, CASE WHEN a.id IS NULL THEN nextval('duty_case_id_seq') END"
                " FROM (SELECT 1) one LEFT JOIN duty_act a ON a.key = %s",
                [key],
            )
            act_id, case_id, new_id = cursor.fetchone()
        if act_id is not None:
            return _again(
                act_id, digest, Case.objects.unscoped("the result of the same request").get(pk=case_id)
            )
        now = clock.now()
        row = Case(
            pk=new_id, number=f"{m.prefix}{now:%Y%m%d}-{new_id:05d}", kind=m.kind, person_id=person_id, state="",
            priority=priority, pathway_start=now, opened_at=now, changed_at=now,
        )  # fmt: skip
        ctx = Ctx(
            machine=m, case=row, by=by, now=now, parties=dict(parties), move=step, extra=dict(extra),
            facts={name: values[0] for name, values in m.side_facts.items()},
        )  # fmt: skip
        return _do(ctx, step, form, key, digest, {}, new=True)


def _do(
    ctx: Ctx, move: Move, form: Any, key: str, digest: bytes, duties: dict[str, Owed], *, new: bool
) -> Done:
    why = _forbidden(ctx, move)
    if why is not None:
        raise NotAllowed(why)
    case, by, source = ctx.case, ctx.by, ctx.case.state
    parties_before = {} if new else dict(ctx.parties)
    institutions_before = ctx.machine.readers(parties_before) | {d.institution_id for d in duties.values()}
    ctx.data = forms.clean(move.form, form or {}, ctx)
    effect = (move.effect(ctx) if move.effect else None) or Effect()
    change = plan.make(ctx, move, effect, duties)
    act = Act(
        case=case, seq=case.version + 1, move=move.name, from_state=source, to_state=change.target.code,
        account_id=by.account_id, client_id=by.client_id, practitioner_id=by.practitioner_id,
        institution_id=by.institution_id, actor=(by.name or by.reason)[:80],
        role=_acting_role(move, by), at=ctx.now, form=chain.plain(ctx.data), outcome=chain.plain(change.outcome),
        key=key, request_hash=digest,
    )  # fmt: skip
    moved = {
        "case": case.number,
        "kind": case.kind,
        "move": move.name,
        "seq": act.seq,
        "state": change.target.code,
    }
    ledger.write(
        ctx,
        change,
        act,
        new=new,
        parties_before=parties_before,
        institutions_before=institutions_before,
        told=list(effect.notices),
        events=[("duty.moved", moved), *((topic, chain.plain(payload)) for topic, payload in effect.events)],
    )
    ctx.act, ctx.open_duties = act, frozenset(change.duties)
    if ctx.machine.publish:
        ctx.machine.publish(ctx)
    audit.write(
        by, "create" if new else "update", person_id=case.person_id, what=f"{case.kind} {case.number}",
        detail={"move": move.name, "seq": act.seq},
    )  # fmt: skip
    return Done(act, case)


def _acting_role(move: Move, by: Scope) -> str:
    fitting = sorted(by.roles.intersection(move.roles) if move.roles else by.roles)
    return fitting[0] if fitting else ""


def _again(act_id: int, digest: bytes, case: Case) -> Done:
    """The first result of a repeated request; KeyReused when the request differs."""
    act = Act.objects.select_related("case").get(pk=act_id)
    if bytes(act.request_hash) != digest:
        raise KeyReused
    return Done(act, case, replayed=True)


def _stale(case: Case) -> Stale:
    last = Act.objects.filter(case=case, seq=case.version).first()
    if last is None:
        return Stale(case.version)
    move = machine.get(case.kind).move(last.move)
    return Stale(case.version, last.actor, move.label if move else None)


def _json(value: Any) -> Any:
    """Decoded JSON whether the driver has decoded it or not."""
    return json.loads(value) if isinstance(value, str | bytes) else value


def _instant(value: str | None) -> Any:
    return dt.datetime.fromisoformat(value).astimezone(clock.ZONE) if value else None
