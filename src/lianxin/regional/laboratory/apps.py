from django.apps import AppConfig


class LaboratoryConfig(AppConfig):
    name = "lianxin.regional.laboratory"
    label = "laboratory"

    def ready(self) -> None:
        """Hand the machine to the kernel, complete reports to the ticker, rows to a merged person."""
        from lianxin.duty import machine, periodic
        from lianxin.index import hooks
        from lianxin.regional.laboratory import moves, policy, service, v2

        machine.register(moves.MACHINE)
        periodic.register("laboratory.rules", 60, service.sweep)
        policy.SETTINGS.watch()
        v2.register()
        hooks.follow(hooks.Follower("laboratory_specimen"))
        hooks.follow(hooks.Follower("laboratory_work", key="reading_id"))
        hooks.follow(hooks.Follower("laboratory_result"))
