"""What a process of a parallel load runs. Imports nothing of Django until it has been set up: a fresh process begins here."""

from typing import Any

from lianxin.exchange.sources import Member


def start() -> None:
    """Set Django up in the new process."""
    import django

    django.setup()


def work(member: Member, code: str | None) -> Any:
    """Load one member for the institution with this code; its report."""
    from lianxin.exchange import load

    return load.load_member(member, load.sender(code))
