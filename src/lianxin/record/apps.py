from typing import Any

from django.apps import AppConfig


def _follow(cursor: Any, patient_ids: list[str], from_person: int, to_person: int) -> None:
    """The index moved registrations to another person: their resources go along, in its transaction."""
    from lianxin.record import persons

    for patient_id in patient_ids:
        persons.follow(cursor, patient_id, to_person)


class RecordConfig(AppConfig):
    name = "lianxin.record"
    label = "record"

    def ready(self) -> None:
        from lianxin.index import hooks

        hooks.on_repoint(_follow)
