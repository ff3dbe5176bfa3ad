from django.apps import AppConfig

_BOTH_BOOKED = (
    "r.state <> 'cancelled' AND EXISTS (SELECT 1 FROM pool_place k WHERE k.session_id = r.session_id"
    " AND k.person_id = %(keep)s AND k.state <> 'cancelled')"
)


class PoolConfig(AppConfig):
    name = "lianxin.pool"
    label = "pool"

    def ready(self) -> None:
        """Offer the recount of counters to ``lianxin check``; bookings follow a merged person; who was turned away is written."""
        from django.core.signals import request_finished

        from lianxin.index import hooks
        from lianxin.pool import booking, demand
        from lianxin.standards import checks

        checks.register("pool: counters", booking.recount)
        request_finished.connect(demand.at_end_of_request, dispatch_uid="pool.demand")
        # A number of one session that both people hold stays whose it was: one session sees one person once.
        hooks.follow(hooks.Follower("pool_place", stays=_BOTH_BOOKED))
