"""What pages and scenarios call: specimens registered, handed over, received or refused, grossed; blocks, slides, stains; pictures; loans.

The case itself is moved by ``reading.service`` only. Steps of a specimen or slide are conditional updates: of two hands at once one does
it, the other is told. Everything is found by its printed code, and a code of another case is refused.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.db.models import Max

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.duty import notices
from lianxin.duty.errors import NotAllowed, Refused
from lianxin.network import roles
from lianxin.regional.archive.models import Study
from lianxin.regional.pathology import policy, stains
from lianxin.regional.pathology.models import (
    BLOCK_KINDS,
    FIXATIVES,
    REFUSALS,
    Block,
    Loan,
    Parcel,
    Slide,
    Specimen,
    Trace,
    Work,
)
from lianxin.regional.reading import effects
from lianxin.regional.reading import service as reading_service
from lianxin.regional.reading.models import Reading
from lianxin.standards import clock
from lianxin.standards.text import T, Text

CENTRE_ROLES = (roles.READER, roles.TECHNICIAN, roles.LABORATORY)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MOST_BLOCKS = 99
_NEXT = {"ordered": "cut", "cut": "ready"}


# ------------------------------------------------------------------------------------------------------------ who and what


def find(by: Scope, number: str) -> Reading:
    """The pathology work of a case that ``by`` may see; ``Reading.DoesNotExist`` otherwise."""
    found: Reading = (
        Reading.objects.within(by)
        .select_related("case", "person", "orderer", "performer", "centre_of")
        .get(case__number=number, centre="pathology")
    )
    return found


def at_centre(by: Scope, reading: Reading) -> None:
    """NotAllowed unless ``by`` works at the centre that has this case."""
    if reading.centre_of_id not in by.institution_ids or not by.has(*CENTRE_ROLES):
        raise NotAllowed(T("由病理中心人员办理。", "Staff of the pathology centre do this."))


def at_sender(by: Scope, reading: Reading) -> None:
    """NotAllowed unless ``by`` works where the specimen is taken."""
    if not {reading.performer_id, reading.orderer_id} & by.institution_ids or not by.may("acquire"):
        raise NotAllowed(T("由送检机构办理。", "The sending institution does this."))


def work_of(reading: Reading) -> Work:
    """What pathology keeps of a case."""
    found: Work = (
        Work.objects.unscoped("the case was reached within the scope")
        .select_related("frozen__reading__case")
        .get(pk=reading.pk)
    )
    return found


def ordered(reading: Reading) -> None:
    """Something was ordered of pathology: it gets the centre's number of the year."""
    if reading.centre != "pathology":
        return
    year = clock.today().year
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtext('pathology.number'), %s)", [reading.centre_of_id]
        )
    rows = Work.objects.unscoped("the next number of the year").filter(
        institution_id=reading.centre_of_id, year=year
    )
    last = rows.aggregate(n=Max("serial"))["n"] or 0
    Work.objects.create(
        reading=reading,
        person_id=reading.person_id,
        institution_id=reading.centre_of_id,
        year=year,
        serial=last + 1,
    )


def trace(by: Scope, reading: Reading, code: str, what: str, note: str = "") -> None:
    """Write a step down, and audit it."""
    Trace.objects.create(
        reading=reading, person_id=reading.person_id, code=code, what=what, note=note[:300], by=(by.name or by.reason)[:80],
        account_id=by.account_id, institution_id=by.institution_id, at=clock.now(),
    )  # fmt: skip
    audit.write(by, "update", person_id=reading.person_id, what=f"pathology {code}", detail={"step": what})


def something_to_read(reading: Reading) -> Text | None:
    """None when a slide is ready to be read, else why it cannot be sent to the readers."""
    rows = Slide.objects.unscoped("the case's own slides").filter(reading=reading, state="ready")
    return None if rows.exists() else T("还没有可阅的切片。", "No slide is ready to be read yet.")


# ------------------------------------------------------------------------------------------------------------ the sender's end


