from django.apps import AppConfig


class SchedulingConfig(AppConfig):
    name = "lianxin.resident.scheduling"
    label = "scheduling"
