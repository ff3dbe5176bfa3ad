from django.apps import AppConfig


class AccessConfig(AppConfig):
    name = "lianxin.access"
    label = "access"
