from django.apps import AppConfig


class EcgConfig(AppConfig):
    name = "lianxin.regional.ecg"
    label = "ecg"

    def ready(self) -> None:
        """Join the reading mechanism, the archive's studies and the FHIR door; rows go along with a merged person."""
        from lianxin.index import hooks as index
        from lianxin.regional.archive import hooks as archive
        from lianxin.regional.ecg import archived, fhir, panel
        from lianxin.regional.reading import hooks as reading

        reading.register(panel.CENTRE)
        archive.on_study(archived.on_study)
        fhir.register()
        index.follow(index.Follower("ecg_tracing"))
        index.follow(index.Follower("ecg_proposal", key="tracing_id"))
        index.follow(index.Follower("ecg_confirmation"))