@transaction.atomic
def register(by: Scope, reading: Reading, data: Mapping[str, Any]) -> Specimen:
    """Register one container (site, pieces, fixative, times) and give it its letter and code. Raises Refused, NotAllowed."""
    at_sender(by, reading)
    locked = (
        Reading.objects.unscoped("the case was reached within the scope")
        .select_for_update(of=("self",), no_key=True)
        .get(pk=reading.pk)
    )
    if not locked.live or locked.issued_at is not None:
        raise NotAllowed(T("该申请已结束，不能再登记标本。", "This order is over; no specimen may be added."))
    errors: dict[str, Text] = {}
    site, taken, fixed, now = (
        str(data.get("site") or "").strip(),
        data.get("taken_at"),
        data.get("fixed_at"),
        clock.now(),
    )
    if not site:
        errors["site"] = T("请填写部位。", "Give the site.")
    if data.get("fixative") not in FIXATIVES:
        errors["fixative"] = T("请选择固定液。", "Choose the fixative.")
    if not isinstance(taken, dt.datetime) or taken > now + dt.timedelta(minutes=5):
        errors["taken_at"] = T("请填写离体时间，且不晚于现在。", "When it was taken, not in the future.")
    elif fixed is not None and (fixed < taken or fixed > now + dt.timedelta(minutes=5)):
        errors["fixed_at"] = T(
            "固定时间须在离体之后且不晚于现在。", "Fixed after it was taken, and not in the future."
        )
    if data.get("fixative") not in ("fresh", None) and fixed is None and "fixed_at" not in errors:
        errors["fixed_at"] = T("请填写固定时间。", "Give the time of fixation.")
    pieces = data.get("pieces") or 1
    if not isinstance(pieces, int) or not 1 <= pieces <= 200:
        errors["pieces"] = T("块数为 1 至 200。", "1 to 200 pieces.")
    if errors:
        raise Refused(errors)
    held = list(
        Specimen.objects.unscoped("the next letter").filter(reading=reading).values_list("letter", flat=True)
    )
    letter = next((x for x in LETTERS if x not in held), None)
    if letter is None:
        raise Refused({"site": T("一份申请最多 26 个标本。", "At most 26 specimens in one order.")})
    made: Specimen = Specimen.objects.create(
        reading=reading, person_id=reading.person_id, sender_id=reading.performer_id, institution_id=reading.centre_of_id, letter=letter,
        code=f"{reading.accession}{letter}", site=site[:80], procedure=str(data.get("procedure") or "")[:80], pieces=pieces,
        fixative=data["fixative"], taken_at=taken, fixed_at=fixed, registered_by=by.name[:80],
    )  # fmt: skip
    trace(by, reading, made.code, "registered", made.site)
    return made


@transaction.atomic
def dispatch(by: Scope, codes: Sequence[str], carrier: str, key: str) -> Parcel:
    """Hand registered specimens over to a carrier: a parcel of one centre; the cases are *acquired*. The same key gives the same parcel."""
    held = Parcel.objects.filter(key=key[:120]).first()
    if held is not None:
        return held
    if not carrier.strip():
        raise Refused({"carrier": T("请填写运送人。", "Say who carries it.")})
    rows = list(
        _specimens(codes).select_for_update(of=("self",)).select_related("reading__case").order_by("pk")
    )
    if not rows or len(rows) != len(set(codes)):
        raise Refused({"codes": T("请选择要送出的标本。", "Choose the specimens to send.")})
    for row in rows:
        at_sender(by, row.reading)
        if row.state != "registered":
            raise Refused({"codes": T("{code} 已送出。", "{code} has been sent.").format(code=row.code)})
    if len({r.institution_id for r in rows}) != 1:
        raise Refused({"codes": T("一次只能送往同一个病理中心。", "One parcel goes to one centre.")})
    now = clock.now()
    parcel = Parcel(
        number=f"BL{now:%Y%m%d}{rows[0].pk:06d}", from_institution_id=by.institution_id or rows[0].sender_id, to_institution_id=rows[0].institution_id,
        carrier=carrier.strip()[:80], sent_by=by.name[:80], sent_at=now, key=key[:120],
    )  # fmt: skip
    parcel.save(force_insert=True)
    for row in rows:
        row.state, row.parcel = "sent", parcel
        row.save(update_fields=["state", "parcel"])
        trace(by, row.reading, row.code, "sent", f"{parcel.number} {parcel.carrier}")
    for reading in {r.reading_id: r.reading for r in rows}.values():
        if reading.case.state in ("ordered", "checked_in", "retake"):
            reading_service.act(
                by,
                reading.case.number,
                "acquire",
                {"device": "", "note": f"标本 {parcel.number}"},
                None,
                f"{key}:{reading.pk}"[:120],
            )
    return parcel


def _specimens(codes: Iterable[str]) -> Any:
    return Specimen.objects.unscoped("found by their printed codes; who may is asked").filter(
        code__in=list(codes)
    )


# ------------------------------------------------------------------------------------------------------------ receipt


