"""The figures of a run's page: tables of a run in, a plotly figure out.

    from mechdrift.report import figures
    figures.direction_drift(run.table("drift")).show()

scores       both models' scores, discrimination and criterion, the two ways to fail
tasks        accuracy on reasoning tasks, by kind
lengths      how long both models think and answer
drift        how far the directions turned: cosine, angle, and movement against neutral twins
dimensions   cosines between the dimensions' directions
thinking     projections along the thinking
steering     candidates for the refusal direction, and what the selected one does
patches      patch grids
grafts       what passes through each layer, and what originates there
divergence   KL divergence by token
weights      change of the weights
stress       a stress test's lifts, by mode and by dose

A public function whose table has no row to draw raises `MechdriftError` with the reason, and the page prints that
sentence in the figure's place. Text from models and prompts reaches plotly's hover boxes only through `html.escape`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
