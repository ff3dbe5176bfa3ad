"""What a clinical document says, whoever wrote it: CDA R2 as plain objects, nothing dropped.

:func:`lianxin.exchange.cda.reading.read` makes a :class:`Document`; :func:`lianxin.exchange.cda.writing.write` takes a
:class:`Header` (a ``Document`` is one) for everything outside the body.  Times are the lexical TS of CDA
(``YYYY[MM[DD[hhmm[ss]]]][±zzzz]``); OIDs stand without ``urn:oid:``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from lianxin.exchange.cda.kinds import Kind
from lianxin.standards.text import Text


@dataclass(slots=True)
class Code:
    """CD, CE, CV, CS: ``system`` is an OID (or what the sender gave); ``text`` is the originalText."""

    code: str = ""
    system: str = ""
    display: str = ""
    system_name: str = ""
    text: str = ""
    null: str = ""
    others: list[Code] = field(default_factory=list)  # translations, qualifiers' values

    @property
    def label(self) -> str:
        """What a person reads: display, original text, or the code itself."""
        return self.display or self.text or self.code

    def __bool__(self) -> bool:
        return bool(self.code or self.display or self.text or self.others)


_NOTHING = Code()


def _nothing() -> Code:
    """No code: one object for the many slots of an entry that are hardly ever filled. It is replaced, never changed."""
    return _NOTHING


@dataclass(slots=True)
class Id:
    """II. ``extension`` is empty when the root says it all."""

    root: str = ""
    extension: str = ""
    authority: str = ""

    def __bool__(self) -> bool:
        return bool(self.root or self.extension)

    def __str__(self) -> str:
        return f"{self.root}^{self.extension}" if self.extension else self.root


@dataclass(slots=True)
class Value:
    """A value of any type. ``type`` is the xsi:type without prefix and generic parameters ("ST" when none was given).

    ``text``: ST and ED text, or the lexical ``value`` of BL, INT, REAL, PQ, MO, TS; ``unit``: of PQ, the currency of MO;
    ``low``/``high``: of intervals, numerator and denominator of RTO; ``data``: base64 of ED.
    """

    type: str = "ST"
    text: str = ""
    unit: str = ""
    code: Code | None = None
    id: Id | None = None
    low: Value | None = None
    high: Value | None = None
    media_type: str = ""
    data: str = ""
    null: str = ""

    def __bool__(self) -> bool:
        """Whether it says anything (a nullFlavor does not)."""
        return bool(self.text or self.code or self.id or self.low or self.high or self.data)


@dataclass(slots=True)
class Org:
    """An organisation, department or ward; ``part_of`` is the one it belongs to."""

    ids: list[Id] = field(default_factory=list)
    name: str = ""
    phone: str = ""
    address: str = ""
    part_of: Org | None = None

    def __bool__(self) -> bool:
        return bool(self.ids or self.name or self.part_of)

    def chain(self) -> Iterator[Org]:
        """Itself and everything it is part of, the smallest first."""
        one: Org | None = self
        while one is not None:
            yield one
            one = one.part_of


@dataclass(slots=True)
class Party:
    """Whoever takes part: author, authenticator, custodian, participant, performer, informant.

    ``role``: the element ("author", "legalAuthenticator", "participant", "performer" …), ``type``: its typeCode,
    ``function``: what the sender calls the part played (责任医师, 审核药师 …), ``thing``: a playing entity (device, drug).
    """

    role: str = ""
    type: str = ""
    time: str = ""
    ids: list[Id] = field(default_factory=list)
    function: Code = field(default_factory=Code)
    name: str = ""
    org: Org | None = None
    phone: str = ""
    address: str = ""
    signature: str = ""
    thing: Code = field(default_factory=Code)
    thing_text: str = ""

    def __bool__(self) -> bool:
        return bool(
            self.ids or self.name or self.org or self.function or self.thing or self.thing_text or self.phone
        )


@dataclass(slots=True)
class Range:
    """A reference range: bounds, or words."""

    text: str = ""
    value: Value | None = None


@dataclass(slots=True)
class Product:
    """A drug, vaccine or material of an entry."""

    code: Code = field(default_factory=Code)
    name: str = ""
    ids: list[Id] = field(default_factory=list)
    lot: str = ""
    maker: str = ""

    def __bool__(self) -> bool:
        return bool(self.code or self.name or self.ids or self.lot)


@dataclass(slots=True, eq=False)
class Entry:
    """One clinical statement with everything below it.

    ``tag``: observation, organizer, procedure, substanceAdministration, act, encounter, supply, observationMedia,
    regionOfInterest.  ``element``: the data element (DE…) it was understood as ("" unknown), ``label``: its name.
    ``rest``: (place, text) of whatever has no slot here.
    """

    tag: str = "observation"
    place: str = ""
    element: str = ""
    label: str = ""
    code: Code = field(default_factory=Code)
    mood: str = "EVN"
    klass: str = ""
    negated: bool = False
    ids: list[Id] = field(default_factory=list)
    templates: list[str] = field(default_factory=list)
    status: str = ""
    times: list[Value] = field(default_factory=list)
    text: str = ""
    values: list[Value] = field(default_factory=list)
    interpretation: list[Code] = field(default_factory=list)
    method: Code = field(default_factory=_nothing)
    site: Code = field(default_factory=_nothing)
    priority: Code = field(default_factory=_nothing)
    ranges: list[Range] = field(default_factory=list)
    parties: list[Party] = field(default_factory=list)
    product: Product | None = None
    route: Code = field(default_factory=_nothing)
    form: Code = field(default_factory=_nothing)
    dose: Value | None = None
    rate: Value | None = None
    repeat: Value | None = None
    quantity: Value | None = None
    relation: str = ""  # typeCode by which it hangs on the entry above
    parts: list[Entry] = field(default_factory=list)
    rest: list[tuple[str, str]] = field(default_factory=list)

    def walk(self) -> Iterator[Entry]:
        """Itself and all entries below, in the order of the document."""
        yield self
        for part in self.parts:
            yield from part.walk()


@dataclass(slots=True, eq=False)
class Section:
    """A section. ``key``: its code, or its Chinese title when it has none; ``html``: the narrative as safe XHTML."""

    key: str = ""
    code: Code = field(default_factory=Code)
    title: str = ""
    text: str = ""
    html: str = ""
    templates: list[str] = field(default_factory=list)
    ids: list[Id] = field(default_factory=list)
    parties: list[Party] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    place: str = ""
    rest: list[tuple[str, str]] = field(default_factory=list)

    def walk(self) -> Iterator[Section]:
        """Itself and all sections below, in order."""
        yield self
        for section in self.sections:
            yield from section.walk()


@dataclass(slots=True)
class Patient:
    """recordTarget. ``ids``: all numbers as sent; the three below are picked from them by their roots."""

    ids: list[Id] = field(default_factory=list)
    resident_id: str = ""
    card: str = ""
    record_number: str = ""  # 健康档案编号
    name: str = ""
    sex: Code = field(default_factory=Code)  # GB/T 2261.1
    birth: str = ""
    age: Value | None = None
    marital: Code = field(default_factory=Code)
    ethnic: Code = field(default_factory=Code)
    nationality: Code = field(default_factory=Code)
    occupation: Code = field(default_factory=Code)
    education: Code = field(default_factory=Code)
    kind: Code = field(default_factory=Code)  # 患者类型
    employer: str = ""
    addresses: list[str] = field(default_factory=list)
    phones: list[str] = field(default_factory=list)
    guardian: Party | None = None
    birth_place: str = ""
    provider: Org | None = None


@dataclass(slots=True)
class Encounter:
    """componentOf: the stay or visit the document belongs to. ``location``: bed, room, ward, department, hospital."""

    ids: list[Id] = field(default_factory=list)
    code: Code = field(default_factory=Code)
    time: Value | None = None
    discharge: Code = field(default_factory=Code)
    location: Org | None = None
    parties: list[Party] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.ids or self.time or self.location or self.code or self.parties)


@dataclass(slots=True)
class Related:
    """relatedDocument: ``type`` RPLC (replaces), APND (appends) or XFRM (transforms)."""

    type: str
    id: Id = field(default_factory=Id)
    set_id: Id = field(default_factory=Id)
    version: str = ""


@dataclass(slots=True)
class Header:
    """Everything of a document outside its body; :func:`writing.write` takes it, times as TS."""

    id: Id = field(default_factory=Id)
    set_id: Id = field(default_factory=Id)
    version: str = ""
    time: str = ""
    title: str = ""
    code: Code = field(default_factory=Code)
    confidentiality: Code = field(default_factory=Code)
    language: str = ""
    patient: Patient = field(default_factory=Patient)
    authors: list[Party] = field(default_factory=list)
    custodian: Org | None = None
    legal: Party | None = None
    authenticators: list[Party] = field(default_factory=list)
    participants: list[Party] = field(default_factory=list)
    enterer: Party | None = None
    informants: list[Party] = field(default_factory=list)
    recipients: list[Party] = field(default_factory=list)
    orders: list[Id] = field(default_factory=list)
    services: list[Entry] = field(default_factory=list)
    related: list[Related] = field(default_factory=list)
    encounter: Encounter | None = None


@dataclass(slots=True)
class Document(Header):
    """A document read. ``body``: what a document without sections carries (nonXMLBody); ``encoding``: what it was written in.

    ``kind`` is None for a document of neither standard; ``foreign`` then tells C-CDA ("c-cda") from any other CDA ("cda").
    """

    kind: Kind | None = None
    foreign: str = ""
    templates: list[str] = field(default_factory=list)
    realm: str = ""
    sections: list[Section] = field(default_factory=list)
    body: Value | None = None
    rest: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[Text] = field(default_factory=list)
    encoding: str = "utf-8"

    def all_sections(self) -> Iterator[Section]:
        """Every section, nested ones too, in order."""
        for section in self.sections:
            yield from section.walk()

    def entries(self) -> Iterator[Entry]:
        """Every entry of every section, in order, with all that hang below them."""
        for section in self.all_sections():
            for entry in section.entries:
                yield from entry.walk()

    @property
    def key(self) -> str:
        """What stays the same when a new version replaces the document: its set, else its own id."""
        return str(self.set_id) if self.set_id.extension or self._set_alone() else str(self.id)

    def _set_alone(self) -> bool:
        """Whether the set's root is an id by itself (a UUID), not only the OID of a number space."""
        return "-" in self.set_id.root
