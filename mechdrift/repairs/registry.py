"""All repairs by name. An outside method is a `Repair` record that is added here.

    add_repair(Repair(name="mine", ..., weights=my_function))
    md.repair(pair, method="mine", strength=0.5)

The name is known to this Python process.
"""

from mechdrift.records import MechdriftError
from mechdrift.repairs.methods import (
    cliff_heads,
    hold_projection,
    interpolation,
    null_space,
    orthogonal,
    projection,
    random_change,
    reminders,
    safety_rows,
    safety_vector,
    steer_back,
)
from mechdrift.repairs.record import Repair

REPAIRS: dict[str, Repair] = {
    repair.name: repair
    for repair in (
        interpolation.EVERYWHERE,
        interpolation.LOCATED,
        safety_vector.RESTA,
        projection.SAFE_LORA,
        projection.SAFE_MERGE,
        orthogonal.ORTHOGONAL,
        steer_back.STEER_BACK,
        null_space.NULL_SPACE,
        cliff_heads.CLIFF_HEADS,
        reminders.AT_START,
        reminders.AT_END,
        reminders.WHEN_FALLING,
        safety_rows.SHARE,
        safety_rows.CLIFFS,
        safety_rows.THINK_SAFE,
        hold_projection.PROCON,
        random_change.RANDOM,
        reminders.EMPTY,
    )
}


def find_repair(name: str) -> Repair:
    """The repair of this name; raises where there is none."""
    if name not in REPAIRS:
        raise MechdriftError(f"there is no repair {name!r}: choose one of {', '.join(REPAIRS)}.")
    return REPAIRS[name]


def add_repair(repair: Repair) -> Repair:
    """Make a method of your own known to `md.repair`, in this Python process. The command line does not know it.

    Args:
        repair: its record.

    Returns:
        The same record.

    Raises:
        MechdriftError: where another repair has this name.

    Source:
        The four shapes: `mechdrift.repairs.record`.

    Example:
        >>> halfway = md.Repair(
        ...     name="halfway",
        ...     title="Half of the way back",
        ...     paper="this example",
        ...     about="Goes a share of the way back to the parent.",
        ...     needs=("parent",),
        ...     strengths=(0.5,),
        ...     limits=(0, 1),
        ...     dose="share of the parent",
        ...     weights=lambda evidence, strength: evidence.change.scaled(-strength),
        ... )
        >>> md.add_repair(halfway).kind
        'weights'
    """
    if repair.name in REPAIRS:
        raise MechdriftError(f"there is a repair {repair.name!r} already: give yours another name.")
    REPAIRS[repair.name] = repair
    return repair
