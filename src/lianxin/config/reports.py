"""How the report of a load looks on a terminal, and as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lianxin.exchange.load import Refusal, Report

SHOWN = 5  # examples of each reason


def as_text(report: Report, chinese: bool) -> str:
    """Totals, what came by type, and the refusals by reason, with place and number of dead letter."""
    counts = (
        ("接受", "accepted", report.accepted),
        ("其中原已存在", "of these stored already", report.unchanged),
        ("拒绝", "refused", report.refused),
        ("文件", "files", report.members),
        ("已导入过而跳过的文件", "files skipped, done before", report.skipped),
        ("指向库外的引用", "references to what is not here", report.unresolved),
    )
    lines = [f"{zh if chinese else en}: {number:,}" for zh, en, number in counts]
    lines.append(f"{report.seconds:.1f} s, {report.rate:,.0f} /s")
    lines += [f"  {rtype:<28}{number:>10,}" for rtype, number in sorted(report.by_type.items())]
    alike: dict[str, list[Refusal]] = {}
    for refusal in report.refusals:
        reason = refusal.text.zh if chinese else refusal.text.en
        alike.setdefault(f"{reason} [{refusal.code}]", []).append(refusal)
    for reason, refusals in sorted(alike.items(), key=lambda item: -len(item[1])):
        lines.append(f"{len(refusals)} × {reason}")
        lines += [f"    #{r.letter_id} {r.name} {r.expression}".rstrip() for r in refusals[:SHOWN]]
        if len(refusals) > SHOWN:
            lines.append("    …" + ("（全部见 --json）" if chinese else " (all of them: --json)"))
    if report.refusals:
        lines.append(
            "改正原因后可重试：lianxin load --replay 编号（或 all）"
            if chinese
            else "when the cause is mended, try again: lianxin load --replay NUMBER (or all)"
        )
    return "\n".join(lines)


def as_json(report: Report) -> str:
    """The whole report, every refusal included."""
    body = {
        name: getattr(report, name)
        for name in ("accepted", "unchanged", "refused", "members", "skipped", "unresolved", "by_type")
    }
    body["seconds"] = round(report.seconds, 3)
    body["refusals"] = [
        {
            "letter": refusal.letter_id,
            "name": refusal.name,
            "expression": refusal.expression,
            "code": refusal.code,
            "reason": refusal.text.to_dict(),
        }
        for refusal in report.refusals
    ]
    return json.dumps(body, ensure_ascii=False, indent=1)
