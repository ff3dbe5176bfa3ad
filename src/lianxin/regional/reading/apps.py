from django.apps import AppConfig
from django.db.models.signals import post_migrate


def _load_shipped(**_: object) -> None:
    from lianxin.regional.reading import items, templates

    items.load_shipped()
    templates.load_shipped()


class ReadingConfig(AppConfig):
    name = "lianxin.regional.reading"
    label = "reading"

    def ready(self) -> None:
        """Hand the machine to the kernel, lapsed claims to the ticker, rows to a merged person."""
        from lianxin.duty import machine, periodic
        from lianxin.index import hooks
        from lianxin.regional.reading import amendment, checks, fhir, moves, policy, service
        from lianxin.standards import checks as house

        machine.register(moves.MACHINE)
        machine.register(amendment.MACHINE)
        periodic.register("reading.leases", 20, service.sweep)
        fhir.register()
        house.register("reading: seats", checks.seats)
        house.register("reading: reports", checks.reports)
        policy.SETTINGS.watch()
        post_migrate.connect(_load_shipped, sender=self)
        hooks.follow(hooks.Follower("reading_reading", key="case_id"))
        hooks.follow(hooks.Follower("reading_entry"))
        hooks.follow(hooks.Follower("reading_review", key="reading_id"))
        hooks.follow(hooks.Follower("reading_amendment", key="case_id"))
