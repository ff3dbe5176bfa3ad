from django.apps import AppConfig


class OrderingConfig(AppConfig):
    name = "lianxin.regional.ordering"
    label = "ordering"

    def ready(self) -> None:
        """Offer what the centres issue to recognition, take orders over the wire, let rows follow a merged person."""
        from lianxin.index import hooks as index
        from lianxin.regional.ordering import fhir, offering, v2
        from lianxin.regional.reading import hooks

        hooks.on_issued(offering.issued)
        fhir.register()
        v2.register()
        index.follow(index.Follower("ordering_requisition"))
