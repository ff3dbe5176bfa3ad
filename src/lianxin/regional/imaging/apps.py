from django.apps import AppConfig


class ImagingConfig(AppConfig):
    name = "lianxin.regional.imaging"
    label = "imaging"

    def ready(self) -> None:
        """Tell the archive whose orders are and what devices are to do, the reading mechanism what stands beside a report."""
        from lianxin.index import hooks as index
        from lianxin.regional.archive import hooks as archive
        from lianxin.regional.imaging import gate, panel
        from lianxin.regional.reading import hooks

        archive.order_of(gate.order_of)
        archive.worklist(gate.worklist)
        archive.on_study(gate.on_study)
        hooks.register(
            hooks.Centre("imaging", panel="imaging/_panel.html", panel_context=panel.context, acquired=gate.acquired)
        )  # fmt: skip
        gate.SETTINGS.watch()
        index.follow(index.Follower("imaging_quality"))
