from django.apps import AppConfig


class SchedulesConfig(AppConfig):
    name = "lianxin.resident.schedules"
    label = "schedules"

    def ready(self) -> None:
        """Make sessions ahead by itself."""
        from lianxin.resident.schedules import jobs

        jobs.register()
