"""Which column of a file is which column of a target: by their names, corrected by a person; kept as the rules of a mapping.

Rules (JSON): ``columns`` {target column: name in the file}, ``defaults`` {target column: value for empty cells, or for all when the
file has no such column}, ``values`` {target column: {word in the file: code}}, ``layout`` how files are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lianxin.exchange.tables.reading import Layout, plain
from lianxin.exchange.tables.targets import Column, Target, targets, values, word
from lianxin.standards.text import T, Text


def columns(target: Target, names: Sequence[str]) -> dict[str, str]:
    """Target column -> name in the file, by synonyms: an exact heading before one that only contains it; each name once."""
    out: dict[str, str] = {}
    taken: set[str] = set()
    heads = [(name, plain(name)) for name in names]
    ranked: list[tuple[int, int, str, str]] = []
    for column in target.columns.values():
        words = [plain(h) for h in (column.label.zh, column.name, column.label.en, *column.synonyms)]
        for at, (name, head) in enumerate(heads):
            if head in words:
                ranked.append((words.index(head) > 2, words.index(head), column.name, name))
            elif len(head) > 3 and (near := _near(head, words)):
                ranked.append((2, near * 1000 + at, column.name, name))
    for _, _, column_name, name in sorted(ranked):
        if column_name not in out and name not in taken:
            out[column_name] = name
            taken.add(name)
    return out


def _near(head: str, words: Iterable[str]) -> int:
    """How much a heading has beside the longest Chinese word it ends with (患者姓名 of 姓名); 0: none."""
    found = [len(head) - len(w) for w in words if len(w) >= 3 and not w.isascii() and head.endswith(w)]
    return min(found, default=0)


def guess(names: Sequence[str]) -> Target:
    """The target whose required columns these names fill best."""

    def score(one: Target) -> tuple[float, int]:
        got = columns(one, names)
        own = [
            n
            for n in got
            if n not in ("patient_no", "name", "sex", "birth_date", "id_no", "id_type", "phone", "address")
        ]
        needed = len(one.require) or 1
        return len(one.require & got.keys()) / needed, len(own)

    return max(targets().values(), key=score)


def rules(target: Target, layout: Layout, chosen: dict[str, str] | None = None) -> dict[str, Any]:
    """Rules for a new mapping."""
    return {
        "columns": columns(target, layout.columns) if chosen is None else chosen,
        "defaults": {},
        "values": {},
        "layout": layout.to_dict(),
    }


def lacking(target: Target, given: dict[str, Any]) -> list[Text]:
    """What a mapping still needs before anything can be run with it."""
    have = set(given["columns"]) | {n for n, v in given.get("defaults", {}).items() if v}
    have |= {c.name for c in target.columns.values() if c.default}
    told = [
        T("缺少“{c}”一列。", "The column “{c}” is missing.").format(c=target.columns[name].label)
        for name in sorted(target.require - have)
    ]
    for names in target.require_any:
        if not have & set(names):
            told.append(
                T("“{a}”至少要有一列。", "One of “{a}” is needed.").format(a=joined(target.columns[n] for n in names))
            )  # fmt: skip
    if not have & {"patient_no", "id_no"}:
        told.append(
            T("缺少“院内号”或“证件号码”一列，无法知道是谁。", "Neither the local number nor the identity number has a column: nobody could tell who it is.")
        )  # fmt: skip
    if not any(have.issuperset(names) for names in target.key):
        wanted = dict.fromkeys(n for names in target.key for n in names)
        told.append(
            T("没有可以识别一行的列（{a}）。", "No column tells one row from another ({a}).").format(a=joined(target.columns[n] for n in wanted))
        )  # fmt: skip
    return told


def joined(found: Iterable[Column]) -> Text:
    """Labels of columns in a row of words."""
    some = list(found)
    return T("、".join(c.label.zh for c in some), ", ".join(c.label.en for c in some))


def problems(target: Target, given: Any, names: Sequence[str]) -> list[Text]:
    """What is wrong with rules that somebody edited: unknown columns, names, codes."""
    told: list[Text] = []
    unknown = [n for n in given["columns"] if n not in target.columns]
    absent = [n for n in given["columns"].values() if n not in names]
    twice = {n for n in given["columns"].values() if list(given["columns"].values()).count(n) > 1}
    if unknown or absent or twice:
        told.append(
            T("列对应有误：{a}。", "The columns do not fit: {a}.").format(a=", ".join(map(str, [*unknown, *absent, *sorted(twice)]))[:300])
        )  # fmt: skip
    for name, table in given.get("values", {}).items():
        column = target.columns.get(name)
        if column is None or not column.values:
            told.append(T("“{c}”没有值域。", "“{c}” has no value table.").format(c=name))
        elif wrong := [c for c in table.values() if c not in values(column.values)]:
            told.append(
                T("“{c}”没有代码 {a}。", "“{c}” has no code {a}.").format(c=column.label, a=", ".join(map(str, wrong))[:100])
            )  # fmt: skip
    return told


def meaning(column: Column, text: str, own: dict[str, str]) -> str | None:
    """The code that a word of a file means, by the source's own words first; None when nobody knows."""
    plain_word = word(text)
    for said, code in own.items():
        if word(said) == plain_word:
            return code
    for value in values(column.values).values():
        if plain_word in value.words:
            return value.code
    return None
