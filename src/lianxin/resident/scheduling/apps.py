from django.apps import AppConfig


class SchedulingConfig(AppConfig):
    name = "lianxin.resident.scheduling"
    label = "scheduling"

    def ready(self) -> None:
        """Offer the operations at the FHIR door, keep what is published up to date, ask hospitals and read their sessions."""
        from lianxin.duty import outbox, periodic
        from lianxin.pool import publish
        from lianxin.resident.scheduling import asking, fhir, projecting, sync, v2

        fhir.register()
        publish.describe_by(projecting.described)
        v2.register()
        outbox.register("appointment.requested", "scheduling", asking.requested)
        periodic.register("scheduling.publish", 20, projecting.run)
        periodic.register("scheduling.tidy", 86400, projecting.tidy)
        periodic.register("scheduling.pull", 60, sync.run)
        periodic.register_worker("hospital-booking", asking.run)
