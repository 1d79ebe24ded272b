"""The words and the frozen records that flow between the stages.

Every stage takes records and returns new ones; none changes what it was given. A record that holds numbers has a
`.frame`: a tidy pandas table with one observation per row, to go on with in pandas. Axis names in shapes are `prompt
pos layer role head d_model vocab token family`.

    words         dimensions, sides, think modes, roles, labels
    probes        ProbeItem, ProbeSet: what is asked; Rendered: token ids with named roles
    activations   Activations [prompt, layer, role, d_model]; Directions [layer, role, d_model]; DirectionDrift
    grids         PatchGrid [prompt, layer, role]; Verification
    answers       Completion, Completions: what was answered; ScoreTable: how it was scored
    progress      where a long command stands

The package's own code imports these names from here, too: each name loads only its own file, so a command that needs
words and probes never waits for torch (`activations`) or pandas.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
