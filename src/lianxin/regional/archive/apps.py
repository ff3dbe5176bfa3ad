from django.apps import AppConfig


class ArchiveConfig(AppConfig):
    name = "lianxin.regional.archive"
    label = "archive"
