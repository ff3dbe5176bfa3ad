from django.apps import AppConfig


class PlacesConfig(AppConfig):
    name = "lianxin.clinical.places"
    label = "places"

    def ready(self) -> None:
        """Consents and operations follow a merged person; contrast needs its consent."""
        from lianxin.clinical.places import consents
        from lianxin.index import hooks
        from lianxin.pool import exams

        hooks.follow(hooks.Follower("places_contrastconsent"))
        hooks.follow(hooks.Follower("places_operation", key="claim_id"))
        exams.demand(consents.demanded)
