"""Whose registration is this? One decision over all candidates: pure, deterministic, blind to their order.

A registration is linked to a person, not to a registration: it must fit the best one well and contradict none; any veto of
any member counts. Two persons are joined when one registration proves both, or when it made one of them such that a
registration of the other would now link to it: so that it matters little who came first. No member of one vetoes any of the other.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from lianxin.index.form import NAMED, NEWBORN, PLACEHOLDER, Form
from lianxin.index.match.levels import FIELDS, LEVELS, POSITION, compare, number
from lianxin.index.match.model import POLICY, Model
from lianxin.index.match.score import CERTAIN, CERTAINLY_NOT, grade, levels_bits, parts, probability

Parts = tuple[tuple[str, str, float], ...]

_NAME, _ID, _BORN, _SEX = POSITION["name"], POSITION["id"], POSITION["born"], POSITION["sex"]
_PHONE, _CARD, _MOTHER = POSITION["phone"], POSITION["card"], POSITION["mother"]
_KIN, _PARENT, _ADDRESS, _HOUSE = (
    POSITION["kin"],
    number("kin", "parent"),
    POSITION["address"],
    number("address", "house"),
)
_ONE_OFF, _GIVEN = number("name", "one_off"), number("name", "given_one")
_CARD_OTHER = number("card", "other")
_NAMED, _PHONE_OTHER = number("id", "named"), number("phone", "other")
_CERT, _TWIN, _SURNAME, _GIVEN_NAME = (
    POSITION["certificate"],
    POSITION["twin"],
    POSITION["surname"],
    POSITION["given"],
)
_OWN, _SHARED, _STRANGERS = number("id", "own"), number("id", "shared"), number("id", "strangers")
_DOCUMENT, _SAME_WRONG = number("id", "document"), number("id", "same_wrong")
_OWN_OR_SLIP = frozenset(number("id", c) for c in ("own", "document", "same_wrong", "edit"))
_TYPOS = frozenset({number("id", "edit"), number("id", "edits")})
_TWIN_HALF, _TWIN_SAME = number("twin", "half"), number("twin", "exact")
_SEX_OTHER, _TWIN_OTHER, _CERT_OTHER = (
    number("sex", "other"),
    number("twin", "other"),
    number("certificate", "other"),
)
_CERT_SAME, _CARD_SAME, _PHONE_SAME = (
    number("certificate", "exact"),
    number("card", "exact"),
    number("phone", "exact"),
)
_BORN_SAME = frozenset({number("born", "of_id"), number("born", "exact")})
_BORN_OF_NUMBER = number("born", "of_number")
_BORN_FAR = frozenset({number("born", c) for c in ("month_day", "edits", "year", "decade", "other")})
_BORN_LUNAR, _FILLER = number("born", "lunar"), number("born", "filler")
_MOTHER_NUMBER, _MOTHER_NAME = number("mother", "number"), number("mother", "name")
_NAME_SAME, _BORN_OTHER = number("name", "exact"), number("born", "other")
_NAME_TWINS = frozenset(number("name", c) for c in POLICY["twin_names"])
"""Names that twins have, and slips of one name too: what the household shares cannot tell which."""
_NAME_HEARD = _NAME_TWINS | {number("name", "sound"), number("name", "near_sound"), number("name", "variant")}
_SOUND, _NEAR_SOUND, _FORMER = number("name", "sound"), number("name", "near_sound"), number("name", "former")
_NAME_OTHER = frozenset(number("name", c) for c in ("given_one", "surname", "other"))
_REVIEW_DEMAND, _REVIEW_DEMAND_BORN = (
    {number(f, code): float(bits) for code, bits in POLICY["review_demand"][f].items()}
    for f in ("name", "born")
)
_DEMAND: dict[int, float] = {number("name", name): bits for name, bits in POLICY["name_demand"].items()}
_MARGIN: float = POLICY["margin"]
_BEARERS: int = POLICY["number_bearers"]
_OTHER_NAME_REVIEW: bool = POLICY["same_number_other_name"]
_SURE: float = POLICY["sure"]
_CONTRADICTION: float = POLICY["contradiction"]

_BORN_APART = frozenset({number("born", c) for c in ("edits", "guardian", "decade", "other")})
"""Birth dates that no slip explains: only a number of one's own outweighs them."""

