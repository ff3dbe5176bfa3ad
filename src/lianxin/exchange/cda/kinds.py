"""The kinds of shared documents, as data (``data/kinds.tsv``): number, code, template, names, setting, LOINC type.

``setting`` is the class of the visit such a document belongs to (AMB, IMP, EMER, HH of v3-ActCode; "" when it may be any).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lianxin.standards.text import T, Text

DATA = Path(__file__).parent / "data"
CODES = "2.16.156.10011.2.4"
"""Code system of the kinds (卫生信息共享文档规范编码体系)."""
TEMPLATES = "2.16.156.10011.2.1.1."


@dataclass(frozen=True)
class Kind:
    """One kind of document: ``number`` is standard and part ("500.49"), ``code`` what stands in ClinicalDocument/code."""

    number: str
    code: str
    template: str
    zh: str
    en: str
    setting: str
    loinc: str
    aliases: tuple[str, ...] = ()

    @property
    def label(self) -> Text:
        """Its name in both languages."""
        return T(self.zh, self.en)

    @property
    def standard(self) -> str:
        """The standard and part, as it is cited."""
        standard, _, part = self.number.partition(".")
        return f"WS/T {standard}.{part}-2016"


def rows(name: str) -> Iterator[dict[str, str]]:
    """Rows of a table of ``data/``, without its comments."""
    with (DATA / name).open(encoding="utf-8") as file:
        lines = (line.rstrip("\n").split("\t") for line in file if not line.startswith("#"))
        columns = next(lines)
        for line in lines:
            yield dict(zip(columns, line, strict=True))


def plain(name: str) -> str:
    """A name for comparing: half-width, without blanks, brackets, quotes and punctuation; lower case."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name)).lower()


KINDS: dict[str, Kind] = {
    row["number"]: Kind(**{**row, "aliases": tuple(filter(None, row["aliases"].split(";")))})  # type: ignore[arg-type]
    for row in rows("kinds.tsv")
}
_BY_TEMPLATE = {kind.template: kind for kind in KINDS.values()}
_BY_CODE = {kind.code.upper(): kind for kind in KINDS.values()}
_BY_NAME = {plain(name): kind for kind in reversed(KINDS.values()) for name in (kind.zh, *kind.aliases)}


def find(templates: Iterable[str] = (), code: str = "", title: str = "") -> Kind | None:
    """The kind of a document by its template ids, else its code, else its title; None when it is of neither standard."""
    for template in templates:
        if found := _BY_TEMPLATE.get(template):
            return found
    if found := _BY_CODE.get(code.strip().upper()):
        return found
    return _BY_NAME.get(plain(title)) if title else None
