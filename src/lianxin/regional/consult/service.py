"""What pages, doors and scenarios call. Every change of a case goes through ``duty.kernel``; nothing here moves a case itself."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import IntegrityError, connection, transaction

from lianxin.access import audit, relationships
from lianxin.access.scope import Scope
from lianxin.duty import kernel
from lianxin.duty.errors import NotAllowed, Refused
from lianxin.duty.machine import PRIORITIES
from lianxin.duty.models import Case
from lianxin.network import directory
from lianxin.network.models import Institution, Practitioner
from lianxin.record import store, timeline
from lianxin.regional.consult import effects, guards, moves, policy
from lianxin.regional.consult.effects import Ask, Chosen
from lianxin.regional.consult.models import Consult, Draft, Evaluation, Material
from lianxin.standards import clock
from lianxin.standards.text import T

SCANS = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"%PDF": "application/pdf"}
MOST_SCAN = 4 * 1024 * 1024


def request(
    by: Scope,
    person_id: int,
    form: Mapping[str, Any],
    key: str,
    *,
    materials: Sequence[str] = (),
    priority: str = "routine",
    desk: Institution | None = None,
    scan: bytes = b"",
) -> Consult:
    """Ask for a consultation about a person: ``materials`` are references of their record ("DiagnosticReport/…") that ``by`` may read.

    Raises Refused, NotAllowed, NoRelationship, KeyReused.
    """
    if by.institution_id is None:
        raise NotAllowed(T("请先选择执业机构（岗位）", "Choose the post you act in first"))
    if priority not in PRIORITIES:
        raise Refused({"priority": T("优先级不在可选范围内", "Priority is not one of the choices")})
    relationships.require(by, person_id)
    requester = Institution.objects.select_related("parent").get(pk=by.institution_id)
    place = desk or directory.lead_of(requester)
    if place is None:
        raise Refused(
            {
                "__all__": T(
                    "本机构不属于任何医共体，没有会诊中心可受理。",
                    "Your institution is in no consortium; there is no desk to take this.",
                )
            }
        )
    ask = Ask(
        requester, place, Practitioner.objects.filter(pk=by.practitioner_id).first() if by.practitioner_id else None,
        chosen(by, person_id, materials), scan, scan_type(scan),
    )  # fmt: skip
    done = kernel.open_case(
        moves.KIND, person_id, by, form, key, parties={"requester": requester.pk}, priority=priority, extra={"ask": ask}
    )  # fmt: skip
    return ask.made or of_case(done.case)


def scan_type(scan: bytes) -> str:
    """The kind of an uploaded consent form by its first bytes; Refused when it is none that is taken, or too big."""
    if not scan:
        return ""
    found = next((kind for head, kind in SCANS.items() if scan.startswith(head)), "")
    if not found or len(scan) > MOST_SCAN:
        raise Refused(
            {"scan": T("请上传 4 MB 以内的 PNG、JPEG 或 PDF。", "Upload a PNG, JPEG or PDF of at most 4 MB.")}
        )
    return found


def chosen(by: Scope, person_id: int, refs: Sequence[str]) -> list[Chosen]:
    """What ``refs`` name, each read within the scope; Refused when one is not of this person, not readable, or there are too many."""
    wanted = list(dict.fromkeys(refs))
    most = int(policy.value("pages.most_materials", by.institution_id or 0))
    if len(wanted) > most:
        raise Refused({"materials": T("会诊资料最多 {n} 项。", "At most {n} materials.").format(n=str(most))})
    found = []
    for ref in wanted:
        rtype, _, rid = ref.partition("/")
        with connection.cursor() as cursor:
            held = store.read(cursor, by, rtype, rid) if rtype in timeline.KINDS and rid else None
        if held is None or held.status != 200 or held.person_id != person_id:
            raise Refused(
                {
                    "materials": T(
                        "有资料不属于该患者或您无权查看：{ref}",
                        "Not of this patient, or not yours to see: {ref}",
                    ).format(ref=ref[:60])
                }
            )
        found.append(_described(ref, held))
    return found


def _described(ref: str, held: Any) -> Chosen:
    import orjson

    from lianxin.record import readable

    sheet = readable.sheet(orjson.loads(held.body))
    at = sheet.at
    return Chosen(ref, sheet.title or str(sheet.kind), sheet.where, at if hasattr(at, "hour") else None)  # type: ignore[arg-type]


def of_case(case: Case) -> Consult:
    """The consultation of a case."""
    found: Consult = (
        Consult.objects.unscoped("the case was reached within the scope")
        .select_related("case")
        .get(pk=case.pk)
    )
    return found


def act(
    by: Scope,
    number: str,
    move: str,
    form: Mapping[str, Any] | None = None,
    version: int | None = None,
    key: str = "",
) -> kernel.Done:
    """Make a move. Raises like ``duty.kernel.execute``."""
    return kernel.execute(move, number, by, form or {}, version, key)


@transaction.atomic
def add_materials(by: Scope, number: str, refs: Sequence[str]) -> int:
    """Lay more of the record before the experts (the requester does); how many came. NotAllowed, Refused."""
    case = kernel.get_case(number, by)
    ctx = kernel.context(case, by)
    if "requester" not in ctx.mine or case.terminal or case.state == "concluded":
        raise NotAllowed(
            T("由申请方在会诊结束前补充资料。", "The requester adds materials before the consultation ends.")
        )
    by.demand("consult")
    count = effects.lay(ctx.subject, chosen(by, case.patient_id, refs), clock.now(), by.account_id)
    audit.write(
        by, "update", person_id=case.patient_id, what=f"consult {number} materials", detail={"added": count}
    )
    return count


def save_draft(by: Scope, number: str, kind: str, content: Mapping[str, str]) -> Draft:
    """Keep what an expert has typed (theirs alone); NotAllowed when they do not sit at the table of an open consultation."""
    case = kernel.get_case(number, by)
    ctx = kernel.context(case, by)
    if (
        case.terminal
        or by.account_id is None
        or guards.mine(ctx) is None
        or kind not in ("opinion", "summary")
    ):
        raise NotAllowed(
            T("您不在本次会诊的专家之列，或会诊已结束。", "You are not among its experts, or it has ended.")
        )
    kept = {name: str(content.get(name, ""))[:4000] for name in ("impression", "advice", "reason")}
    row, _ = Draft.objects.unscoped("one's own draft").update_or_create(
        consult=ctx.subject,
        account_id=by.account_id,
        kind=kind,
        defaults={"content": kept, "saved_at": clock.now()},
    )
    found: Draft = row
    return found


def draft_of(by: Scope, consult: Consult, kind: str) -> Draft | None:
    """One's own unsigned text."""
    rows = Draft.objects.unscoped("one's own draft").filter(
        consult=consult, account_id=by.account_id or 0, kind=kind
    )
    found: Draft | None = rows.first()
    return found


