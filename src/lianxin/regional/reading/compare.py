"""What changed between two texts, for people: runs kept, taken out, put in."""

from __future__ import annotations

import difflib
import re

LONG = 3000
_SENTENCES = re.compile(r"[^。；！？\n]*[。；！？\n]?")


def changes(before: str, after: str) -> list[tuple[str, str]]:
    """Runs of ("same" | "out" | "in", text) that turn ``before`` into ``after``; by characters, and by sentences when they are long."""
    if before == after:
        return [("same", after)] if after else []
    if max(len(before), len(after)) > LONG:
        old, new = _SENTENCES.findall(before), _SENTENCES.findall(after)
    else:
        old, new = list(before), list(after)
    runs: list[tuple[str, str]] = []
    for tag, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            runs.append(("same", "".join(new[c:d])))
            continue
        if b > a:
            runs.append(("out", "".join(old[a:b])))
        if d > c:
            runs.append(("in", "".join(new[c:d])))
    return [run for run in runs if run[1]]
