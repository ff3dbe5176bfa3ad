"""Made-up documents of every kind that fill every element of its table, in the ways three vendors write them.

"plain": as the standard's examples do.  "nested": another namespace prefix, no structuredBody, GB18030, organizers, codes without
names, no narrative.  "named": local codes with Chinese names only, elements below elements, sections by title, narrative.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from xml.sax.saxutils import escape

from lianxin.exchange.cda import elements, values
from lianxin.exchange.cda.elements import BY_KIND, Element
from lianxin.exchange.cda.kinds import KINDS
from lianxin.exchange.cda.measures import measure_of
from lianxin.exchange.cda.model import Code, Document, Value

DIALECTS = ("plain", "nested", "named")
Found = tuple[str, str, str]  # element, value, unit or code system


def norm(value: Value) -> tuple[str, str]:
    """A value for comparing: its content and its unit or code system."""
    if value.code is not None:
        code = value.code
        return (code.code or code.display or code.text), code.system
    if value.type == "TS":
        return value.text.ljust(14, "0"), ""
    if value.type in ("PQ", "REAL", "INT", "MO"):
        number = values.number(value.text)
        unit = {"元": "CNY"}.get(value.unit, value.unit)
        return str(float(number)) if number is not None else value.text, unit
    return value.data or value.text, ""


def said(document: Document) -> Counter[Found]:
    """Every data element with its value that a document says."""
    out: Counter[Found] = Counter()
    for entry in document.entries():
        for value in entry.values:
            if value and entry.element:
                out[(entry.element, *norm(value))] += 1
    return out


def _value(row: Element, n: int) -> Value:
    if row.type == "CD":
        if ".3.3.11" in row.value_set:
            return Value(
                "CD", code=Code(f"{'ABCDEIJK'[n % 8]}{10 + n % 89}.{n % 10}00", row.value_set, f"疾病{n}")
            )
        return Value(
            "CD", code=Code(str(n % 97 + 1), row.value_set or "2.16.156.10011.2.3.1.999", f"选项{n}")
        )
    if row.type == "PQ":
        measure = measure_of(row.code, row.name)
        unit = (
            row.name[row.name.rfind("(") + 1 : -1]
            if row.name.endswith(")")
            else measure.unit
            if measure
            else ""
        )
        return Value("PQ", str(20 + n % 90 + 0.5), unit)
    if row.type == "BL":
        return Value("BL", "true" if n % 2 else "false")
    if row.type == "TS":
        return Value("TS", f"202601{n % 27 + 1:02}{n % 24:02}{n % 60:02}00")
    if row.type == "INT":
        return Value("INT", str(n % 9 + 1))
    if row.type == "REAL":
        return Value("REAL", str(n + 0.25))
    if row.type == "MO":
        return Value("MO", str(n + 0.5), "元")
    return Value(row.type if row.type == "ED" else "ST", f"{row.name}：内容<{n}>&“号”")


def _xml(value: Value, p: str) -> str:
    if value.code is not None:
        c = value.code
        return f'<{p}value xsi:type="CD" code="{c.code}" codeSystem="{c.system}" displayName="{c.display}"/>'
    if value.type in ("PQ", "BL", "TS", "INT", "REAL", "MO"):
        unit = f' {"currency" if value.type == "MO" else "unit"}="{value.unit}"' if value.unit else ""
        return f'<{p}value xsi:type="{value.type}" value="{value.text}"{unit}/>'
    return f'<{p}value xsi:type="{value.type}">{escape(value.text)}</{p}value>'


class Sample:
    """One made-up document: ``data`` and the elements it says (``said``)."""

    def __init__(self, number: str, dialect: str = "plain", seed: int = 0) -> None:
        self.kind, self.dialect = KINDS[number], dialect
        self.p = "v3:" if dialect == "nested" else ""
        self.n = seed * 1000 + int(number.partition(".")[2]) * 7
        self.said: Counter[Found] = Counter()
        body = "".join(self._section(rows) for rows in self._sections())
        self.data = self._document(body).encode("gb18030" if dialect == "nested" else "utf-8")

    def _sections(self) -> Iterable[list[Element]]:
        out: dict[str, list[Element]] = {}
        for row in BY_KIND[self.kind.number]:
            out.setdefault(row.key, []).append(row)
        return out.values()

    def _observation(self, row: Element, inner: str = "") -> str:
        self.n += 1
        value = _value(row, self.n)
        self.said[(row.code, *norm(value))] += 1
        p = self.p
        if self.dialect == "plain":
            code = f'<{p}code code="{row.code}" codeSystem="{elements.SYSTEM}" displayName="{row.name}"/>'
        elif self.dialect == "nested":
            code = f'<{p}code code="{row.code}" codeSystem="{elements.SYSTEM}"/>'
        elif elements.understand(self.kind.number, row.key, "L1", "", row.name) == row.code:
            code = f'<{p}code code="L{self.n}" codeSystem="1.2.156.999" displayName="{row.name}"/>'
        else:
            code = f'<{p}code code="{row.code}" displayName="{row.name}"/>'
        return (
            f'<{p}observation classCode="OBS" moodCode="EVN">{code}{_xml(value, p)}{inner}</{p}observation>'
        )

    def _section(self, rows: list[Element]) -> str:
        p, first = self.p, rows[0]
        title = elements.TITLES.get(first.section_code) or first.section
        if self.dialect == "named":
            head = f'<code displayName="{title}"/><title>{title}</title><text><paragraph>{title}：见条目</paragraph></text>'
        elif first.section_code:
            head = f'<{p}code code="{first.section_code}" codeSystem="{elements.LOINC}" displayName="{first.section}"/><{p}text/>'
        else:
            head = f'<{p}code displayName="{first.section}"/><{p}text/>'
        if self.dialect == "plain":
            body = "".join(f"<entry>{self._observation(r)}</entry>" for r in rows)
        elif self.dialect == "nested":
            groups = [rows[i : i + 4] for i in range(0, len(rows), 4)]
            body = "".join(
                f'<{p}entry><{p}organizer classCode="CLUSTER" moodCode="EVN"><{p}statusCode/>'
                + "".join(f"<{p}component>{self._observation(r)}</{p}component>" for r in g)
                + f"</{p}organizer></{p}entry>"
                for g in groups
            )
        else:
            body, i = "", 0
            while i < len(rows):
                inner = ""
                if i % 3 == 2 and i + 1 < len(rows):
                    inner = f'<entryRelationship typeCode="COMP">{self._observation(rows[i + 1])}</entryRelationship>'
                body += f"<entry>{self._observation(rows[i], inner)}</entry>"
                i += 2 if inner else 1
        return f"<{p}component><{p}section>{head}{body}</{p}section></{p}component>"

    def _document(self, body: str) -> str:
        p, kind = self.p, self.kind
        ns = "xmlns:v3" if p else "xmlns"
        encoding = "GBK" if self.dialect == "nested" else "UTF-8"
        template = f'<{p}templateId root="{kind.template}"/>' if self.dialect != "named" else ""
        code = (
            f'<{p}code code="{kind.code}" codeSystem="2.16.156.10011.2.4"/>'
            if self.dialect != "nested"
            else ""
        )
        if self.dialect != "nested":
            body = f"<component><structuredBody>{body}</structuredBody></component>"
        return f"""<?xml version="1.0" encoding="{encoding}"?>
