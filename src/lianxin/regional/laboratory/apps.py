from django.apps import AppConfig


class LaboratoryConfig(AppConfig):
    name = "lianxin.regional.laboratory"
    label = "laboratory"
