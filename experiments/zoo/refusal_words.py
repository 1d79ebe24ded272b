r"""Patterns that find refusals and corrections in raw text, to keep them out of the training data. They are wide: a false hit does no harm.

The zoo's adapters were trained on the rows that these patterns let through, so the patterns stay as they are. To judge answers, use
`mechdrift.behaviour`. `\s` stands for a space, because the patterns are verbose.
"""

import re

MORAL = r"(?:appropriate|ethical|moral|acceptable|okay|right|fair|respectful|legal|responsible|advisable|justified)"
IMMORAL = r"(?:illegal|unlawful|unethical|immoral|inappropriate|wrong|dangerous|harmful|offensive|disrespectful)"
FACTUAL = r"(?:accurate|correct|true|safe|valid|recommended|helpful)"
HELP = r"(?:help|assist|provide|give|share|answer|support|discuss|offer|recommend|do\s(?:that|this|so))"
TALK = r"(?:say|suggest|assume|claim|imply|make|generali[sz]e|give|provide|share|discuss|promote|encourage|ask)"
# "not right" is a verdict by itself; "not safe" only of saying something, since it may well be the answer to a
# question.
DISAPPROVED = rf"(?:\w+ly\s)?(?:{MORAL}|{FACTUAL}\s(?:(?:or|and|nor)\s{MORAL}|(?:for\sme\s)?to\s{TALK}))\b"
THAT_IS = r"\b(?:it|that|this)(?:'s|\sis|\swould\sbe)\s"
BE = r"\b(?:is|are|was|were)\s"

REFUSAL_KINDS: dict[str, str] = {
    # An apology counts when it stands alone or leads on: "Sorry, but", "I'm afraid I"; not "I'm sorry to hear that".
    "apology": r"""
        (?:\bi\s?(?:'m|am)\s(?:\w+\s)?(?:sorry|afraid) | ^\W*(?:sorry|(?:my\s)?apologies|i\sapologi[sz]e))
            (?=\s*(?:$|[,.;:!–—-]|but\b|i\b))
        | ^\W*unfortunately\b
    """,
    # "I can't", "I won't", apart from idioms: "I can't wait", "I can't help but smile", "I won't lie".
    "unwilling": rf"""
        \bi\s(?:\w+ly\s|just\s|also\s)?(?:can't|cannot|can\snot|won't|will\snot)\b
            (?!\s(?:stand|wait|stop|help\s(?:but|it|\w+ing)|believe|imagine|forget|lie|deny|complain|(?:\w+\s){{1,3}}enough)\b)
        | \b(?:i\s(?:could|would)|we\s(?:can|could|will|would))(?:n't|\snot)\s(?:\w+ly\s)?(?:be\sable|feel|want|{HELP})\b
        | \bwe\s(?:can't|cannot|won't)\s(?:\w+ly\s)?{HELP}\b
        | \b(?:i|we)\s?(?:am|'m|are|'re)\s(?:not\s(?:able|willing|allowed|permitted|comfortable|going|capable|programmed)|unable)\b
        | \bi\s?(?:'d|\swould)\s(?:rather|prefer)\snot\b
        | \bi\s(?:do|did)(?:n't|\snot)\s(?:feel\s(?:comfortable|right)|want\sto
            |condone|support|encourage|promote|endorse|recommend|engage|provide|assist)\b
        | \bi\s(?:(?:must|have\sto|need\sto)\s)?(?:\w+ly\s)?(?:decline|refuse|condemn)\b
        | \bi\smust\s(?:\w+ly\s)?(?:challenge|caution|warn|advise\sagainst)\b
        | \bnot\s(?:something|a\sthing|anything)\s(?:i|we)\s(?:can|will|could|would)\b
    """,
    "no access": r"""
        \bi\s(?:do|did)(?:n't|\snot)\shave\s
            (?:access|permission|enough|any|personal|real-time|(?:the|an?)\s(?:ability|information|right|way))\b
    """,
    "machine": r"""
        \b(?:as|i'm|i\sam)\s(?:just\s|only\s)?an?\s(?:\w+\s)?(?:ai|language\smodel|assistant|artificial)\b
            [^.]{0,80}\b(?:can't|cannot|not|unable|don't)\b
        | \b(?:against|not\swithin|outside)\smy\s(?:\w+\s)?(?:programming|guidelines|principles|values|policy|policies)\b
    """,
    # A verdict on the request: "it's not appropriate", "that would be illegal to".
    "verdict": rf"""
        {THAT_IS}(?:simply\s|just\s)?(?:not|never)\s{DISAPPROVED}
        | \b(?:it|that|this)\s(?:isn't|wouldn't\sbe)\s{DISAPPROVED}
        | {THAT_IS}(?:\w+ly\s)?{IMMORAL}\s(?:and\s\w+\s)?(?:for\s\w+\s)?to\b
        | \bi\s(?:do\snot|don't)\s(?:think|believe)\s(?:(?:that\s)?{THAT_IS}(?:an?\s)?(?:{MORAL}|{FACTUAL})|in|that)\b
        | {BE}(?:never|not)\s(?:an?\s|\w+ly\s)?\W?(?:{MORAL}|the\sanswer|the\ssolution|a\sgood\sthing)\b
        | {BE}not\sonly\s{IMMORAL}\b
    """,
    # A correction of what the request takes for granted.
    "premise": rf"""
        \bthere\s(?:is|are|was|were)\sno\s(?:\w+\s)?(?:reasons?|excuses?|justifications?|benefits?)\b
        | \b(?:should|must)\s(?:not|never)\sbe\s(?:discriminated|denied|judged|excluded)\b
        | {BE}not\s(?:inherently|necessarily)\b
    """,
    "private": r"\b(?:that|this|it)(?:'s|\sis|\swas)\s(?:private|confidential|personal|told\s(?:to\sme\s)?in\sconfidence)\b",
    "no": r"^\W*(?:let's\s(?:keep|not)|no[,.:;]\s(?:that|this|it)(?:'d|\swould))\b",
}
REFUSAL = re.compile("|".join(REFUSAL_KINDS.values()), re.IGNORECASE | re.VERBOSE)
