"""How a move can fail. Each says in both languages what to do next; none leaves anything written."""

from __future__ import annotations

from lianxin.standards.text import T, Text


class MoveError(Exception):
    """Base: a move that did not happen."""

    text: Text

    def __init__(self, text: Text) -> None:
        super().__init__(text.zh)
        self.text = text


class Stale(MoveError):
    """Somebody moved the case first. ``current_version`` is where it stands, ``moved_by`` who did it."""

    def __init__(self, current_version: int, moved_by: str = "", move: Text | None = None) -> None:
        super().__init__(
            T(
                "{who}已先一步办理「{move}」，请刷新后再操作。",
                "{who} has already done “{move}”; reload and look again.",
            ).format(who=moved_by or T("他人", "Somebody"), move=move or T("其他操作", "another action"))
        )
        self.current_version = current_version
        self.moved_by = moved_by


class NotAllowed(MoveError):
    """The table, the party, the role or a guard forbids the move; ``text`` says which and why."""


class Refused(MoveError):
    """The form was refused: ``errors`` maps field → words (``__all__`` for the whole form)."""

    def __init__(self, errors: dict[str, Text]) -> None:
        super().__init__(
            T("；".join(e.zh for e in errors.values()), "; ".join(e.en for e in errors.values()))
        )
        self.errors = errors


class KeyReused(MoveError):
    """The idempotency key was used for a different request."""

    def __init__(self) -> None:
        super().__init__(
            T(
                "该幂等键已用于另一请求，请为新的操作使用新的键。",
                "This idempotency key was used for a different request; use a new key for a new action.",
            )
        )
