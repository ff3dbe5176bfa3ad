"""Registry of the house's self-checks: each room registers what it can recount, replay or verify; ``lianxin check`` runs all.

A check reads committed data only, changes nothing, and returns one line per disagreement (empty: all is well). Lines name
rows by their public numbers, never by a patient's name or identity number.
"""

from collections.abc import Callable, Iterator

Check = Callable[[], list[str]]

_checks: dict[str, Check] = {}


def register(name: str, check: Check) -> None:
    """Register ``check`` under ``name`` (such as ``"pool counters"``); registering the name again replaces it."""
    _checks[name] = check


def names() -> list[str]:
    """Names of all registered checks, in order of registration."""
    return list(_checks)


def run() -> Iterator[tuple[str, list[str]]]:
    """Run every check and yield ``(name, problems)``; a check that raises is itself a problem, not the end of the run."""
    for name, check in _checks.items():
        try:
            yield name, [str(problem) for problem in check()]
        except Exception as failure:
            yield name, [f"the check itself failed: {type(failure).__name__}: {failure}"]
