"""The pathology centre of the demonstration: specimens of a week in every stage, one refused, a frozen section with its permanent one.

Through the room's own doors, at the instants they are said to have happened. Drawn from the seed: the same week every time. Pictures
are drawn, not photographed: what they show is invented.
"""

from __future__ import annotations

import datetime as dt
import io
from random import Random

from PIL import Image, ImageDraw

from lianxin.access.models import Account
from lianxin.access.scope import Scope, scope_for_account
from lianxin.index.models import Person
from lianxin.network import roles
from lianxin.network.models import Institution, Post
from lianxin.regional.pathology import frozen, pictures, service
from lianxin.regional.pathology.models import Slide, Specimen, Work
from lianxin.regional.reading import service as reading_service
from lianxin.regional.reading.models import Item, Reader, Reading
from lianxin.standards import clock

_WHY = "pathology of the demonstration"
STORIES = (
    ("PATH-BIOPSY", "胃窦", "活检", "上腹痛两月，胃镜见胃窦黏膜粗糙", "灰白组织三块，直径 0.2 cm。", "（胃窦）中度慢性炎症，伴肠上皮化生。", "issued", 5),
    ("PATH-CYTO", "宫颈", "刷取", "两癌筛查", "液基保存液 10 ml。", "未见上皮内病变或恶性病变（NILM）。", "issued", 3),
    ("PATH-BIOPSY", "结肠", "活检", "便血一周，肠镜见息肉", "灰红组织两块，直径 0.3 cm。", "（结肠）管状腺瘤，低级别上皮内瘤变。", "issued", 2),
    ("PATH-BIOPSY", "胃体", "活检", "胃镜见溃疡", "灰白组织四块，直径 0.2 cm。", "", "queued", 1),
    ("PATH-SURGICAL", "胆囊", "切除", "胆囊结石，胆囊切除术后", "胆囊一个，7×3×2 cm，壁厚 0.3 cm，内见结石。", "", "slides", 1),
    ("PATH-BIOPSY", "皮肤", "切取", "背部肿物", "皮肤组织一块，1×0.6×0.4 cm。", "", "received", 0),
    ("PATH-BIOPSY", "宫颈", "活检", "阴道镜下醋白上皮", "", "", "refused", 0),
    ("PATH-BIOPSY", "食管", "活检", "吞咽不适", "", "", "sent", 0),
    ("PATH-BIOPSY", "胃角", "活检", "胃镜见黏膜糜烂", "", "", "registered", 0),
    ("PATH-CYTO", "宫颈", "刷取", "两癌筛查", "", "", "ordered", 0),
)  # fmt: skip
"""What was ordered, of which site, how taken, why, what the gross examination and the report said, how far it came, how many days ago."""


def play(seed: int, now: dt.datetime) -> int:
    """Play the week up to ``now``; how many cases. Nothing when it was played before or the county has no pathologist."""
    cast = _Cast.found()
    if cast is None or Specimen.objects.unscoped(_WHY).exists():
        return 0
    drawn = Random(f"pathology:{seed}")
    people = list(
        Person.objects.unscoped(_WHY).filter(merged_into=None, deceased_on=None, sex="female", birth_date__lte=now.date() - dt.timedelta(days=365 * 35))
        .order_by("number").values_list("pk", flat=True)[: 12 * (len(STORIES) + 1)]
    )  # fmt: skip
    picked = drawn.sample(people, min(len(people), len(STORIES) + 1))
    for n, (story, person) in enumerate(zip(STORIES, picked, strict=False)):
        _one(cast, n, story, person, now)
    if len(picked) > len(STORIES):
        _frozen(cast, picked[-1], now)
    return len(picked)