<{p}ClinicalDocument {ns}="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
<{p}realmCode code="CN"/><{p}typeId root="2.16.840.1.113883.1.3" extension="POCD_MT000040"/>{template}
<{p}id root="2.16.156.10011.1.1" extension="{kind.number}-{self.dialect}-{self.n}"/>{code}<{p}title>{kind.zh}</{p}title>
<{p}effectiveTime value="20260105093000"/><{p}confidentialityCode code="N" codeSystem="2.16.840.1.113883.5.25"/>
<{p}languageCode code="zh-CN"/><{p}setId/><{p}versionNumber/>
<{p}recordTarget><{p}patientRole><{p}id root="2.16.156.10011.1.12" extension="ZY{self.n}"/>
<{p}patient><{p}id root="2.16.156.10011.1.3" extension="11010519491231002X"/><{p}name>样例甲</{p}name>
<{p}administrativeGenderCode code="2" codeSystem="2.16.156.10011.2.3.3.4"/><{p}birthTime value="19491231"/></{p}patient></{p}patientRole></{p}recordTarget>
<{p}author><{p}time value="20260105091500"/><{p}assignedAuthor><{p}id root="2.16.156.10011.1.4" extension="D7"/>
<{p}assignedPerson><{p}name>样例医生</{p}name></{p}assignedPerson></{p}assignedAuthor></{p}author>
<{p}custodian><{p}assignedCustodian><{p}representedCustodianOrganization><{p}id root="2.16.156.10011.1.5" extension="330000001"/>
<{p}name>样例医院</{p}name></{p}representedCustodianOrganization></{p}assignedCustodian></{p}custodian>
{body}</{p}ClinicalDocument>"""
