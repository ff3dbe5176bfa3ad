from django.apps import AppConfig


class QuotasConfig(AppConfig):
    name = "lianxin.resident.quotas"
    label = "quotas"

    def ready(self) -> None:
        """Give the ticker its work: holds tidied, refusals folded into figures, proposals once a week."""
        from lianxin.duty import periodic
        from lianxin.pool import booking, demand
        from lianxin.resident.quotas import service

        periodic.register("pool.sweep", 30, booking.sweep)
        periodic.register("pool.demand", 3600, demand.fold)
        periodic.register("quotas.proposals", 86400, service.run)
