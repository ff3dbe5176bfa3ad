from django.apps import AppConfig


class ExchangeConfig(AppConfig):
    name = "lianxin.exchange"
    label = "exchange"

    def ready(self) -> None:
        """Offer the operations at the door, and the chores to the ticker."""
        from lianxin.duty import periodic
        from lianxin.exchange.bulk import jobs, kickoff
        from lianxin.exchange.fhir import operations, terminology_ops
        from lianxin.exchange.smart import hooks as smart

        operations.register()
        terminology_ops.register()
        kickoff.register()
        smart.register()
        periodic.register("bulk.tidy", 600, jobs.tidy)