AUTO, REVIEW, NO = 2, 1, 0


@dataclass(slots=True)
class Candidate:
    """A person who shares a key with the registration; ``apart``: persons said never to be this one."""

    person_id: int
    forms: list[Form]
    born_order: int = 0
    apart: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Decision:
    """``target`` None: a new person. ``reviews``: (person, kind, bits, parts); ``joins``: persons to merge into the target."""

    target: int | None
    bits: float
    probability: float
    grade: str
    reasons: tuple[str, ...] = ()
    parts: Parts = ()
    reviews: tuple[tuple[int, str, float, Parts], ...] = ()
    joins: tuple[int, ...] = ()


@dataclass(slots=True)
class Judged:
    """What the policy thinks of one candidate: its best and worst registration and the verdict."""

    candidate: Candidate
    bits: float
    best: Form
    vector: tuple[int, ...]
    verdict: int
    kind: str
    least: float = field(default=0.0)


def vetoed(vector: tuple[int, ...]) -> bool:
    """Whether two registrations can never be of one person: other own numbers, other twin, parent and child, other sex and birth."""
    if vector[_ID] == _STRANGERS or vector[_TWIN] == _TWIN_OTHER or vector[_KIN] == _PARENT:
        return True
    return vector[_SEX] == _SEX_OTHER and vector[_BORN] in _BORN_FAR and vector[_ID] != _OWN


def two_names(vector: tuple[int, ...]) -> bool:
    """Whether two registrations have two names and not even one birth date: a number typed for both does not make them one."""
    return vector[_NAME] in _NAME_OTHER and vector[_BORN] not in _BORN_SAME


def judge(form: Form, candidate: Candidate, model: Model) -> Judged | None:
    """The verdict on one candidate, by the registration that speaks best for it; None when one of its registrations vetoes."""
    best: tuple[int, float, str, Form, tuple[int, ...]] | None = None
    lent: Judged | None = None
    worst, agree, other_name = 1e9, 0, False
    for other in candidate.forms:
        vector = compare(form, other)
        if vetoed(vector):
            kind = _lent(vector)
            if not kind:
                return None
            lent = Judged(candidate, 0.0, other, vector, REVIEW, kind)
            continue
        total = levels_bits(vector, form, other, model)
        worst = min(worst, total)
        agree += 1 if total >= model.review else -1 if total < _CONTRADICTION else 0
        other_name = other_name or vector[_NAME] in _NAME_OTHER
        if best is None or total >= model.review or total > best[1] or vector[_ID] == _OWN:
            verdict, kind = rule(vector, form.kind, other.kind, total, model)
            if (
                best is None
                or (verdict, total) > best[:2]
                or ((verdict, total) == best[:2] and _rank(other) < _rank(best[3]))
            ):
                best = (verdict, total, kind, other, vector)
    if lent is not None or best is None:
        return lent
    verdict, total, kind, other, vector = best
    if verdict == AUTO and _twin_in_doubt(form, candidate.forms, vector):
        verdict, kind = REVIEW, "newborn"
    if verdict == AUTO and agree <= 0:
        verdict, kind = REVIEW, "contradiction"
    if verdict == AUTO and other_name and not vector[_NAME] and form.kind == NAMED:
        # the person has a name by now: a registration of it without one does not speak for another
        verdict, kind = REVIEW, _kind(vector)
    return Judged(candidate, total, other, vector, verdict, kind, worst)


