from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_delete, post_save


def _calendar_changed(**_: Any) -> None:
    from lianxin.standards import calendar

    calendar.forget_overrides()


class StandardsConfig(AppConfig):
    name = "lianxin.standards"
    label = "standards"

    def ready(self) -> None:
        """A calendar row entered by hand counts from the next question on."""
        for signal in (post_save, post_delete):
            signal.connect(
                _calendar_changed, sender="standards.CalendarDay", dispatch_uid="standards.calendar"
            )
