from django.apps import AppConfig


class CriticalConfig(AppConfig):
    name = "lianxin.regional.critical"
    label = "critical"

    def ready(self) -> None:
        """Hand the machine to the kernel, late calls to the ticker, rows to a merged person."""
        from lianxin.duty import machine, periodic
        from lianxin.index import hooks
        from lianxin.regional.critical import chores, fhir, limits, moves, policy

        machine.register(moves.MACHINE)
        periodic.register("critical.climb", chores.EVERY_SECONDS, chores.climb)
        fhir.register()
        policy.SETTINGS.watch()
        limits.SETTINGS.watch()
        hooks.follow(hooks.Follower("critical_critical", key="case_id"))
