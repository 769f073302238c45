"""A daemon over a busy registry, killed again and again, while somebody reads what is published.

::

    world.py    the registry: specs, models and data, and everything that people do to them
    lives.py    daemons: started with and without faults, killed with kill -9 like their workers, stopped, drained
    reader.py   a process that hashes what is published all the while
    quick.py    a stand-in for the pipeline, so that there are thousands of builds; one spec in eight is built for real
    verdict.py  what must hold in the end

``make soak`` runs it for ten minutes and writes its table into docs/explanation/reliability.md.
"""
