from typing import Any

from django.apps import AppConfig


def _follow(cursor: Any, patient_ids: list[str], from_person: int, to_person: int) -> None:
    """The index moved registrations to another person: their resources go along, in its transaction."""
    from lianxin.record import persons

    for patient_id in patient_ids:
        persons.follow(cursor, patient_id, to_person)


def _risks(one: list[int], other: list[int]) -> list[Any]:
    """What the record knows against merging two people on one person's word."""
    from lianxin.record import risks

    return risks.differ(one, other)


def _check() -> list[str]:
    """Resources whose person is not the one their patient reference stands for, and registrations the index sees otherwise."""
    from django.db import connection

    with connection.cursor() as cur:
        cur.execute(
            "SELECT r.rtype || '/' || r.id FROM record_resource r JOIN record_patient p ON p.subj = r.subj"
            " WHERE r.person_id IS DISTINCT FROM p.person_id AND NOT r.deleted"
            " UNION ALL SELECT 'Patient/' || s.patient_id FROM index_sourcerecord s JOIN record_patient p ON p.patient_id = s.patient_id"
            " WHERE p.person_id <> s.person_id LIMIT 100"
        )
        return [f"{row[0]} stands under another person than the index says" for row in cur.fetchall()]


class RecordConfig(AppConfig):
    name = "lianxin.record"
    label = "record"

    def ready(self) -> None:
        from lianxin.index import hooks
        from lianxin.standards import checks

        hooks.on_repoint(_follow)
        hooks.on_risk(_risks)
        checks.register("record: whose is it", _check)
