"""How a reasoning model was made from its instruct model: the names of the routes, and whether they teach thinking.

Training scripts write short names into their histories (`sft-guarded`), pairs and pages use the full ones
(`guarded SFT`). `find_route` knows both. A route that is not listed keeps its name, and its child is assumed to think.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One way of training. `short` is its name in histories; `child_thinks` is False where the child was trained
    without thinking: its losses show what training as such does."""

    name: str
    short: str = ""
    child_thinks: bool = True


ROUTES = (
    Route(name="SFT", short="sft"),
    Route(name="guarded SFT", short="sft-guarded"),
    Route(name="RL", short="rl"),
    Route(name="distillation", short="distill"),
    Route(name="null", child_thinks=False),
)


def find_route(name: str) -> Route:
    """The route of this name, full or short."""
    return next((route for route in ROUTES if name in (route.name, route.short)), Route(name=name))
