"""Migrations of an empty database, fast.

Django keeps the state of all models as classes while it migrates, and makes every class that is related to a changed one anew: with
some three hundred models that all lead to a person or an institution, each index or constraint costs the whole house. In a database
without rows no migration looks at instances, so it is enough to make the changed class itself anew. The database that comes of it is
the same; one that already has something is migrated in Django's own way.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.db.migrations.state import ProjectState


def _only_itself(state: Any, app_label: str, model_name: str, delay: bool = False) -> set[tuple[str, str]]:
    if delay:
        state.is_delayed = True
    return {(app_label, model_name)}


def empty() -> bool:
    """Whether nothing was ever migrated in the database."""
    return not MigrationRecorder(connection).applied_migrations()


@contextlib.contextmanager
def changed_alone() -> Iterator[None]:
    """Within it migrations make only the changed class anew."""
    usual = ProjectState._find_reload_model  # type: ignore[attr-defined]
    ProjectState._find_reload_model = _only_itself  # type: ignore[attr-defined]
    try:
        yield
    finally:
        ProjectState._find_reload_model = usual  # type: ignore[attr-defined]


@contextlib.contextmanager
def quick() -> Iterator[None]:
    """The same where the database is empty; nothing otherwise."""
    with changed_alone() if empty() else contextlib.nullcontext():
        yield
