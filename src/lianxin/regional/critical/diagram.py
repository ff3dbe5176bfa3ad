"""Writes docs/critical-machine.md from the transition table: ``python -m lianxin.regional.critical.diagram``."""

from __future__ import annotations

import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[4] / "docs" / "critical-machine.md"
HEAD = """# The critical value's transition table 危急值状态机

Generated from the table in `src/lianxin/regional/critical/moves.py` by `python -m lianxin.regional.critical.diagram`; a test keeps it true.
⚙ marks what only the system does. What is owed in “told, not read back” is due in 5 minutes; late, it climbs at 5, 10 and 15 minutes.
"""


def page() -> str:
    """The whole page."""
    from lianxin.regional.critical.moves import MACHINE

    lines = ["| move | 操作 | from | to | who | roles |", "|---|---|---|---|---|---|"]
    for move in MACHINE.moves:
        who = "system" if move.system else ", ".join(move.parties)
        target = " / ".join(move.targets) or "(stays)"
        lines.append(
            f"| `{move.name}` | {move.label.zh} {move.label.en} | {', '.join(move.sources) or '(new)'} | {target}"
            f" | {who} | {', '.join(move.roles) or '–'} |"
        )
    return "\n".join([HEAD, f"```mermaid\n{MACHINE.diagram()}```\n", "\n".join(lines) + "\n"])


def main() -> int:
    """Write the page."""
    import django

    django.setup()
    PAGE.write_text(page(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
