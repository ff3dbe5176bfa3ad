"""Whose rows are: the institution's Patient by the local number (or the identity number with the name), looked up for many rows at once.

What is not known yet is made, when the row says a name, exactly as every other door makes it (:mod:`lianxin.exchange.feeds.people`).  A
number known under another name is not believed: the row is refused.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lianxin.exchange.feeds import people as common
from lianxin.exchange.tables.convert import Converted, Values
from lianxin.index.golden import RESIDENT_ID_SYSTEM
from lianxin.record import bodies, definitions, store, text
from lianxin.record.keys import blind, key_system_code
from lianxin.record.store import Write
from lianxin.standards.text import T

MOST = 200_000
"""People remembered by a run."""
NOBODY = "new-"
"""Begins what stands for the id of somebody who would be registered (dry runs)."""
IDENTIFIER_TYPE = "http://terminology.hl7.org/CodeSystem/v2-0203"
Number = tuple[str, str]

_OTHER_NAME = T(
    "该号码已登记为另一人（姓名不同），请核对院内号与姓名。",
    "This number is registered for somebody with another name; check the number and the name.",
)
_NO_NAME = T(
    "本机构尚未登记此人，且该行没有姓名，无法登记；请先上报居民名册或补上姓名列。",
    "Nobody is registered under this number, and the row has no name to register; send the list of residents first or add the names.",
)


@dataclass(slots=True)
class Known:
    """A Patient of the institution: its id, the name as one word, its identity number."""

    patient_id: str
    name: str
    id_no: str


@dataclass
class Found:
    """What the rows of a chunk need written first, and what was learned (remembered only when it is committed)."""

    writes: list[Write] = field(default_factory=list)
    learned: dict[Number, Known] = field(default_factory=dict)


class People:
    """The Patients of one institution, as a run meets them. ``full``: rows are about the person itself and bring it up to date."""

    def __init__(self, institution_id: int, system: str, *, full: bool = False) -> None:
        self.institution_id, self.system, self.full = institution_id, system, full
        self._held: dict[Number, Known] = {}

    def number_of(self, values: Values) -> Number:
        """System and value by which a row names its person."""
        local = values.get("patient_no")
        return (self.system, local) if local else (document_system(values), values["id_no"])

    def commit(self, found: Found) -> None:
        """What was learned is certain now."""
        if len(self._held) + len(found.learned) > MOST:
            self._held.clear()
        self._held.update(found.learned)

    def resolve(self, cur: Any, rows: Sequence[Converted], *, dry: bool = False) -> Found:
        """Put ``patient`` among the values of every row, or say why not; ``dry``: nothing is locked, nobody is made."""
        out = Found()
        wanted: dict[Number, list[Converted]] = {}
        for one in rows:
            if not one.wrong:
                wanted.setdefault(self.number_of(one.values), []).append(one)
        unknown = [n for n in wanted if self.full or n not in self._held]
        stored = self._stored(cur, unknown)
        if not dry:
            fresh = [n for n in unknown if n not in stored or n[0] != self.system]
            if fresh or self.full:
                store.lock(cur, [f"Patient#{value}" for _, value in (unknown if self.full else fresh)])
                stored = self._stored(cur, unknown)  # as they stand under the locks
        tables = self._as_tables(cur, [n for n in unknown if n not in stored])
        for number, mine in wanted.items():
            self._settle(cur, number, mine, stored.get(number, []), number in tables, out, dry)
        return out

    def _settle(
        self,
        cur: Any,
        number: Number,
        mine: list[Converted],
        stored: list[dict[str, Any]],
        table: bool,
        out: Found,
        dry: bool,
    ) -> None:
        known = None if self.full else self._held.get(number)
        body = self._fitting(number, mine, stored) if known is None else None
        if body is not None:
            known = out.learned[number] = Known(body["id"], common.name_of(body), _id_no(body))
        if known is None:
            named = next((one for one in mine if one.values.get("name")), None)
            if named is None:
                for one in mine:
                    one.wrong.append(("name", _NO_NAME))
                return
            known = out.learned[number] = self._made(cur, number, named.values, table, out, dry)
        for one in mine:
            if _another(known, one.values):
                one.wrong.append(("name", _OTHER_NAME))
                continue
            one.values["patient"] = f"Patient/{known.patient_id}"
            one.values["patient.id"] = known.patient_id
        if self.full and body is not None:
            self._brought_up(number, mine, body, out)

    def _fitting(
        self, number: Number, mine: list[Converted], stored: list[dict[str, Any]]
    ) -> dict[str, Any] | None:
        """The Patient meant: under a number of the person itself only one of the same name."""
        if number[0] == self.system:
            return stored[0] if stored else None
        names = {_name(one.values) for one in mine} - {""}
        return next((b for b in stored if not names or common.name_of(b) in names), None)

    def _made(self, cur: Any, number: Number, values: Values, table: bool, out: Found, dry: bool) -> Known:
        said = patient_of(values, self.system)
        if dry:
            pid = f"{NOBODY}{len(out.writes)}"
            out.writes.append(Write("create", "Patient", pid, {**said, "id": pid}, trusted=True))
            return Known(pid, common.name_of(said), values.get("id_no", ""))
        if table:
            ready = common.prepare(cur, self.institution_id, said, [number])
            if ready.write is not None:
                out.writes.append(ready.write)
            return Known(ready.patient_id, common.name_of(ready.resource), _id_no(ready.resource))
        pid = str(uuid.uuid4())
        out.writes.append(Write("create", "Patient", pid, {**said, "id": pid}, trusted=True))
        return Known(pid, common.name_of(said), values.get("id_no", ""))

    def _brought_up(self, number: Number, mine: list[Converted], body: dict[str, Any], out: Found) -> None:
        """The person as the last row of the chunk says it."""
        said = [one for one in mine if not one.wrong]
        if not said:
            return
        after = body
        for one in said:
            after = common.overlay(after, patient_of(one.values, self.system))
        resource = {**after, "id": body["id"]}
        if {k: v for k, v in resource.items() if k != "meta"} != {
            k: v for k, v in body.items() if k != "meta"
        }:
            out.writes.append(Write("update", "Patient", body["id"], resource, trusted=True))

    def _stored(self, cur: Any, numbers: Iterable[Number]) -> dict[Number, list[dict[str, Any]]]:
        """Patients of the institution that bear one of these numbers."""
        asked = set(numbers)
        if not asked:
            return {}
        n = definitions.sources("Patient", "identifier")[0].number
        keys = [key_system_code(n, system, blind(value)) for system, value in asked]
        cur.execute(
            "SELECT body FROM record_resource WHERE keys && %s::bigint[] AND rtype = 'Patient' AND institution_id = %s AND NOT deleted"
            " ORDER BY rid",
            [keys, self.institution_id],
            prepare=True,
        )
        found: dict[Number, list[dict[str, Any]]] = {}
        for (packed,) in cur.fetchall():
            body = text.parse(bodies.unpack(bytes(packed)))
            if body.get("active") is False:
                continue
            for one in body.get("identifier", []):
                number = (one.get("system", ""), one.get("value", ""))
                if number in asked and one.get("use") != "old":
                    found.setdefault(number, []).append(body)
        return found

    def _as_tables(self, cur: Any, numbers: Sequence[Number]) -> set[Number]:
        """Those known to the index from a list of people, without a Patient of their own yet."""
        locals_ = [value for system, value in numbers if system == self.system]
        if not locals_:
            return set()
        cur.execute(
            "SELECT local_id FROM index_sourcerecord WHERE institution_id = %s AND system = %s AND local_id = ANY(%s::text[])",
            [self.institution_id, self.system, locals_],
        )
        return {(self.system, row[0]) for row in cur.fetchall()}


def document_system(values: Values) -> str:
    """The system of a row's identity number, by the kind of document it says or the number looks like."""
    number, kind = values["id_no"], values.get("id_type", "")
    if kind in ("", "01") and len(number) in (15, 18) and number[:-1].isdigit():
        return RESIDENT_ID_SYSTEM
    return f"http://lianxin.example/id/document-{kind if kind not in ('', '01') else '99'}"


