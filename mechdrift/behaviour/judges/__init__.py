"""What is judged of an answer, and by whom.

refusals         does it refuse? (rules with fitted weights over `refusal_features` of a `refusal_reading`; `refusal_markers`
                 and `refusal_words` hold phrases and words, `refusal_languages` openings in other languages)
coherence        does it make sense?
toxicity         how toxic is it?
choosing         which option does it name?
secrets          does it hold a secret?
moral            does it call an act right or wrong?
external         other judges in place of the refusal rules
files            a judge from a TOML file
harm             how much harm does it do? (a chat model, StrongREJECT's score)
keeping          what an audit does about a judge that fails
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
