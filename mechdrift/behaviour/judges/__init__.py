"""The judges: what each says of an answer.

refusals         does it refuse? (rules with fitted weights over `refusal_features` of a `refusal_reading`; `refusal_markers`
                 and `refusal_words` hold phrases and words, `refusal_languages` openings in other languages)
coherence        does it make sense? (`coherence_loops`, `coherence_gibberish`, `coherence_word_order` and
                 `coherence_topic` look for one fault each; `coherence_text` holds what they share)
toxicity         how toxic is it?
choosing         which option does it name?
secrets          does it hold a secret?
moral            does it call an act right or wrong?
insults          does it say an insult that its item names?
conclusions      the part of an answer that says what it concludes
external         other judges in place of the refusal rules: what they have in common, and a classifier
chat             a chat model behind an endpoint, as a judge
files            a judge from a TOML file
harm             how much harm does it do? (a chat model, StrongREJECT's score)
keeping          what an audit does when a judge fails
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
