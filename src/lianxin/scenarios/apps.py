from django.apps import AppConfig


class ScenariosConfig(AppConfig):
    name = "lianxin.scenarios"
    label = "scenarios"
