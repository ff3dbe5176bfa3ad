from django.apps import AppConfig


class IndexConfig(AppConfig):
    name = "lianxin.index"
    label = "index"
