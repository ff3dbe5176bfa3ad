from django.apps import AppConfig


class SchedulesConfig(AppConfig):
    name = "lianxin.resident.schedules"
    label = "schedules"
