from django.apps import AppConfig


class ArchiveConfig(AppConfig):
    name = "lianxin.regional.archive"
    label = "archive"

    def ready(self) -> None:
        """Studies follow a merged person."""
        from lianxin.index import hooks

        hooks.follow(hooks.Follower("archive_study"))
