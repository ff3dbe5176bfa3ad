from django.apps import AppConfig


class EmergencyConfig(AppConfig):
    name = "lianxin.regional.emergency"
    label = "emergency"

    def ready(self) -> None:
        """Hand the machine to the kernel, listen for confirmed infarctions; rows go along with a merged person."""
        from lianxin.duty import machine
        from lianxin.index import hooks as index
        from lianxin.regional.ecg import hooks as ecg
        from lianxin.regional.emergency import moves, policy, service

        machine.register(moves.MACHINE)
        policy.SETTINGS.watch()
        ecg.on_confirmed(service.on_confirmed)
        # two people with an open channel each who turn out to be one: the kept person's stands, the other's stays with the absorbed row
        index.follow(
            index.Follower(
                "emergency_channel",
                key="case_id",
                stays="r.live AND EXISTS (SELECT 1 FROM emergency_channel o WHERE o.person_id = %(keep)s AND o.live)",
            )
        )
