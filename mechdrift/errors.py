"""The one exception that is meant for the user."""


class MechdriftError(Exception):
    """Something the user can put right: the message is one sentence that says what is wrong and what to do."""
