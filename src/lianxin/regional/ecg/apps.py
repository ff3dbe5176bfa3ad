from django.apps import AppConfig


class EcgConfig(AppConfig):
    name = "lianxin.regional.ecg"
    label = "ecg"