class _Cast:
    """Who acts: a township's doctor and technician, the centre's technician and its pathologist, a surgeon of the lead hospital."""

    def __init__(self, lead: Institution, asker: Post, scopes: dict[str, Scope]) -> None:
        self.lead, self.asker, self.scopes = lead, asker, scopes
        self.count = 0

    @classmethod
    def found(cls) -> _Cast | None:
        """The cast, or None when somebody is missing."""
        reader = (
            Reader.objects.filter(centre="pathology", active=True, signs=True, new=False)
            .order_by("pk")
            .first()
        )
        posts = Post.objects.live().select_related("practitioner", "institution").order_by("pk")
        if reader is None:
            return None
        lead = reader.institution
        technicians = posts.filter(role=roles.TECHNICIAN, institution__kind="township")
        asker = posts.filter(role=roles.GP, institution__in=[t.institution_id for t in technicians]).first()
        parts = {
            "gp": asker, "sender": technicians.filter(institution=asker.institution_id).first() if asker else None,
            "lab": posts.filter(role=roles.TECHNICIAN, institution=lead).first() or posts.filter(role=roles.LABORATORY, institution=lead).first(),
            "surgeon": posts.filter(role=roles.CLINICIAN, institution=lead).first(),
        }  # fmt: skip
        scopes = {"reader": scope_for_account(reader.account)}
        for key, post in parts.items():
            account = (
                Account.objects.filter(practitioner_id=post.practitioner_id, is_active=True).first()
                if post
                else None
            )
            if post is None or account is None:
                return None
            scopes[key] = scope_for_account(account, post)
        assert asker is not None
        return cls(lead, asker, scopes)

    def key(self) -> str:
        """A key of its own for every act."""
        self.count += 1
        return f"demo-pathology:{self.count}"


def _one(cast: _Cast, n: int, story: tuple[str, str, str, str, str, str, str, int], person: int, now: dt.datetime) -> None:  # fmt: skip
    item, site, how, why, gross, said, state, days = story
    at = now - dt.timedelta(days=days, hours=26 if gross else 3)
    with clock.at(at):
        case = _ordered(cast, "gp", person, item, why)
    if state == "ordered":
        return
    fixed = at + dt.timedelta(minutes=12 + 5 * n)
    with clock.at(at + dt.timedelta(minutes=70)):
        data = {"site": site, "procedure": how, "pieces": 1 + n % 3, "fixative": "lbc" if item == "PATH-CYTO" else "nbf", "taken_at": at, "fixed_at": fixed}  # fmt: skip
        specimen = service.register(cast.scopes["sender"], case, data)
    if state == "registered":
        return
    with clock.at(at + dt.timedelta(minutes=90)):
        parcel = service.dispatch(cast.scopes["sender"], [specimen.code], "县域标本转运 02 车", cast.key())
    if state == "sent":
        return
    with clock.at(at + dt.timedelta(minutes=150)):
        if state == "refused":
            service.refuse(cast.scopes["lab"], specimen.code, ["unfixed"], "容器内仅少量生理盐水")
            return
        service.receive(cast.scopes["lab"], parcel.number)
    if state == "received":
        return
    kind = "smear" if item == "PATH-CYTO" else "paraffin"
    _worked(cast, case, specimen, gross, kind, at + dt.timedelta(hours=8), state != "slides")
    if said:
        with clock.at(at + dt.timedelta(hours=20)):
            slide = Slide.objects.unscoped(_WHY).filter(reading=case).first()
            if slide is not None:
                made = pictures.add(cast.scopes["lab"], case, slide.code, "micro", drawing(n), "HE ×100" if kind == "paraffin" else "巴氏 ×400")  # fmt: skip
                pictures.choose(cast.scopes["lab"], case, made.pk, True)
        _reported(cast, case, "镜下见" + site + "组织，结构如上。", said, at + dt.timedelta(hours=21))


def _ordered(cast: _Cast, by: str, person: int, item: str, why: str) -> Reading:
    place = cast.lead if by == "surgeon" else cast.asker.institution
    return reading_service.order(
        cast.scopes[by], person, [Item.objects.get(code=item)], {"indication": why}, cast.key(), performer=place, centre_of=cast.lead,
        priority="emergency" if item == "PATH-FROZEN" else "routine",
    )  # fmt: skip


def _worked(cast: _Cast, case: Reading, specimen: Specimen, gross: str, kind: str, at: dt.datetime, whole: bool) -> None:  # fmt: skip
    """Blocks and slides; with ``whole`` they are stained, so that the case reaches the readers."""
    lab = cast.scopes["lab"]
    with clock.at(at):
        service.gross(lab, specimen.code, gross, ["全取"], kind=kind)
    rows = list(Slide.objects.unscoped(_WHY).filter(reading=case, state="ordered").order_by("code"))
    for n, slide in enumerate(rows):
        with clock.at(at + dt.timedelta(minutes=4 + n)):
            service.step(lab, slide.code)
        if whole:
            with clock.at(at + dt.timedelta(minutes=7 + n)):
                service.step(lab, slide.code)