def pair(
    vector: tuple[int, ...], kind_a: int, kind_b: int, twin: int, total: float, model: Model
) -> tuple[int, str]:
    """(verdict, review kind) of a newcomer and a person of one registration, by levels alone: what :func:`judge` says of the two.

    ``twin``: whether either is known for a twin. The batch engines judge every pattern of levels with it once.
    """
    if vetoed(vector):
        kind = _lent(vector)
        return (REVIEW, kind) if kind else (NO, "")
    verdict, kind = rule(vector, kind_a, kind_b, total, model)
    if verdict == AUTO and _twin_in_doubt(Form(twin=twin), (), vector):
        return REVIEW, "newborn"
    if verdict == AUTO and total < _CONTRADICTION:
        return REVIEW, "contradiction"
    return verdict, kind


def _twin_in_doubt(form: Form, members: Sequence[Form], vector: tuple[int, ...]) -> bool:
    """Known twins have brothers and sisters of nearly their name: only the very name, the birth order or a number tells them apart."""
    if not (form.twin or any(member.twin for member in members)):
        return False
    return vector[_TWIN] != _TWIN_SAME and vector[_NAME] != _NAME_SAME and not _numbered(vector)


def _lent(vector: tuple[int, ...]) -> str:
    """Review kind of a pair under a veto that a lent card would explain, or "".

    Same name, home and phone, a generation apart: no family does that, but a desk that copies the parent's card for the child.
    Same name, birth date and home with two valid numbers: one may be a relative's.
    """
    if vector[_NAME] != _NAME_SAME or vector[_ID] != _STRANGERS:
        return ""
    phone, house, card = (
        vector[_PHONE] == _PHONE_SAME,
        vector[_ADDRESS] == _HOUSE,
        vector[_CARD] == _CARD_SAME,
    )
    if vector[_BORN] == _BORN_OTHER and ((phone and (house or not vector[_ADDRESS])) or card):
        return "guardian"
    return "two_numbers" if vector[_BORN] in _BORN_SAME and (phone or house or card) else ""


def _rank(form: Form) -> tuple[str, int, str, str]:
    return (form.id_no, form.born, form.name, form.phone)


def rule(vector: tuple[int, ...], kind_a: int, kind_b: int, total: float, model: Model) -> tuple[int, str]:
    """(verdict, review kind) of a pair by its levels, the kinds of the two names and the bits of the pair. No veto is asked here."""
    same_id = vector[_ID] == _OWN
    if PLACEHOLDER in (kind_a, kind_b):
        if same_id and vector[_SEX] != _SEX_OTHER and vector[_BORN] not in _BORN_FAR:
            return AUTO, ""
        personal = vector[_CARD] == _CARD_SAME or vector[_ID] == _DOCUMENT or vector[_CERT] == _CERT_SAME
        if personal and vector[_BORN] in _BORN_SAME and vector[_SEX] == 1 and total >= model.auto + _SURE:
            return AUTO, ""
        strong = same_id or vector[_ID] in (_DOCUMENT, _SAME_WRONG) or vector[_CARD] == _CARD_SAME
        near = vector[_BORN] in _BORN_SAME and total >= model.auto
        return (REVIEW, "same_id") if strong else (REVIEW, "look_alike") if near else (NO, "")
    if NEWBORN in (kind_a, kind_b):
        return _newborn(vector, kind_a == kind_b, total, model)
    name = vector[_NAME]
    western = vector[_SURNAME] != 0 or vector[_GIVEN_NAME] != 0
    demand = 0.0 if western else _DEMAND.get(name)
    if name == 0 and not western and same_id:
        demand = 0.0
    if name in _NAME_TWINS:
        demand = 0.0 if _personal(vector) else None
    if name == _GIVEN and same_id and vector[_BORN] in _BORN_SAME:
        demand = 0.0
    if vector[_BORN] in _BORN_APART and not _numbered(vector):
        demand = None
    told = _numbered(vector) and vector[_BORN] != _BORN_OF_NUMBER
    if vector[_SEX] == _SEX_OTHER and name in _NAME_HEARD and not told:
        return (REVIEW, _kind(vector)) if name not in _NAME_TWINS and total >= model.auto else (NO, "")
    if demand is not None and total >= model.auto + demand:
        return AUTO, ""
    if total >= model.review + max(
        _REVIEW_DEMAND.get(name, 0.0), _REVIEW_DEMAND_BORN.get(vector[_BORN], 0.0)
    ):
        return REVIEW, _kind(vector)
    if same_id and _OTHER_NAME_REVIEW and vector[_BORN] not in _BORN_FAR and vector[_CARD] != _CARD_OTHER:
        return REVIEW, "renamed" if vector[_SEX] != _SEX_OTHER else "same_id"
    return NO, ""