def _name(values: Values) -> str:
    return "".join(values.get("name", "").split()).casefold()


def _another(known: Known, values: Values) -> bool:
    """Whether a row clearly speaks of somebody else: another name, and no identity number that agrees."""
    name = _name(values)
    if not name or not known.name or name == known.name:
        return False
    return not (known.id_no and values.get("id_no") == known.id_no)


def _id_no(body: dict[str, Any]) -> str:
    return next(
        (
            str(i["value"])
            for i in body.get("identifier", [])
            if i.get("system") == RESIDENT_ID_SYSTEM and i.get("value")
        ),
        "",
    )


def patient_of(values: Values, system: str) -> dict[str, Any]:
    """What a row says about the person, as a Patient."""
    identifiers: list[dict[str, Any]] = []
    if local := values.get("patient_no"):
        identifiers.append(
            {
                "type": {"coding": [{"system": IDENTIFIER_TYPE, "code": "MR"}]},
                "system": system,
                "value": local,
            }
        )
    if number := values.get("id_no"):
        system_of = document_system(values)
        identifiers.append(
            {
                **({"use": "official"} if system_of == RESIDENT_ID_SYSTEM else {}),
                "system": system_of,
                "value": number,
            }
        )
    made: dict[str, Any] = {"resourceType": "Patient", "identifier": identifiers, "active": True}
    if values.get("name"):
        made["name"] = [{"use": "official", "text": values["name"]}]
    if values.get("phone"):
        digits = "".join(c for c in values["phone"] if c.isdigit())
        use = "mobile" if len(digits) == 11 and digits.startswith("1") else "home"
        made["telecom"] = [{"system": "phone", "value": values["phone"], "use": use}]
    if values.get("sex"):
        made["gender"] = values["sex"]
    if values.get("birth_date"):
        made["birthDate"] = values["birth_date"]
    if values.get("died_on"):
        made["deceasedDateTime"] = values["died_on"]
    if values.get("address"):
        made["address"] = [{"use": "home", "text": values["address"]}]
    return made
