from django.apps import AppConfig
from django.db.models.signals import post_delete, post_migrate, post_save


def _load_shipped(**_: object) -> None:
    """Reason codes and catalogues are there after migrate; loading them again changes nothing."""
    from lianxin.clinical.referral import catalogue, reasons

    reasons.load_shipped()
    catalogue.load_shipped()


class ReferralConfig(AppConfig):
    name = "lianxin.clinical.referral"
    label = "referral"

    def ready(self) -> None:
        """Hand the machines to the kernel, the operations to the FHIR door and the no-show watch to the ticker."""
        from lianxin.clinical.referral import displaced, fhir, followup, jobs, merging, moves, policy
        from lianxin.duty import machine

        machine.register(moves.MACHINE)
        machine.register(followup.MACHINE)
        fhir.register()
        jobs.register()
        displaced.register()
        merging.register()
        post_migrate.connect(_load_shipped, sender=self)
        for model in (self.get_model("Policy"), "network.Consortium"):
            for signal in (post_save, post_delete):
                signal.connect(
                    policy.forget,
                    sender=model,
                    dispatch_uid=f"referral-policy-{model}-{id(signal)}",
                    weak=False,
                )
