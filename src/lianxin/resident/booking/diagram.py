"""Writes docs/appointment-machine.md from the transition tables: ``python -m lianxin.resident.booking.diagram``."""

from __future__ import annotations

import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[4] / "docs" / "appointment-machine.md"
HEAD = """# The appointment's transition table 预约单状态机

Generated from the tables in `src/lianxin/resident/booking/moves.py` and `appeals.py` by
`python -m lianxin.resident.booking.diagram`; a test keeps it true. ⚙ marks what only the system does. Moves marked *resident* are
made by the person (or whoever acts for them) too.
"""


def page() -> str:
    """The whole page."""
    from lianxin.resident.booking import appeals, moves

    parts = [HEAD]
    for machine, title in ((moves.MACHINE, "Appointment 预约单"), (appeals.MACHINE, "Appeal 爽约申诉")):
        lines = ["| move | 操作 | from | to | who | roles |", "|---|---|---|---|---|---|"]
        for move in machine.moves:
            who = "system" if move.system else ", ".join(move.parties) or "any party"
            target = " / ".join(move.targets) or "(stays)"
            lines.append(
                f"| `{move.name}` | {move.label.zh} {move.label.en} | {', '.join(move.sources) or '(new)'} | {target}"
                f" | {who}{', resident' if move.resident else ''} | {', '.join(move.roles) or '–'} |"
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
