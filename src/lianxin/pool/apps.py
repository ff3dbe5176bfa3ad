from django.apps import AppConfig


class PoolConfig(AppConfig):
    name = "lianxin.pool"
    label = "pool"

    def ready(self) -> None:
        """Offer the recount of counters to ``lianxin check``."""
        from lianxin.pool import booking
        from lianxin.standards import checks

        checks.register("pool: counters", booking.recount)
