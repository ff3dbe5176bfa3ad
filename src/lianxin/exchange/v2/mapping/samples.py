"""Synthetic messages in the manner of many makers: to begin with, and to test a mapping on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from lianxin.exchange.v2.mapping import reading, sheets
from lianxin.exchange.v2.mapping.tables import DATA
from lianxin.standards.text import T, Text


@dataclass(frozen=True)
class Sample:
    """One message to try a mapping on. ``text`` has its segments on lines."""

    name: str
    title: Text
    kind: tuple[str, str]
    text: str

    @property
    def mapping(self) -> str:
        """The built-in mapping it is for."""
        return sheets.by_event().get(self.kind, "")

    def data(self) -> bytes:
        """As it comes over the wire, in the character set it names."""
        return encoded(self.text)


def encoded(text: str) -> bytes:
    """A message that was typed or pasted, as its sender would send it: CR after segments, in the character set of MSH-18."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n").strip("\n \ufeff")
    if plain.splitlines() and "GB" in plain.splitlines()[0].upper().rsplit(plain[3:4] or "|", 1)[-1]:
        return plain.replace("\n", "\r").encode("gb18030")
    return plain.replace("\n", "\r").encode()


@cache
def built_in() -> dict[str, Sample]:
    """Every shipped sample by its name."""
    out = {}
    for name, body in reading.read((DATA / "samples.yaml").read_text(encoding="utf-8")).data.items():
        zh, _, en = body["title"].partition(" / ")
        if zh.isascii():
            zh, en = en, zh
        code, _, event = body["kind"].partition("^")
        out[name] = Sample(name, T(zh.strip(), en.strip()), (code, event), body["text"])
    return out


def of_mapping(name: str) -> list[Sample]:
    """The shipped samples a mapping is tested on."""
    return [s for s in built_in().values() if s.mapping == name]


__all__ = ["Sample", "built_in", "encoded", "of_mapping"]
