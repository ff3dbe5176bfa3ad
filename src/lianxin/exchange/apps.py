from django.apps import AppConfig


class ExchangeConfig(AppConfig):
    name = "lianxin.exchange"
    label = "exchange"

    def ready(self) -> None:
        """Offer the operations at the door, and the chores to the ticker."""
        from lianxin.access import audit, journal
        from lianxin.duty import periodic
        from lianxin.exchange.bulk import jobs, kickoff
        from lianxin.exchange.cda import door as documents
        from lianxin.exchange.cda import fhir as documents_fhir
        from lianxin.exchange.feeds.quality import chores as quality
        from lianxin.exchange.fhir import operations, terminology_ops
        from lianxin.exchange.ihe import feed, pdqm, pixm
        from lianxin.exchange.partners import limits
        from lianxin.exchange.partners import worker as exporting
        from lianxin.exchange.settlement import hooks as settlements
        from lianxin.exchange.smart import hooks as smart
        from lianxin.exchange.subscriptions import fhir as subscriptions
        from lianxin.exchange.subscriptions import worker
        from lianxin.exchange.tables import hooks as tables
        from lianxin.exchange.v2 import adt, outbound, query, receiving
        from lianxin.index import sources
        from lianxin.record import reindex

        operations.register()
        terminology_ops.register()
        kickoff.register()
        smart.register()
        subscriptions.register()
        worker.register()
        pixm.register()
        pdqm.register()
        feed.register()
        adt.register()
        query.register()
        receiving.register()
        outbound.register()
        settlements.register()
        limits.register()
        exporting.register()
        quality.register()
        documents.register()
        documents_fhir.register()
        tables.register()
        periodic.register("bulk.tidy", 600, jobs.tidy)
        periodic.register("audit.journals", 60, journal.adopt)
        periodic.register("audit.links", 60, audit.link_rest)
        periodic.register("index.sources", 300, sources.run)
        periodic.register("record.reindex", 30, lambda: reindex.run(seconds=20))
