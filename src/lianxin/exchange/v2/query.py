"""PIX v2 Query: QBP^Q23 answered by RSP^K23, by the same rules of access as ITI-83 (IHE ITI TF-2, ITI-9)."""

from __future__ import annotations

from typing import Any

from lianxin.access import audit, journal
from lianxin.exchange.ihe import domains, identifiers, pixm
from lianxin.exchange.ihe.identifiers import Held
from lianxin.exchange.v2 import errors, kinds
from lianxin.exchange.v2.errors import Place, Refused
from lianxin.exchange.v2.kinds import Outcome, Taken
from lianxin.exchange.v2.message import Segment
from lianxin.exchange.v2.writing import segment
from lianxin.standards.text import T

KIND = ("RSP", "K23", "RSP_K23")
NO_NAME = ["", ("", "", "", "", "", "", "S")]
"""PID-5 of an answer: no name is given (IHE ITI TF-2, 3.9.4.2.2.5)."""
MOST_TARGETS = 50


def register() -> None:
    """Take these messages."""
    kinds.register("QBP", ("Q23",), query, letter="s", reads=True)


def query(cur: Any, taken: Taken) -> Outcome:
    """The identifiers of whoever has QPD-3, in the domains of QPD-4 (none: all)."""
    qpd = taken.message.first("QPD")
    if qpd is None:
        raise Refused(errors.SEQUENCE, T("缺少 QPD 段。", "The segment QPD is missing."), Place("QPD"))
    try:
        source = _source(taken, qpd)
        targets = _targets(cur, taken, qpd)
        person_id = pixm.resolve(cur, taken.scope, "", *source)
        if person_id is None:
            known = domains.known(cur, source[0])
            raise _unknown(Place("QPD", 1, 3, 0 if known else 4))
    except Refused as refused:
        return _answer(taken, qpd, [], [refused])
    held = pixm.visible_to(cur, taken.scope, identifiers.of_person(cur, person_id), set(targets))
    held = [h for h in held if (h.system, h.value) != source]
    detail = {"transaction": "ITI-9", "identifiers": len(held)}
    journal.keep([audit.entry(taken.scope, "search", person_id=person_id, what="QBP^Q23", detail=detail)])
    return _answer(taken, qpd, held, [], person_id)


def _source(taken: Taken, qpd: Segment) -> tuple[str, str]:
    """System and value of QPD-3."""
    value = qpd.text(3).strip()
    if not value:
        raise Refused(
            errors.REQUIRED,
            T("缺少查询的患者标识 QPD-3。", "The patient identifier QPD-3 is missing."),
            Place("QPD", 1, 3),
        )
    namespace, universal, kind = (*qpd.subs(3, 4), "", "", "")[:3]
    system = domains.of_authority(
        taken.institution_id, namespace.strip(), universal.strip(), kind.strip(), taken.default_system
    )
    return system, value


def _targets(cur: Any, taken: Taken, qpd: Segment) -> list[str]:
    """The systems of QPD-4; an unknown one, or one that is not open to the asker, is refused."""
    out: list[str] = []
    for n, _ in enumerate(qpd.repetitions(4)[:MOST_TARGETS], 1):
        namespace, universal, kind = (*(s.strip() for s in qpd.subs(4, 4, n)), "", "", "")[:3]
        if not namespace and not universal:
            continue
        system = domains.of_authority(taken.institution_id, namespace, universal, kind, "")
        if not domains.target_open(cur, taken.scope, system):
            raise Refused(
                errors.UNKNOWN_KEY,
                T(
                    "QPD-4 的标识域不存在或未向您开放。",
                    "A domain of QPD-4 is not known, or not open to you.",
                ),
                Place("QPD", 1, 4, 0, n),
            )
        out.append(system)
    return out


def _unknown(place: Place) -> Refused:
    return Refused(
        errors.UNKNOWN_KEY,
        T("没有您可查询的该患者标识。", "There is no such identifier that you may ask about."),
        place,
    )


def _answer(
    taken: Taken, qpd: Segment, held: list[Held], refused: list[Refused], person_id: int | None = None
) -> Outcome:
    marks = taken.message.separators
    code = "AE" if refused else "AA"
    status = "AE" if refused else "OK" if held else "NF"
    lines = [
        segment("QAK", qpd.text(2), status, marks=marks),
        marks.field.join(["QPD", *qpd.fields[1:]]),
    ]
    if held:
        numbers = [(h.value, "", "", domains.authority_of(h.system, h.institution_id), "PI") for h in held]
        lines.append(segment("PID", "", "", numbers, "", NO_NAME, marks=marks))
    return Outcome(person_id, code=code, kind=KIND, segments=lines, errors=refused)
