from django.apps import AppConfig


class ConsultConfig(AppConfig):
    name = "lianxin.regional.consult"
    label = "consult"

    def ready(self) -> None:
        """Hand the machine to the kernel, unanswered invitations to the ticker, what came back to learning, rows to a merged person."""
        from lianxin.duty import machine, outbox, periodic
        from lianxin.index import hooks
        from lianxin.regional.consult import fhir, moves, policy, service
        from lianxin.regional.consult.outreach import learning

        machine.register(moves.MACHINE)
        periodic.register("consult.unanswered", 30, service.unanswered)
        outbox.register("duty.moved", "learning", learning.moved)
        policy.SETTINGS.watch()
        fhir.register()
        hooks.follow(hooks.Follower("consult_consult", key="case_id"))
        hooks.follow(hooks.Follower("consult_seen"))
        hooks.follow(hooks.Follower("consult_learning"))
