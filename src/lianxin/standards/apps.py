from django.apps import AppConfig


class StandardsConfig(AppConfig):
    name = "lianxin.standards"
    label = "standards"
