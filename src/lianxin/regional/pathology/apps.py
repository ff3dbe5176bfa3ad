from django.apps import AppConfig
from django.db.models.signals import post_migrate


def _load_shipped(**_: object) -> None:
    from lianxin.regional.pathology import reports

    reports.load_templates()


class PathologyConfig(AppConfig):
    name = "lianxin.regional.pathology"
    label = "pathology"

    def ready(self) -> None:
        """Take part in reading work as the centre of pathology; watch the frozen sections; rows follow a merged person."""
        from lianxin.duty import periodic
        from lianxin.index import hooks
        from lianxin.regional.pathology import frozen, panel, policy, publish, service
        from lianxin.regional.reading import hooks as reading

        reading.register(
            reading.Centre(
                "pathology",
                "pathology/_panel.html",
                panel.context,
                publish.resources,
                service.something_to_read,
            )
        )
        reading.on_ordered(service.ordered)
        reading.on_issued(frozen.issued)
        periodic.register("pathology.frozen", 20, frozen.watch)
        policy.SETTINGS.watch()
        post_migrate.connect(_load_shipped, sender=self)
        hooks.follow(hooks.Follower("pathology_work", key="reading_id"))
        hooks.follow(hooks.Follower("pathology_specimen"))
        hooks.follow(hooks.Follower("pathology_picture"))
        hooks.follow(hooks.Follower("pathology_trace"))
