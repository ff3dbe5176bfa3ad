"""Questions for the differential test: made from what the resources say, so that most of them find something."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

from lianxin.record import definitions
from tests.record.oracle import (
    Official,
    Oracle,
    amount,
    reference_of,
    split,
    texts,
    times,
    token_texts,
    tokens,
)

PREFIXES = ("", "eq", "ne", "gt", "ge", "lt", "le", "sa", "eb")
Pair = tuple[str, str]


def escaped(text: str) -> str:
    """Text as one value of a search."""
    for mark in "\\,|$":
        text = text.replace(mark, "\\" + mark)
    return text


class Asker:
    """Makes questions about one oracle's resources."""

    def __init__(self, oracle: Oracle, seed: int) -> None:
        self.oracle, self.dice = oracle, random.Random(seed)
        self.known: dict[str, list[str]] = {}
        for rtype, found in oracle.by_type.items():
            sample = found if len(found) < 60 else self.dice.sample(found, 60)
            self.known[rtype] = [
                p.code for p in oracle.table(rtype).values() if p.kind != "special" and self._some(sample, p)
            ]

    def _some(self, sample: list[dict[str, Any]], param: Official) -> bool:
        if param.kind == "composite":
            return any(all(all(c) for c in i) for r in sample for i in self.oracle._items(r, param) if i)
        return any(self.oracle.values(r, param) for r in sample)

    def resource(self, rtype: str) -> dict[str, Any]:
        """Some resource of a type."""
        return self.dice.choice(self.oracle.by_type[rtype])

    def value(self, rtype: str, param: Official) -> tuple[str, str] | None:
        """(modifier, value) that some resource of the type suggests; None when a few tries find none."""
        for _ in range(20):
            one = self.resource(rtype)
            if param.kind == "composite":
                made = self._composite(one, param)
            else:
                found = self.oracle.values(one, param)
                made = self._kind(param, self.dice.choice(found)) if found else None
            if made is not None:
                return made
        return None

    def _kind(self, param: Official, found: Any) -> tuple[str, str] | None:
        dice = self.dice
        match param.kind:
            case "token":
                return self._token(param, found)
            case "string":
                said = texts(found)
                if not said:
                    return None
                text = dice.choice(said)
                part = text[: dice.randint(1, len(text))]
                if dice.random() < 0.3:
                    part = part.upper()
                middle = text[dice.randrange(len(text)) :][:5]
                made = dice.choice(
                    [
                        ("", part),
                        ("", text),
                        ("exact", text),
                        ("exact", text.upper()),
                        ("contains", middle),
                        ("contains", text),
                    ]
                )
                return (made[0], escaped(made[1])) if made[1].strip() else None
            case "date":
                ranges = times(found)
                if not ranges:
                    return None
                text = dice.choice(dice.choice(ranges)).isoformat(
                    timespec=dice.choice(["seconds", "milliseconds"])
                )
                if text.startswith(("0001", "9999")):
                    return None
                text = dice.choice([text, text[:10], text[:7], text[:4], text[:16] + "Z"])
                return "", dice.choice([*PREFIXES, "ap"]) + text.replace("+00:00", "Z")
            case "number" | "quantity":
                return self._amount(found)
            case "uri":
                return dice.choice(
                    [
                        ("", found),
                        ("below", found.rpartition("/")[0] or found),
                        ("above", found + "/x"),
                        ("below", found),
                    ]
                )
            case _:
                return self._reference(param, found)

    def _token(self, param: Official, found: Any) -> tuple[str, str] | None:
        dice = self.dice
        said = token_texts(found)
        if said and dice.random() < 0.25:
            text = dice.choice(said)
            return "text", escaped(text[: dice.randint(1, len(text))])
        if (
            isinstance(found, dict)
            and found.get("type", {}).get("coding")
            and "value" in found
            and dice.random() < 0.4
        ):
            kind = found["type"]["coding"][0]
            return (
                "of-type",
                f"{escaped(kind.get('system', ''))}|{escaped(kind['code'])}|{escaped(found['value'])}",
            )
        own = [t for t in tokens(found, any("telecom" in p for p in param.paths)) if t[1]]
        if not own:
            return None
        system, code = dice.choice(own)
        forms = [escaped(code)]
        if system is not None:
            forms += [f"{escaped(system)}|{escaped(code)}", f"|{escaped(code)}"] + (
                [f"{escaped(system)}|"] if system else []
            )
        return dice.choice(["", "", "not"]), dice.choice(forms)

    def _amount(self, found: Any) -> tuple[str, str] | None:
        bounds = amount(found)
        if bounds is None:
            return None
        value = self.dice.choice([b for b in bounds if b.is_finite()] or [Decimal(1)])
        places = self.dice.choice([None, 0, 1, 2])
        text = format(value if places is None else round(value, places), "f")
        text = self.dice.choice(PREFIXES) + text
        if isinstance(found, dict) and self.dice.random() < 0.6:
            unit = found.get("low") or found
            code, system = unit.get("code", unit.get("currency", "")), unit.get("system", "")
            text += self.dice.choice(
                [
                    f"|{escaped(system)}|{escaped(code)}",
                    f"||{escaped(unit.get('unit') or code)}",
                    f"||{escaped(code)}",
                ]
            )
            if text.endswith("||"):
                text = text[:-2]
        return "", text

    def _reference(self, param: Official, found: Any) -> tuple[str, str] | None:
        name = reference_of(found)
        if name is None:
            return None
        if "/" not in name or ":" in name:
            return "", escaped(name)
        kind, _, rid = name.partition("/")
        if kind not in definitions.types() or (param.targets and kind not in param.targets):
            return None
        narrowed = any("resolve() is" in p for p in param.paths)
        forms = [("", name), ("", rid), (kind, rid), ("", f"https://example.org/fhir/{name}")]
        return self.dice.choice(forms[:2] if narrowed else forms)

    def _composite(self, one: dict[str, Any], param: Official) -> tuple[str, str] | None:
        items = [i for i in self.oracle._items(one, param) if all(i)]
        if not items:
            return None
        table, pieces = self.oracle.table(one["resourceType"]), []
        for (code, _), found in zip(self.oracle._parts(one, param), self.dice.choice(items), strict=True):
            for _ in range(20):
                made = self._kind(table[code], self.dice.choice(found))
                if made is not None and made[0] == "" and not made[1].endswith("|"):
                    pieces.append(made[1])
                    break
            else:
                return None
        return "", "$".join(pieces)

    # ------------------------------------------------------------------------------------------------------- pairs

    def pair(self, rtype: str, code: str | None = None) -> Pair | None:
        """One ``name=value`` of a type, sometimes with alternatives or ``:missing``."""
        code = code or self.dice.choice(self.known[rtype])
        param = self.oracle.table(rtype)[code]
        if self.dice.random() < 0.05 and param.kind != "composite":
            return f"{code}:missing", self.dice.choice(["true", "false"])
        made = self.value(rtype, param)
        if made is None:
            return None
        modifier, value = made
        if self.dice.random() < 0.2:
            other = self.value(rtype, param)
            if other is not None and other[0] == modifier:
                value += "," + other[1]
        return (f"{code}:{modifier}" if modifier else code), value

    def linked(self, rtype: str, depth: int = 0) -> Pair | None:
        """A chain or a reverse chain from a type, up to three links deep."""
        return self.chain(rtype, depth) if self.dice.random() < 0.5 else self.has(rtype, depth)

    def _beyond(self, kind: str, depth: int) -> Pair | None:
        if depth < 2 and self.dice.random() < 0.3:
            return self.linked(kind, depth + 1)
        return self.pair(kind)

    def chain(self, rtype: str, depth: int = 0) -> Pair | None:
        """``reference[:Type].rest``."""
        codes = [c for c in self.known[rtype] if self.oracle.table(rtype)[c].kind == "reference"]
        if not codes:
            return None
        code = self.dice.choice(codes)
        param = self.oracle.table(rtype)[code]
        names = [
            n
            for v in self.oracle.values(self.resource(rtype), param)
            if (n := reference_of(v)) in self.oracle.by_name
        ]
        if not names:
            return None
        kind = self.dice.choice(names).partition("/")[0]
        rest = self._beyond(kind, depth)
        if rest is None:
            return None
        narrowed = any("resolve() is" in p for p in param.paths)
        return f"{code if narrowed else f'{code}:{kind}'}.{rest[0]}", rest[1]

    def has(self, rtype: str, depth: int = 0) -> Pair | None:
        """``_has:Type:reference:rest``."""
        for _ in range(20):
            kind = self.dice.choice(sorted(self.oracle.by_type))
            code = self.dice.choice(self.known[kind] or ["_profile"])
            param = self.oracle.table(kind)[code]
            if param.kind != "reference" or rtype not in (param.targets or [rtype]):
                continue
            if not any(
                (reference_of(v) or "").startswith(rtype + "/")
                for v in self.oracle.values(self.resource(kind), param)
            ):
                continue
            rest = self._beyond(kind, depth)
            if rest is not None:
                return f"_has:{kind}:{code}:{rest[0]}", rest[1]
        return None

    def question(self, rtype: str) -> list[Pair]:
        """One to three pairs, sometimes linked; the first resource's own patient leads now and then."""
        found: list[Pair | None] = []
        for _ in range(self.dice.choice([1, 1, 2, 3])):
            found.append(self.linked(rtype) if self.dice.random() < 0.2 else self.pair(rtype))
        if self.dice.random() < 0.2 and "patient" in self.known[rtype]:
            found.append(self.pair(rtype, "patient"))
        return [p for p in found if p is not None]


__all__ = ["Asker", "split"]
