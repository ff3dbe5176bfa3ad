"""Writes docs/reading-machine.md from the transition tables: ``python -m lianxin.regional.reading.diagram``."""

from __future__ import annotations

import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[4] / "docs" / "reading-machine.md"
HEAD = """# The transition tables of reading work 诊断申请单状态机

Generated from `src/lianxin/regional/reading/moves.py` and `amendment.py` by `python -m lianxin.regional.reading.diagram`; a test keeps
it true. ⚙ marks what only the system does.
"""


def page() -> str:
    """The whole page."""
    from lianxin.regional.reading import amendment, moves

    parts = [HEAD]
    for machine, title in (
        (moves.MACHINE, "Reading 检查诊断"),
        (amendment.MACHINE, "Amended report 报告更正"),
    ):
        lines = ["| move | 操作 | from | to | who | roles |", "|---|---|---|---|---|---|"]
        for move in machine.moves:
            who = "system" if move.system else ", ".join(move.parties) or "any party"
            target = " / ".join(move.targets) or "(stays)"
            lines.append(
                f"| `{move.name}` | {move.label.zh} {move.label.en} | {', '.join(move.sources) or '(new)'} | {target}"
                f" | {who} | {', '.join(move.roles) or '–'} |"
            )
        parts += [f"## {title}\n", f"```mermaid\n{machine.diagram()}```\n", "\n".join(lines) + "\n"]
    return "\n".join(parts)


def main() -> int:
    """Write the page."""
    import django

    django.setup()
    PAGE.write_text(page(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
