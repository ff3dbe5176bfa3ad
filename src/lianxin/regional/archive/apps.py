from django.apps import AppConfig


class ArchiveConfig(AppConfig):
    name = "lianxin.regional.archive"
    label = "archive"

    def ready(self) -> None:
        """Studies follow a merged person; what a process that died left in the spool is taken up; complete studies are told."""
        from lianxin.duty import periodic
        from lianxin.index import hooks
        from lianxin.regional.archive import settle, spool

        hooks.follow(hooks.Follower("archive_study"))
        periodic.register("archive.spool", 20, spool.adopt)
        periodic.register("archive.settle", 5, settle.due)
