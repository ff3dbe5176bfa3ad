from django.apps import AppConfig


class ExchangeConfig(AppConfig):
    name = "lianxin.exchange"
    label = "exchange"

    def ready(self) -> None:
        """Offer the operations at the door, and the chores to the ticker."""
        from lianxin.duty import periodic
        from lianxin.exchange.bulk import jobs, kickoff
        from lianxin.exchange.fhir import operations, terminology_ops

        operations.register()
        terminology_ops.register()
        kickoff.register()
        periodic.register("bulk.tidy", 600, jobs.tidy)
