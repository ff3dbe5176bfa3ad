"""Partners (接入方): whoever connects systems to the platform, what they may send and how much, and what is sent to them on a schedule.

``models`` partners, their clients, tests, usage, exports; ``limits`` rate and quota, asked by every door; ``states`` from
preparing to live; ``selftest`` what a vendor runs alone; ``exports`` makes and ``delivery`` sends files on a schedule;
``catalogue`` what the platform offers; ``traffic`` counts and lags; ``pages`` the screens, ``wire`` the self-test by token.
"""
