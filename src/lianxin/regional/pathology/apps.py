from django.apps import AppConfig


class PathologyConfig(AppConfig):
    name = "lianxin.regional.pathology"
    label = "pathology"
