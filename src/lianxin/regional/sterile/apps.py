from django.apps import AppConfig
from django.db.models.signals import post_migrate


def _load_shipped(**_: object) -> None:
    from lianxin.regional.sterile import policy

    policy.load_shipped()


class SterileConfig(AppConfig):
    name = "lianxin.regional.sterile"
    label = "sterile"

    def ready(self) -> None:
        """Hand the machines to the kernel, rows to a merged person."""
        from lianxin.duty import machine
        from lianxin.index import hooks
        from lianxin.regional.sterile import policy, recall_moves, requests

        for one in (requests.MACHINE, recall_moves.RECALL, recall_moves.CONTACT):
            machine.register(one)
        policy.SETTINGS.watch()
        post_migrate.connect(_load_shipped, sender=self)
        hooks.follow(hooks.Follower("sterile_opened"))
        hooks.follow(hooks.Follower("sterile_duty", key="case_id"))
