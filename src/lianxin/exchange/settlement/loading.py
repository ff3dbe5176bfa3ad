"""The rows of a batch into the table, in one transaction: read, check, find the people, COPY, a few thousand rows at a time.

Which line is ``current`` is decided here for ids nobody has yet, and when the batch is accepted for the others
(:func:`lianxin.exchange.settlement.batches.accept`); until then nothing of it counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, BinaryIO

from lianxin.exchange.feeds.errors import Refusal
from lianxin.exchange.feeds.quality import Found
from lianxin.exchange.settlement import checking, layout, linking
from lianxin.exchange.settlement.checking import Checker, Issue, Line, Refused
from lianxin.exchange.settlement.models import MONEY, UNKNOWN, SettlementBatch
from lianxin.exchange.settlement.providers import Book, Named
from lianxin.exchange.tables import reading
from lianxin.record import rows
from lianxin.standards.text import T

CHUNK = 5_000
MOST_ISSUES = 1_000
"""Rows of one rule that are kept one by one."""
_LINE = (
    "consortium_id", "batch_id", '"row"', "settlement_id", "version", "digest", "current", "reversal", "reverses", "person_id",
    "id_blind", "body", "scheme", "care", "insured_place", "provider_id", "admitted_on", "discharged_on", "settled_on",
    "diagnosis", "grouped", "excluded", *MONEY,
)  # fmt: skip
_ISSUE = (
    "batch_id", '"row"', "settlement_id", "provider", "scheme", "month", "total", "fund", "rule", "severity", '"column"', "zh", "en",
)  # fmt: skip


@dataclass
class Loaded:
    """What became of a file."""

    rows: int = 0
    rejected: int = 0
    total: int = 0
    fund: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    linked: int = 0
    days: list[Any] = field(default_factory=list)
    broken: Counter[str] = field(default_factory=Counter)
    where: dict[str, str] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)

    def report(self) -> dict[str, Any]:
        """What is kept with the batch."""
        return {
            "columns": self.columns, "ignored": self.ignored, "twice": self.twice, "broken": dict(self.broken), "new": self.new,
            "changed": self.changed, "unchanged": self.unchanged, "linked": self.linked,
        }  # fmt: skip

    def found(self) -> list[Found]:
        """A finding for every rule that was broken, with how often and where first."""
        out = []
        for code, count in sorted(self.broken.items()):
            rule = layout.rules()[code]
            named = layout.fields().get(self.where[code].partition(":")[2])
            told = rule.text.format(column=named.label if named else "")
            text = T("{told}（{n} 行）", "{told} ({n} rows)").format(told=told, n=f"{count:,}")
            row = self.where[code].partition(":")[0]
            out.append(Found(f"settlement.{code}", "warn", f"row[{row}]", text, rule.dimension))
        return out


class Loader:
    """Loads one batch; ``cur``: a plain cursor in the transaction of the load."""

    def __init__(self, cur: Any, batch: SettlementBatch) -> None:
        self.cur, self.batch = cur, batch
        self.book = Book.open(batch.consortium)
        self.out = Loaded()
        self._seen: set[int] = set()
        cur.execute(
            "SELECT EXISTS (SELECT 1 FROM exchange_settlementline WHERE consortium_id = %s)",
            [batch.consortium_id],
        )
        self._first = not cur.fetchone()[0]

    def load(self, file: BinaryIO) -> Loaded:
        """All rows of ``file``; :class:`Refusal` when it cannot be understood as a whole."""
        out = self.out
        try:
            how = reading.look(file, layout.known_headings())
        except reading.Unreadable as failure:
            raise Refusal("structure", failure.text) from None
        columns = layout.recognise(how.columns)
        if missing := layout.lacking(columns):
            raise Refusal(
                "required",
                T("没有认出这些列：{zh}。请核对列名，或把它们加进列名对照表。",
                  "These columns were not recognised: {en}. Check the headings, or add them to the layout.")
                .format(zh="、".join(f.label.zh for f in missing), en=", ".join(f.label.en for f in missing)),
                missing[0].name,
            )  # fmt: skip
        out.columns, out.ignored, out.twice = columns.heading, columns.ignored, columns.twice
        checker = Checker(columns)
        source = reading.rows(file, how)
        try:
            while part := list(islice(source, CHUNK)):
                self._part(checker.check(row) for row in part)
        except reading.Unreadable as failure:
            raise Refusal("structure", failure.text) from None
        if not out.rows and not out.rejected:
            raise Refusal("required", T("文件没有数据行。", "The file has no rows."))
        return out

    # --------------------------------------------------------------------------------------------------------------- a few rows

    def _part(self, checked: Iterator[Line | Refused]) -> None:
        lines: list[Line] = []
        issues: list[tuple[Any, ...]] = []
        for one in checked:
            if isinstance(one, Refused):
                self._note(issues, one, one.issues)
                self.out.rejected += 1
                continue
            key = hash(one.settlement_id)
            if key in self._seen:
                self._note(issues, one, [*one.issues, Issue("duplicate", "settlement_id")])
                self.out.rejected += 1
                continue
            self._seen.add(key)
            lines.append(one)
        self.book.take(
            Named(x.provider, x.provider_name, x.provider_level, x.provider_area, x.outside)
            for x in lines
            if x.provider not in self.book.known
        )
        blinds = linking.blinds((x.id_type, x.id_no) for x in lines)
        people = linking.find(self.cur, [b for b in blinds if b])
        versions = self._versions(lines)
        found = []
        for line, blind in zip(lines, blinds, strict=True):
            provider = self.book.known[line.provider]
            if provider.place == UNKNOWN:
                line.issues.append(Issue("provider", "provider"))
            if line.refunded:
                line.issues.append(Issue("refunded", "reversal"))
            person, wrong = linking.agree(people.get(blind or b"", ()), line.name)
            if wrong:
                line.issues.append(Issue(wrong, "id_no"))
            found.append(self._row(line, blind, person, provider.pk, versions))
            if line.issues:
                self._note(issues, line, line.issues)
            self._count(line, person)
        rows.copy(self.cur, "exchange_settlementline", _LINE, found)
        rows.copy(self.cur, "exchange_settlementissue", _ISSUE, issues)

    def _versions(self, lines: Sequence[Line]) -> dict[str, tuple[bytes, int]]:
        """Digest and version of what is current under the ids, whichever batch it is of."""
        if self._first or not lines:
            return {}
        self.cur.execute(
            "SELECT settlement_id, digest, version FROM exchange_settlementline"
            " WHERE consortium_id = %s AND settlement_id = ANY(%s) AND current",
            [self.batch.consortium_id, [x.settlement_id for x in lines]],
        )
        return {key: (bytes(digest), version) for key, digest, version in self.cur.fetchall()}

    def _row(
        self,
        x: Line,
        blind: bytes | None,
        person: int | None,
        provider: int,
        versions: dict[str, tuple[bytes, int]],
    ) -> tuple[Any, ...]:
        known = versions.get(x.settlement_id)
        version = 1 if known is None else known[1] + (known[0] != x.digest)
        if known is None:
            self.out.new += 1
        elif known[0] == x.digest:
            self.out.unchanged += 1
        else:
            self.out.changed += 1
        return (
            self.batch.consortium_id, self.batch.pk, x.row, x.settlement_id, version, x.digest, known is None, x.reversal,
            x.reverses, person, blind, x.body, x.scheme, x.care, x.insured_place, provider, x.admitted_on, x.discharged_on,
            x.settled_on, x.diagnosis, x.grouped, x.excluded, *x.money,
        )  # fmt: skip

    def _count(self, line: Line, person: int | None) -> None:
        out = self.out
        out.rows += 1
        out.total += line.total
        out.fund += line.fund
        out.linked += person is not None
        if not out.days:
            out.days = [line.settled_on, line.settled_on]
        elif line.settled_on < out.days[0]:
            out.days[0] = line.settled_on
        elif line.settled_on > out.days[1]:
            out.days[1] = line.settled_on

    def _note(self, to: list[tuple[Any, ...]], one: Line | Refused, issues: Sequence[Issue]) -> None:
        month = f"{one.settled_on:%Y-%m}" if isinstance(one, Line) else one.month
        for issue in issues:
            self.out.broken[issue.rule] += 1
            self.out.where.setdefault(issue.rule, f"{one.row}:{issue.column}")
            if self.out.broken[issue.rule] > MOST_ISSUES:
                continue
            told, rule = checking.words(issue), layout.rules()[issue.rule]
            to.append(
                (self.batch.pk, one.row, one.settlement_id, one.provider, one.scheme, month, one.total, one.fund, issue.rule,
                 rule.severity, issue.column, told.zh, told.en)
            )  # fmt: skip

    # ------------------------------------------------------------------------------------------------------------- the whole batch

    def reversals(self) -> None:
        """Do reversals cancel what they reverse? Asked once everything is in the table."""
        issues: list[tuple[Any, ...]] = []
        self.cur.execute(_REVERSALS, {"batch": self.batch.pk, "consortium": self.batch.consortium_id})
        for row, key, provider, scheme, month, total, fund, known in self.cur.fetchall():
            one = Refused(row, [], key, provider, scheme, month, total, fund)
            rule = "reversal_amount" if known else "reversal_of"
            self._note(issues, one, [Issue(rule, "reverses")])
        self.cur.execute(_REFUNDED, {"batch": self.batch.pk, "consortium": self.batch.consortium_id})
        cancelled = [row for (row,) in self.cur.fetchall()]
        if cancelled:
            self.cur.execute(
                "DELETE FROM exchange_settlementissue WHERE batch_id = %s AND rule = 'refunded' AND \"row\" = ANY(%s)",
                [self.batch.pk, cancelled],
            )
            self.out.broken["refunded"] -= len(cancelled)
            self.out.broken += Counter()  # what is nought goes
        rows.copy(self.cur, "exchange_settlementissue", _ISSUE, issues)


_REVERSALS = """
SELECT r."row", r.settlement_id, p.code, r.scheme, to_char(r.settled_on, 'YYYY-MM'), r.total, r.fund, o.id IS NOT NULL
FROM exchange_settlementline r JOIN exchange_settlementprovider p ON p.id = r.provider_id
LEFT JOIN LATERAL (
  SELECT o.id, o.total, o.fund FROM exchange_settlementline o JOIN exchange_settlementbatch b ON b.id = o.batch_id
  WHERE o.consortium_id = r.consortium_id AND o.settlement_id = r.reverses
    AND (o.batch_id = r.batch_id OR (b.state = 'accepted' AND o.current))
  ORDER BY o.batch_id = r.batch_id DESC LIMIT 1) o ON true
WHERE r.batch_id = %(batch)s AND r.consortium_id = %(consortium)s AND r.reversal AND r.reverses <> ''
  AND (o.id IS NULL OR o.total + r.total <> 0 OR o.fund + r.fund <> 0) ORDER BY r."row"
"""
_REFUNDED = """
SELECT o."row" FROM exchange_settlementissue o
WHERE o.batch_id = %(batch)s AND o.rule = 'refunded' AND EXISTS (
  SELECT 1 FROM exchange_settlementline r JOIN exchange_settlementbatch b ON b.id = r.batch_id
  WHERE r.consortium_id = %(consortium)s AND r.reversal AND r.reverses = o.settlement_id AND r.total = -o.total
    AND (r.batch_id = %(batch)s OR (b.state = 'accepted' AND r.current)))
"""
"""Rows marked as refunded whose counter-row is there after all."""