@transaction.atomic
def receive(by: Scope, code: str) -> list[Specimen]:
    """Take in what a scanned code names: one specimen, or a whole parcel. A frozen section's clock begins. Refused when it is none of ours."""
    from lianxin.regional.pathology import frozen

    parcel = (
        Parcel.objects.select_for_update(of=("self",))
        .filter(number=code, to_institution_id__in=by.institution_ids)
        .first()
    )
    rows = (
        _specimens([code])
        if parcel is None
        else Specimen.objects.unscoped("of a parcel for us").filter(parcel=parcel)
    )
    found = list(
        rows.filter(institution_id__in=by.institution_ids)
        .select_for_update(of=("self",))
        .select_related("reading__case")
        .order_by("pk")
    )
    if not found:
        raise Refused(
            {"code": T("没有这个标本或转运单，请核对标签。", "No such specimen or parcel; check the label.")}
        )
    now, taken = clock.now(), []
    for row in found:
        at_centre(by, row.reading)
        if row.state not in ("registered", "sent"):
            continue
        row.state, row.received_at, row.received_by = "received", now, by.name[:80]
        row.save(update_fields=["state", "received_at", "received_by"])
        trace(by, row.reading, row.code, "received")
        frozen.start(work_of(row.reading), row.reading, now)
        taken.append(row)
    if parcel is not None and parcel.received_at is None:
        parcel.received_at, parcel.received_by = now, by.name[:80]
        parcel.save(update_fields=["received_at", "received_by"])
    if not taken:
        raise Refused(
            {
                "code": T("该标本已签收或已拒收：{s}", "It was taken in or refused already: {s}").format(
                    s=found[0].state_label
                )
            }
        )
    return taken


@transaction.atomic
def refuse(by: Scope, code: str, reasons: Sequence[str], note: str) -> Specimen:
    """Refuse a specimen with coded reasons: the sender is told and sends another; nothing is made of this one any more."""
    row = _specimen(by, code)
    if row.state not in ("registered", "sent", "received") or _blocks(row).exists():
        raise NotAllowed(
            T("已取材或已拒收的标本不能拒收。", "A specimen that was grossed or refused cannot be refused.")
        )
    if not reasons or not set(reasons) <= set(REFUSALS):
        raise Refused({"reasons": T("请选择拒收原因。", "Choose why.")})
    if "other" in reasons and not note.strip():
        raise Refused({"note": T("请说明其他原因。", "Say what else.")})
    row.state, row.refused_for, row.refused_note = "refused", sorted(set(reasons)), note.strip()[:300]
    row.received_at, row.received_by = row.received_at or clock.now(), by.name[:80]
    row.save(update_fields=["state", "refused_for", "refused_note", "received_at", "received_by"])
    words = "、".join(REFUSALS[r].zh for r in row.refused_for)
    trace(by, row.reading, row.code, "refused", f"{words} {note}".strip())
    told = T(
        "病理标本 {code} 被拒收：{why}，请重新送检。",
        "Specimen {code} was refused: {why}; please send another.",
    ).format(code=row.code, why=words)
    for place, what in ((row.reading.performer, "acquire"), (row.reading.orderer, "order")):
        notices.tell(row.reading.case, place.pk, effects.role_at(place, what), told)
    return row


def _blocks(row: Specimen) -> Any:
    return Block.objects.unscoped("the specimen's own").filter(specimen=row)


def _specimen(by: Scope, code: str) -> Specimen:
    row = (
        _specimens([code])
        .select_for_update(of=("self",))
        .select_related("reading__case", "reading__performer", "reading__orderer")
        .first()
    )
    if row is None:
        raise Refused({"code": T("没有这个标本，请核对标签。", "No such specimen; check the label.")})
    at_centre(by, row.reading)
    found: Specimen = row
    return found


# ------------------------------------------------------------------------------------------------------------ blocks and slides


@transaction.atomic
def gross(by: Scope, code: str, text: str, tissues: Sequence[str], *, kind: str = "paraffin") -> list[Block]:
    """Describe a received specimen and take blocks of it (one for each of ``tissues``), each with its first slide. Again: adds blocks."""
    row = _specimen(by, code)
    if row.state not in ("received", "grossed"):
        raise NotAllowed(T("标本签收后才能取材。", "A specimen is grossed once it was received."))
    if not text.strip():
        raise Refused({"text": T("请填写大体描述。", "Describe it.")})
    names = [t.strip()[:120] for t in tissues if t.strip()]
    if not names or kind not in BLOCK_KINDS:
        raise Refused({"tissues": T("请至少取一块。", "Take at least one block.")})
    last = _blocks(row).aggregate(n=Max("number"))["n"] or 0
    if last + len(names) > MOST_BLOCKS:
        raise Refused({"tissues": T("一个标本最多 99 块。", "At most 99 blocks of a specimen.")})
    now = clock.now()
    row.state, row.gross, row.grossed_at, row.grossed_by = (
        "grossed",
        text.strip(),
        row.grossed_at or now,
        by.name[:80],
    )
    row.save(update_fields=["state", "gross", "grossed_at", "grossed_by"])
    trace(by, row.reading, row.code, "grossed", f"{len(names)} 块")
    made = []
    first = {"paraffin": "HE", "frozen": "FROZEN-HE", "smear": "PAP"}[kind]
    for n, tissue in enumerate(names, last + 1):
        block = Block.objects.create(
            specimen=row,
            reading=row.reading,
            number=n,
            code=f"{row.code}{n:02d}",
            kind=kind,
            tissue=tissue,
            made_at=now,
            made_by=by.name[:80],
        )
        _slide(by, block, first, now)
        made.append(block)
    return made


