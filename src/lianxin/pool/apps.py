from django.apps import AppConfig


class PoolConfig(AppConfig):
    name = "lianxin.pool"
    label = "pool"
