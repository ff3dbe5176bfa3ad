"""What a process that shares a run does. Imports nothing of Django until it has been set up: a fresh process begins here."""


def work(run_id: int, lane: int) -> bool:
    """Do one lane of a run."""
    import gc

    from lianxin.exchange.tables import running

    gc.freeze()  # what was imported is not searched for garbage again
    return running.run_lane(run_id, lane)