def _slide(by: Scope, block: Block, stain: str, now: dt.datetime, note: str = "") -> Slide:
    last = Slide.objects.unscoped("the block's own").filter(block=block).aggregate(n=Max("number"))["n"] or 0
    slide: Slide = Slide.objects.create(
        block=block, reading_id=block.reading_id, number=last + 1, code=f"{block.code}-{last + 1:02d}", stain=stain, ordered_by=by.name[:80],
        ordered_at=now, note=note[:200],
    )  # fmt: skip
    return slide


@transaction.atomic
def order_stains(by: Scope, code: str, codes: Sequence[str], note: str = "") -> list[Slide]:
    """Order more slides of a block (deeper cuts, special stains, IHC). Refused for an unknown stain or a block that is not in store."""
    block = (
        Block.objects.unscoped("found by its code; who may is asked")
        .select_for_update(of=("self",))
        .select_related("reading__case")
        .filter(code=code)
        .first()
    )
    if block is None:
        raise Refused({"code": T("没有这个蜡块。", "No such block.")})
    at_centre(by, block.reading)
    if not codes or not set(codes) <= set(stains.all_stains()):
        raise Refused({"stains": T("请选择染色。", "Choose the stains.")})
    if block.kept != "kept":
        raise NotAllowed(
            T("该蜡块不在库（{s}）。", "The block is not in store ({s}).").format(s=block.kept_label)
        )
    now = clock.now()
    made = [_slide(by, block, stain, now, note) for stain in codes]
    trace(by, block.reading, block.code, "stains", "、".join(stains.label(s).zh for s in codes))
    return made


@transaction.atomic
def step(by: Scope, code: str) -> Slide:
    """A scanned slide goes one step on: cut, then stained and ready. The last first slide that is ready sends the case to the readers."""
    slide = _found_slide(by, code)
    to = _NEXT.get(slide.state)
    if to is None:
        raise NotAllowed(T("该切片已是：{s}", "This slide is: {s}").format(s=slide.state_label))
    fields: dict[str, Any] = {"state": to} | ({"ready_at": clock.now()} if to == "ready" else {})
    if not Slide.objects.unscoped("one of two hands").filter(pk=slide.pk, state=slide.state).update(**fields):
        raise NotAllowed(T("该切片刚被他人处理，请刷新。", "Somebody else has just done this; reload."))
    trace(by, slide.reading, slide.code, to)
    slide.refresh_from_db()
    if to == "ready":
        release(by, slide.reading)
    return slide


def release(by: Scope, reading: Reading) -> bool:
    """Send a case to the readers' queue when every slide of it is ready (or failed); False while some are not, or it is there already."""
    rows = Slide.objects.unscoped("the case's own slides").filter(reading=reading)
    waiting = rows.filter(state__in=("ordered", "cut")).exists()
    ungrossed = (
        Specimen.objects.unscoped("the case's own")
        .filter(reading=reading, state__in=("registered", "sent", "received"))
        .exists()
    )
    if waiting or ungrossed or not rows.filter(state="ready").exists():
        return False
    return reading_service.arrived(reading.accession)


@transaction.atomic
def fail(by: Scope, code: str, note: str) -> Slide:
    """A slide is unfit: it is kept as failed and made again."""
    slide = _found_slide(by, code)
    if not note.strip():
        raise Refused({"note": T("请说明不合格原因。", "Say why.")})
    if slide.state == "failed":
        raise NotAllowed(T("该切片已标记不合格。", "It is marked as failed already."))
    Slide.objects.unscoped("one slide").filter(pk=slide.pk).update(state="failed", note=note.strip()[:200])
    trace(by, slide.reading, slide.code, "failed", note)
    return _slide(by, slide.block, slide.stain, clock.now(), "重做")


