from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate

_BOTH_BOOKED = (
    "r.state <> 'cancelled' AND EXISTS (SELECT 1 FROM pool_place k WHERE k.session_id = r.session_id"
    " AND k.person_id = %(keep)s AND k.state <> 'cancelled')"
)
_BOTH_CLAIM = (
    "r.state IN ('held', 'assigned', 'occupied') AND EXISTS (SELECT 1 FROM pool_claim k WHERE k.person_id = %(keep)s"
    " AND k.kind = r.kind AND k.state IN ('held', 'assigned', 'occupied') AND k.during && r.during)"
)


def _load_shipped(**_: Any) -> None:
    """The shipped examinations are there after migrate; loading them again changes nothing."""
    from lianxin.pool import exams

    exams.load_shipped()


class PoolConfig(AppConfig):
    name = "lianxin.pool"
    label = "pool"

    def ready(self) -> None:
        """Offer the recounts to ``lianxin check``; places and claims follow a merged person; who was turned away is written."""
        from django.core.signals import request_finished

        from lianxin.index import hooks
        from lianxin.pool import booking, demand, exclusive
        from lianxin.standards import checks

        checks.register("pool: counters", booking.recount)
        checks.register("pool: claims", exclusive.recount)
        request_finished.connect(demand.at_end_of_request, dispatch_uid="pool.demand")
        # A number of one session that both people hold stays whose it was: one session sees one person once.
        hooks.follow(hooks.Follower("pool_place", stays=_BOTH_BOOKED))
        # Two people lay in two beds at once: which of the claims is wrong, the wards have to say, not the merge.
        hooks.follow(hooks.Follower("pool_claim", stays=_BOTH_CLAIM))
        post_migrate.connect(_load_shipped, sender=self)