def side_of(by: Scope, consult: Consult) -> str:
    """Which side one's institution is on in judging the other: "requester", "expert" or ""."""
    if consult.requester_id in by.institution_ids:
        return "requester"
    given = [
        s for s in guards.seats(consult) if s.state == "given" and s.institution_id in by.institution_ids
    ]
    return "expert" if given else ""


def evaluate(by: Scope, number: str, score: int, note: str = "", tags: Sequence[str] = ()) -> Evaluation:
    """Say how the other side was, once the opinion is there; once for each side. Raises NotAllowed, Refused."""
    case = kernel.get_case(number, by)
    consult = of_case(case)
    side = side_of(by, consult)
    if (
        case.state not in ("concluded", "done")
        or not side
        or by.institution_id is None
        or not by.may("consult")
    ):
        raise NotAllowed(T("会诊结束后由参与双方互评。", "The two sides judge each other once it is over."))
    if not 1 <= score <= 5:
        raise Refused({"score": T("请评 1 至 5 分。", "Give 1 to 5.")})
    try:
        with transaction.atomic():
            made: Evaluation = Evaluation.objects.create(
                consult=consult, side=side, institution_id=by.institution_id, account_id=by.account_id, score=score,
                tags=[t[:20] for t in tags][:5], note=note[:300], at=clock.now(),
            )  # fmt: skip
            audit.write(by, "create", person_id=case.patient_id, what=f"consult {number} evaluation")
    except IntegrityError:
        raise NotAllowed(T("本机构已评价过。", "Your institution has judged it already.")) from None
    return made


def materials(consult: Consult) -> list[Material]:
    """What lies before the experts."""
    rows = Material.objects.unscoped("the consultation was reached within the scope").filter(consult=consult)
    return list(rows.order_by("pk"))


def unanswered() -> int:
    """Give consultations that no expert answered in time back to their desk; how many (periodic)."""
    now, moved = clock.now(), 0
    rows = Case.objects.unscoped("periodic: nobody answered").filter(
        kind=moves.KIND, state="assigned", terminal=False
    )
    for case in rows.filter(priority__in=("emergency", "urgent")).order_by("pk")[:200]:
        subject = effects.load(case)
        if subject is None or subject.assigned_at is None:
            continue
        minutes = int(policy.value("timeout.minutes", subject.desk_id)[case.priority])
        if not minutes or (now - subject.assigned_at).total_seconds() < minutes * 60:
            continue
        try:
            kernel.execute(
                "timeout",
                case,
                Scope.system("no expert answered in time"),
                {},
                case.version,
                f"timeout:{case.number}:{case.version}",
            )
        except kernel.MoveError:
            continue  # somebody answered meanwhile
        moved += 1
    return moved


def new_key() -> str:
    """A key for one submission of a form."""
    return uuid.uuid4().hex