def _reported(cast: _Cast, case: Reading, findings: str, said: str, at: dt.datetime) -> None:
    number, scope = case.case.number, cast.scopes["reader"]
    with clock.at(at):
        got = reading_service.claim(scope, "pathology", number)
        if got is None:
            return
        reading_service.save_draft(
            scope, number, str(got[1].token), {"findings": findings, "conclusion": said}
        )
        reading_service.act(scope, number, "sign", {}, None, cast.key())


def _frozen(cast: _Cast, person: int, now: dt.datetime) -> None:
    """Yesterday's frozen section, telephoned; its permanent section reported this morning and compared; and one whose clock runs now."""
    for yesterday in (True, False):
        at = now - (dt.timedelta(hours=27) if yesterday else dt.timedelta(minutes=16))
        with clock.at(at):
            case = _ordered(cast, "surgeon", person, "PATH-FROZEN", "乳腺肿物，术中定性质")
            data = {"site": "左乳肿物", "procedure": "切除", "pieces": 1, "fixative": "fresh", "taken_at": at, "fixed_at": None}  # fmt: skip
            specimen = service.register(cast.scopes["lab"], case, data)
        with clock.at(at + dt.timedelta(minutes=4)):
            parcel = service.dispatch(cast.scopes["lab"], [specimen.code], "手术室护工", cast.key())
            service.receive(cast.scopes["lab"], parcel.number)
        _worked(cast, case, specimen, "灰白灰黄组织一块，2×1.5×1 cm，切面见结节。", "frozen", at + dt.timedelta(minutes=6), yesterday)  # fmt: skip
        if not yesterday:
            return
        _reported(cast, case, "送检组织见纤维腺瘤样结构。", "（左乳）冰冻：良性，倾向纤维腺瘤。最终诊断以石蜡切片为准。", at + dt.timedelta(minutes=21))  # fmt: skip
        case.refresh_from_db()
        if case.issued_at is None:
            return
        with clock.at(at + dt.timedelta(minutes=24)):
            frozen.call(cast.scopes["reader"], case, "手术间 3 巡回护士", "左乳肿物冰冻良性，倾向纤维腺瘤")
        _permanent(cast, case, person, at + dt.timedelta(hours=1))


def _permanent(cast: _Cast, case: Reading, person: int, at: dt.datetime) -> None:
    with clock.at(at):
        later = _ordered(cast, "surgeon", person, "PATH-BIOPSY", "冰冻后石蜡")
        data = {"site": "左乳肿物", "procedure": "切除", "pieces": 1, "fixative": "nbf", "taken_at": at - dt.timedelta(minutes=30), "fixed_at": at - dt.timedelta(minutes=10)}  # fmt: skip
        own = service.register(cast.scopes["lab"], later, data)
        parcel = service.dispatch(cast.scopes["lab"], [own.code], "手术室护工", cast.key())
        service.receive(cast.scopes["lab"], parcel.number)
        frozen.link(cast.scopes["lab"], later, case)
    _worked(cast, later, own, "冰冻剩余组织一块。", "paraffin", at + dt.timedelta(hours=9), True)
    _reported(cast, later, "纤维上皮双相增生，边界清楚。", "（左乳）纤维腺瘤。", at + dt.timedelta(hours=22))
    later.refresh_from_db()
    if (
        later.issued_at is not None
        and Work.objects.unscoped(_WHY).filter(pk=later.pk, concordance="").exists()
    ):
        with clock.at(at + dt.timedelta(hours=23)):
            frozen.compare(cast.scopes["reader"], later, "concordant")


def drawing(n: int) -> bytes:
    """A drawing in the colours of haematoxylin and eosin (cells in rows), not a photograph of anybody's tissue."""
    rng = Random(f"drawing:{n}")
    image = Image.new("RGB", (480, 360), "#f3dbe6")
    pen = ImageDraw.Draw(image)
    for _ in range(320):
        x, y, r = rng.randrange(480), rng.randrange(360), rng.randrange(5, 13)
        pen.ellipse((x - r, y - r, x + r, y + r), fill=rng.choice(("#e3a9c4", "#dc9abb", "#e9bcd0")))
        pen.ellipse((x - r // 3, y - r // 3, x + r // 3, y + r // 3), fill="#5b3f8c")
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()
