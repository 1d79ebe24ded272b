"""Many audits as one plan: pairs, checkpoints, seeds and presets, on one machine or many.

    study        what a study file says
    cells        the plan: one line per unit of work, in the order in which they depend on each other
    estimates    tokens and memory of a cell, before anything runs
    storage      where runs and parts lie: a disk, a shared disk, or an object store
    ledger       what became of each cell, as files
    work         one cell, in this process
    schedule     which cell next, on which device
    workers      what a launcher has to offer
    local, on_ray, slurm     launchers
    status       where a study stands

Run folders are the only thing that processes share.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
