from django.apps import AppConfig


class CriticalConfig(AppConfig):
    name = "lianxin.regional.critical"
    label = "critical"
