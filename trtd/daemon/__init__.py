"""The daemon: watches a registry and keeps it what its specs say.

::

    scan ─► Seen, Gone ─┐                          ┌─► Start, Stop     (a build is a process of its own)
    builds ─► Finished ─┼─► reconciler (pure) ─────┼─► Unpublish
    people ─► Command ──┤                          ├─► Save, Forget    (the state database)
    clock ─► Tick ──────┘                          └─► Tell            (log, events, hooks, metrics)
"""
