from django.apps import AppConfig


class BookingConfig(AppConfig):
    name = "lianxin.resident.booking"
    label = "booking"

    def ready(self) -> None:
        """Hand the machines to the kernel, the waiting list to the pool, the chores to the ticker."""
        from lianxin.duty import machine, periodic
        from lianxin.index import hooks as index
        from lianxin.pool import hooks
        from lianxin.resident.booking import appeals, jobs, moves, policy, telling, waiting

        machine.register(moves.MACHINE)
        machine.register(appeals.MACHINE)
        hooks.on_freed(waiting.freed)
        hooks.on_stopped(jobs.stopped)
        periodic.register("booking.missed", 60, jobs.mark_missed)
        periodic.register("booking.waiting", 60, waiting.upkeep)
        periodic.register("booking.reminders", 30, telling.remind)
        telling.register()
        index.follow(index.Follower("booking_appointment", key="case_id"))
        index.follow(index.Follower("booking_bar"))
        index.follow(
            index.Follower("booking_appeal", key="case_id", stays="r.live AND EXISTS (SELECT 1 FROM booking_appeal k WHERE k.person_id = %(keep)s AND k.live)")
        )  # fmt: skip
        index.follow(
            index.Follower("booking_waiting", stays="r.state IN ('waiting', 'offered') AND EXISTS (SELECT 1 FROM booking_waiting k WHERE k.person_id = %(keep)s AND k.state IN ('waiting', 'offered') AND k.department_id = r.department_id AND k.day = r.day)")
        )  # fmt: skip
        policy.SETTINGS.watch()
