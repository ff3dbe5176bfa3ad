from django.apps import AppConfig


class DutyConfig(AppConfig):
    name = "lianxin.duty"
    label = "duty"

    def ready(self) -> None:
        """Offer the ledger's proofs to ``lianxin check`` and its chores to the ticker."""
        from lianxin.duty import escalation, merging, outbox, periodic, proof
        from lianxin.standards import checks

        checks.register("duty: cases, chains, duties", proof.check)
        checks.register("duty: anchors", proof.check_anchors)
        periodic.register("duty.escalate", 60, escalation.run)
        periodic.register("duty.outbox", 2, outbox.run)
        periodic.register("duty.outbox_tidy", 3600, outbox.tidy)
        periodic.register("duty.anchor", 3600, proof.anchor_today)
        merging.register()
