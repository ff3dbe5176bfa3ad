"""The e-health card, and the residents' own accounts: sign in by phone, bind an identity, act for family."""

from django.apps import AppConfig


class CardConfig(AppConfig):
    name = "lianxin.resident.card"
    label = "card"

    def ready(self) -> None:
        """What belongs to a person follows a merge; chores tidy up and tell the national service."""
        from lianxin.duty import periodic
        from lianxin.resident.card import chores, merging

        merging.register()
        periodic.register("card: tidy", 3600, chores.tidy)
        periodic.register("card: national service", 15, chores.tell_service)
