"""Many audits as one plan: pairs, checkpoints, seeds and presets, on one machine or many.

    study        the study file: pairs, seeds, presets, shards
    cells        the plan: one line per unit of work, in the order in which they depend on each other
    estimates    tokens and memory of a cell, before anything runs
    planning     from a study to its cells
    storage      where runs and parts lie: a disk, a shared disk, or an object store
    ledger       the state of each cell, as files
    work         one cell, in this process; doing: what each kind of cell does
    schedule     which cell comes next, on which device
    launch       from the plan to its end; workers: what a launcher offers
    local, on_ray, slurm     the launchers
    status       where a study stands

Run folders are the only thing that processes share.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
