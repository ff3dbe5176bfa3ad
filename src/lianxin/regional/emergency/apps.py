from django.apps import AppConfig


class EmergencyConfig(AppConfig):
    name = "lianxin.regional.emergency"
    label = "emergency"