def _numbered(vector: tuple[int, ...]) -> bool:
    """Whether a number of the person's own agrees."""
    return (
        vector[_ID] in (_OWN, _DOCUMENT, _SAME_WRONG, _NAMED)
        or vector[_CARD] == _CARD_SAME
        or vector[_CERT] == _CERT_SAME
    )


def _personal(vector: tuple[int, ...]) -> bool:
    """Whether something agrees that brothers and sisters do not share, and no parent lends: one character differs for twins too."""
    if vector[_BORN] in _BORN_FAR or vector[_CARD] > _CARD_SAME:
        return False
    number = vector[_ID] in _OWN_OR_SLIP and vector[_BORN] != _BORN_OF_NUMBER
    number = number and (vector[_MOTHER] == 0 or vector[_NAME] != _ONE_OFF)
    card = vector[_CARD] == _CARD_SAME or vector[_CERT] == _CERT_SAME
    return number or (card and vector[_BORN] != 0)  # families lend their cards


def _newborn(vector: tuple[int, ...], both: bool, total: float, model: Model) -> tuple[int, str]:
    """A newborn's provisional name says whose child it is, not who it is: twins share everything but number, card and certificate."""
    own = vector[_CERT] == _CERT_SAME or vector[_ID] == _OWN or vector[_CARD] == _CARD_SAME
    if vector[_BORN] in _BORN_FAR or vector[_CERT] == _CERT_OTHER:
        return (REVIEW, "newborn") if own and vector[_BORN] not in _BORN_FAR else (NO, "")
    if vector[_SEX] == _SEX_OTHER:
        return (REVIEW, "newborn") if own else (NO, "")
    if own and (vector[_BORN] in _BORN_SAME or vector[_ID] == _OWN or total >= model.auto + _SURE):
        return AUTO, ""
    if vector[_BORN] not in _BORN_SAME and vector[_BORN] != _FILLER:
        return (REVIEW, "newborn") if own else (NO, "")
    signs = _cradle(vector)
    single = vector[_TWIN] != _TWIN_HALF or both
    if signs >= 2 and single and vector[_SEX] and vector[_CARD] != _CARD_OTHER:
        return AUTO, ""
    if not single and total < model.review:
        return NO, ""
    return (REVIEW, "newborn") if signs else (NO, "")


def _cradle(vector: tuple[int, ...]) -> int:
    """How surely two infants born on one day lie in one cradle: a phone or a mother's number says it, a name or a house half."""
    number = vector[_MOTHER] == _MOTHER_NUMBER or vector[_ID] == _SHARED
    signs = 2 * (vector[_PHONE] == _PHONE_SAME) + 2 * number
    signs += (vector[_MOTHER] == _MOTHER_NAME) + (vector[_ADDRESS] == _HOUSE)
    told = vector[_MOTHER] in (_MOTHER_NAME, _MOTHER_NUMBER)
    against = (vector[_PHONE] == _PHONE_OTHER and not told) + (vector[_CARD] == _CARD_OTHER)
    return max(signs - against, 1 if signs else 0)