def _found_slide(by: Scope, code: str) -> Slide:
    slide = (
        Slide.objects.unscoped("found by its code; who may is asked")
        .select_for_update(of=("self",))
        .select_related("reading__case", "block")
        .filter(code=code)
        .first()
    )
    if slide is None:
        raise Refused({"code": T("没有这张切片，请核对标签。", "No such slide; check the label.")})
    at_centre(by, slide.reading)
    found: Slide = slide
    return found


@transaction.atomic
def attach_scan(by: Scope, code: str, study_uid: str) -> Slide:
    """Say which study of the archive is the whole-slide image of a slide: only one of the same order and person, and of one slide only."""
    slide = _found_slide(by, code)
    study = (
        Study.objects.unscoped("whose it is, is asked below")
        .filter(study_uid=study_uid.strip()[:64], state="stored")
        .first()
    )
    if (
        study is None
        or study.accession != slide.reading.accession
        or study.person_id != slide.reading.person_id
    ):
        raise Refused(
            {
                "study_uid": T(
                    "该图像不属于本病例（申请号或患者不符）。",
                    "That image is not of this case (order or patient differ).",
                )
            }
        )
    try:
        with transaction.atomic():
            Slide.objects.unscoped("one slide").filter(pk=slide.pk).update(study_uid=study.study_uid)
    except IntegrityError:
        raise Refused(
            {"study_uid": T("该图像已关联另一张切片。", "That image belongs to another slide.")}
        ) from None
    trace(by, slide.reading, slide.code, "scanned", study.study_uid)
    slide.refresh_from_db()
    return slide


# ------------------------------------------------------------------------------------------------------------ loans


@transaction.atomic
def lend(by: Scope, code: str, borrower: str, house: str, purpose: str) -> Loan:
    """Lend a block or slide that is in store; who, where, what for. Refused, NotAllowed."""
    thing = _thing(by, code)
    errors = {
        name: T("此项必填，请填写。", "This is required; please fill it in.")
        for name, value in (("borrower", borrower), ("house", house), ("purpose", purpose)) if not value.strip()
    }  # fmt: skip
    if errors:
        raise Refused(errors)
    if (
        not type(thing)
        .objects.unscoped("one of two hands")
        .filter(pk=thing.pk, kept="kept")
        .update(kept="lent")
    ):
        raise NotAllowed(T("不在库，不能借出。", "It is not in store."))
    now = clock.now()
    days = int(policy.value("loan.days", thing.reading.centre_of_id))
    loan = Loan.objects.create(
        block=thing if isinstance(thing, Block) else None, slide=thing if isinstance(thing, Slide) else None, borrower=borrower.strip()[:80],
        house=house.strip()[:80], purpose=purpose.strip()[:200], lent_by=by.name[:80], lent_at=now, due_on=clock.today() + dt.timedelta(days=days),
    )  # fmt: skip
    trace(by, thing.reading, code, "lent", f"{borrower.strip()}（{house.strip()}）")
    return loan


@transaction.atomic
def take_back(by: Scope, code: str, condition: str) -> Loan:
    """A block or slide came back; how it is."""
    thing = _thing(by, code)
    loan = thing.loans.filter(returned_at=None).first()
    if loan is None:
        raise NotAllowed(T("没有未归还的借出记录。", "It is not lent out."))
    loan.returned_at, loan.returned_to, loan.condition = (
        clock.now(),
        by.name[:80],
        condition.strip()[:120] or "完好",
    )
    loan.save(update_fields=["returned_at", "returned_to", "condition"])
    type(thing).objects.unscoped("one thing").filter(pk=thing.pk).update(kept="kept")
    trace(by, thing.reading, code, "returned", loan.condition)
    return loan


def _thing(by: Scope, code: str) -> Any:
    for model in (Slide, Block):
        rows = (
            model.objects.unscoped("found by its code; who may is asked")
            .select_for_update(of=("self",))
            .select_related("reading__case")
        )
        thing = rows.filter(code=code).first()
        if thing is not None:
            at_centre(by, thing.reading)
            return thing
    raise Refused({"code": T("没有这个蜡块或切片。", "No such block or slide.")})


def named(by: Scope, code: str) -> str:
    """The case number of what a scanned code names, within what ``by`` may see; "" when there is none."""
    for model, field in ((Specimen, "code"), (Block, "code"), (Slide, "code")):
        row = (
            model.objects.unscoped("found by its code; whether they may see it is asked")
            .select_related("reading__case")
            .filter(**{field: code})
            .first()
        )
        if row is not None:
            return (
                row.reading.case.number
                if Reading.objects.within(by).filter(pk=row.reading_id).exists()
                else ""
            )
    return ""
