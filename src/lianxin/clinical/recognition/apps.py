from django.apps import AppConfig
from django.db.models.signals import post_migrate


def _load_shipped(**_: object) -> None:
    from lianxin.clinical.recognition import shipped

    shipped.load()


class RecognitionConfig(AppConfig):
    name = "lianxin.clinical.recognition"
    label = "recognition"

    def ready(self) -> None:
        """Load what ships, hear of results in the record, keep the rules in mind fresh, and let rows follow a merged person."""
        from lianxin.clinical.recognition import cds, incoming, knowing
        from lianxin.duty import periodic
        from lianxin.index import hooks

        post_migrate.connect(_load_shipped, sender=self)
        knowing.watch()
        incoming.register()
        periodic.register("recognition.cards", 86_400, cds.tidy)
        hooks.follow(hooks.Follower("recognition_result"))
        hooks.follow(hooks.Follower("recognition_decision"))
        hooks.follow(hooks.Follower("recognition_card"))