def _kind(vector: tuple[int, ...]) -> str:
    """The review kind that tells a person what to look at first."""
    if vector[_ID] == _OWN or vector[_ID] == _DOCUMENT:
        same = vector[_BORN] in _BORN_SAME and vector[_SEX] != _SEX_OTHER
        return "renamed" if same and vector[_NAME] in _NAME_OTHER else "same_id"
    if vector[_ID] in _TYPOS:
        return "id_typo"
    if vector[_NAME] == _FORMER:
        return "renamed"
    if vector[_BORN] == _BORN_LUNAR:
        return "lunar"
    if vector[_NAME] in (_SOUND, _NEAR_SOUND):
        return "same_sound"
    if vector[_NAME] in _NAME_OTHER:
        return "household"
    return "look_alike"


def united(a: Sequence[Form], b: Sequence[Form], model: Model, bridge: Form | None = None) -> bool:
    """Whether nothing says that two persons are two. ``bridge``: a registration of ``a`` that fits both and is no witness itself.

    Where registrations contradict each other, others must link by themselves and twice as many speak for one person as against:
    what a newcomer's members are asked, more strictly, because a wrong join costs more than a wrong link.
    """
    speak_for, against, direct = 0, 0, False
    for x in a:
        for y in b:
            vector = compare(x, y)
            if vetoed(vector):
                return False
            total = levels_bits(vector, x, y, model)
            if two_names(vector) and total < model.join:
                return False
            if total >= model.review:
                speak_for += 1
            elif not _numbered(vector):
                against += total < _CONTRADICTION or vector[_BORN] in _BORN_APART
            if not direct and x is not bridge:
                direct = pair(vector, x.kind, y.kind, x.twin or y.twin, total, model)[0] == AUTO
    return not against or (direct and speak_for >= 2 * against)


def _ranked(
    form: Form, candidates: Sequence[Candidate], model: Model, apart: Collection[int] = frozenset()
) -> list[Judged]:
    """Candidates that the registration links to or that a person should see, best first."""
    judged = []
    for candidate in candidates:
        if candidate.person_id not in apart:
            found = judge(form, candidate, model)
            if found is not None and found.verdict:
                judged.append(found)
    judged.sort(key=lambda j: (-j.verdict, -j.bits, j.candidate.born_order, j.candidate.person_id))
    return judged


def _chosen(
    form: Form, judged: Sequence[Judged], model: Model
) -> tuple[Judged | None, list[Judged], list[tuple[Judged, str]]]:
    """(whom the registration links to, whom it proves to be the same person, what a person is asked) of ranked candidates."""
    target: Judged | None = judged[0] if judged and judged[0].verdict == AUTO else None
    if target is None:
        return None, [], []
    joins: list[Judged] = []
    reviews: list[tuple[Judged, str]] = []
    members = [form, *target.candidate.forms]
    joined = {target.candidate.person_id}
    for other in judged[1:]:
        if other.verdict != AUTO:
            break
        if other.candidate.apart & joined or not united(members, other.candidate.forms, model, form):
            if target.bits - other.bits < _MARGIN:
                return None, [], [(j, "two_matches") for j in judged if j.verdict == AUTO]
            if not other.candidate.apart & joined and not forbidden(members, other.candidate.forms):
                reviews.append((other, "two_matches"))
        elif target.bits >= model.join and other.bits >= model.join:
            joins.append(other)
            joined.add(other.candidate.person_id)
            members += other.candidate.forms
        else:
            reviews.append((other, "two_matches"))
    return target, joins, reviews


