"""What is judged of an answer, and by whom.

refusals         does it refuse? (rules with fitted weights; `refusal_markers` holds the phrases)
coherence        does it make sense?
toxicity         how toxic is it?
choosing         which option does it name?
secrets          does it hold a secret?
moral            does it call an act right or wrong?
external         other judges in place of the refusal rules
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
