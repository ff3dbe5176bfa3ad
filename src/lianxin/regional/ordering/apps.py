from django.apps import AppConfig


class OrderingConfig(AppConfig):
    name = "lianxin.regional.ordering"
    label = "ordering"