def _grown(
    form: Form, target: Judged, joins: Sequence[Judged], judged: Sequence[Judged], model: Model
) -> list[Judged]:
    """Who else turns out to be the person that the registration has just made greater: as if the other's registrations came now.

    Only candidates that a person would be shown are asked again; every join may bring the next.
    """
    person = Candidate(
        target.candidate.person_id,
        [*target.candidate.forms, form, *(f for j in joins for f in j.candidate.forms)],
        target.candidate.born_order,
    )
    names = {person.person_id, *(j.candidate.person_id for j in joins)}
    rest = [j for j in judged if j.candidate.person_id not in names]
    found: list[Judged] = []
    for _ in range(len(rest)):
        for other in rest:
            if not other.candidate.apart & names and _now_one(person, other.candidate, rest, model):
                found.append(other)
                rest.remove(other)
                names.add(other.candidate.person_id)
                person.forms += other.candidate.forms
                break
        else:
            break
    return found


def _now_one(person: Candidate, other: Candidate, rest: Sequence[Judged], model: Model) -> bool:
    """Whether a registration of one of two persons would link to the other of the two, arriving now, before all the ``rest``."""
    if not united(person.forms, other.forms, model):
        return False
    lone = len(person.forms) == 1 or len(other.forms) == 1
    third = [j.candidate for j in rest if j.candidate is not other]
    for one, two in ((other, person), (person, other)):
        for form in one.forms:
            target, joins, _ = _chosen(form, _ranked(form, [two, *third], model), model)
            if target is None or (not lone and target.bits < model.join):
                continue
            if any(j.candidate is two for j in (target, *joins)):
                return True
    return False


def forbidden(a: Sequence[Form], b: Sequence[Form]) -> bool:
    """Whether any registration of one person vetoes any of another: nobody need be asked about them."""
    return any(vetoed(compare(x, y)) for x in a for y in b)


def decide(
    form: Form, candidates: Sequence[Candidate], model: Model, apart: Collection[int] = frozenset()
) -> Decision:
    """The decision on a registration among candidates; ``apart``: persons it was said never to belong to."""
    judged = _ranked(form, candidates, model, apart)
    if not judged:
        return Decision(None, 0.0, 0.0, CERTAINLY_NOT)
    best = judged[0]
    target, joins, reviews = _chosen(form, judged, model)
    if target is not None and len(judged) > 1 + len(joins):
        joins += _grown(form, target, joins, judged, model)
    gone = {id(j) for j in joins}
    reviews = [asked for asked in reviews if id(asked[0]) not in gone]
    renamed = {id(j) for j in judged if j.vector[_ID] == _OWN and j.vector[_NAME] in _NAME_OTHER}
    # The number says nothing of a new name when it is a guardian's, its holder was met before, or a desk types it for everybody.
    idle = (
        any(j.kind == "guardian" for j in judged)
        or (target is not None and target.vector[_ID] == _OWN)
        or len(renamed) >= _BEARERS
    )
    twins = (
        sum(j.kind == "newborn" and j.vector[_TWIN] == _TWIN_HALF for j in judged) > 1
    )  # nobody could tell which
    for j in judged:
        if twins and j.kind == "newborn" and j.vector[_TWIN] == _TWIN_HALF:
            continue
        if (
            j.verdict == REVIEW
            and id(j) not in gone
            and not (idle and id(j) in renamed)
            and (target is None or not forbidden(target.candidate.forms, j.candidate.forms))
        ):
            reviews.append((j, j.kind))
    shown = tuple(
        (j.candidate.person_id, kind, j.bits, parts(j.vector, form, j.best, model)) for j, kind in reviews
    )
    if target is None:
        chance = probability(best.bits)
        level = grade(best.bits, False, model)
        level = "probable" if level == CERTAIN else level
        return Decision(None, best.bits, chance, level, (), (), shown)
    return Decision(
        target.candidate.person_id,
        target.bits,
        probability(target.bits),
        CERTAIN,
        tuple(f"{f}.{LEVELS[f][v].code}" for f, v in zip(FIELDS, target.vector, strict=True) if v),
        parts(target.vector, form, target.best, model),
        shown,
        tuple(j.candidate.person_id for j in joins),
    )
