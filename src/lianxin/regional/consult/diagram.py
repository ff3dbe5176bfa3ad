"""Writes docs/consult-machine.md from the transition table: ``python -m lianxin.regional.consult.diagram``."""

from __future__ import annotations

import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[4] / "docs" / "consult-machine.md"
HEAD = """# The consultation's transition table 会诊单状态机

Generated from the table in `src/lianxin/regional/consult/moves.py` by `python -m lianxin.regional.consult.diagram`; a test keeps it true.
⚙ marks what only the system does. Invited experts owe their opinions beside the case's main duty.
"""


def page() -> str:
    """The whole page."""
    from lianxin.regional.consult import moves

    lines = ["| move | 操作 | from | to | who | roles |", "|---|---|---|---|---|---|"]
    for move in moves.MACHINE.moves:
        who = (
            "system"
            if move.system
            else ", ".join(
                sorted({"experts" if p == "host" or p.startswith("seat") else p for p in move.parties})
            )
        )
        target = " / ".join(move.targets) or "(stays)"
        lines.append(
            f"| `{move.name}` | {move.label.zh} {move.label.en} | {', '.join(move.sources) or '(new)'} | {target} | {who} | {', '.join(move.roles) or '–'} |"
        )
    return "\n".join([HEAD, f"```mermaid\n{moves.MACHINE.diagram()}```\n", "\n".join(lines) + "\n"])


def main() -> int:
    """Write the page."""
    import django

    django.setup()
    PAGE.write_text(page(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
