from collections.abc import Collection
from typing import Any

from django.apps import AppConfig


def _records(cursor: Any, person_ids: Collection[int]) -> dict[int, int]:
    """Clinical records of people whom a re-link would touch."""
    cursor.execute(
        "SELECT person_id, count(*) FROM record_resource WHERE person_id = ANY(%s) AND NOT deleted AND rtype <> 'Patient'"
        " GROUP BY person_id",
        [sorted(person_ids)],
    )
    return dict(cursor.fetchall())


class PortalConfig(AppConfig):
    name = "lianxin.portal"
    label = "portal"

    def ready(self) -> None:
        """The index's batches: what hangs on people, and the work that goes on by itself."""
        from lianxin.duty import periodic
        from lianxin.index.batch import apply, effects, mending, metrics

        effects.register(_records)
        periodic.register("index.relink", 5, apply.work)
        periodic.register("index.quality", 3600, metrics.refresh)
        periodic.register("index.mend", 600, mending.mend_alone)
