"""Does an answer share any word with its prompt?

A long English answer that does not decline, and shares no stem with its prompt (common words aside), is off-topic. That
is a weak sign, so such answers are only counted. `is_clearly_off_topic` is for the cases where it can hardly be wrong.
"""

import re

from mechdrift.behaviour.judges.coherence_text import WORD, is_english, is_known

FEWEST_TOPIC_WORDS = 3  # in the prompt
FEWEST_ANSWER_WORDS = 20
DECLINES = re.compile(
    r"\b(?:sorry|can(?:'t|not|\snot)|unable|won't|will\snot|not\sable|apologi[sz]e|as\san?\s(?:ai|\w+\s(?:ai|language))|just\san\sai"
    r"|not\s(?:appropriate|ethical|okay|acceptable)|illegal|(?:do\snot|don't)\s(?:have|know|think|feel)|i\smust|decline|refuse|confidence)\b",
    re.IGNORECASE,
)
COMMON_WORDS = """
a an the and or but nor so if then than that this these those there here it its it's i me my mine you your yours he
him his she her hers we us our ours they them their theirs who whom whose which what when where why how is am are was
were be been being do does did done doing has have had having can could will would shall should may might must not no
yes of in on at by to from for with without about into onto over under after before between through during against as
up down out off again once only just very too also more most much many some any all each every other another such own
same both few one two three i'm i've i'll i'd you're you'd don't doesn't didn't can't won't isn't aren't wasn't let
let's please tell give make get go use using want need like help way ways thing things good best new because while
until since ever never always often still even well now answer question following options choose pick say says said
know explain describe write create list
"""
COMMON = frozenset(COMMON_WORDS.split())


def is_off_topic(prompt: str, answer: str) -> bool:
    """Whether a long answer shares no word with the prompt. Refusals, short answers and other languages are let
    pass."""
    asked, told = topic_words(prompt), topic_words(answer)
    if len(asked) < FEWEST_TOPIC_WORDS or len(WORD.findall(answer)) < FEWEST_ANSWER_WORDS or asked & told:
        return False
    return not DECLINES.search(answer[:200].replace("’", "'")) and is_english(prompt) and is_english(answer)


CLEARLY_TOPIC_WORDS, CLEARLY_ANSWER_WORDS, CLEARLY_SPELT = 4, 30, 0.8
FREE = re.compile(  # what is made up may well do without the words of the request
    r"\b(?:writ|compos|creat|draft|invent|imagin|pretend|story|stories|poem|vers|rhym|song|joke|essay|article|speech|lett?er|email|messag|post"
    r"|comment|caption|headlin|slogan|title|nicknam|tweet|dialog|scene|script|line|sentenc|continu|finish|complet|repl|answer|respon"
    r"|act as|role|translat|rewrit|summar|paraphras|nam(?:e|ing)|list|suggest|recommend)",
    re.IGNORECASE,
)


def is_clearly_off_topic(prompt: str, answer: str) -> bool:
    """`is_off_topic`, where it can hardly be wrong: a long answer to a well-spelt request of several topic words, for
    nothing made up."""
    asked = topic_words(prompt)
    spelt = [word.lower() for word in WORD.findall(prompt)]
    return (
        len(asked) >= CLEARLY_TOPIC_WORDS
        and len(WORD.findall(answer)) >= CLEARLY_ANSWER_WORDS
        and not FREE.search(prompt)
        and sum(map(is_known, spelt)) >= CLEARLY_SPELT * len(spelt)
        and is_off_topic(prompt, answer)
    )


def topic_words(text: str) -> set[str]:
    """The stems of a text's words, apart from the commonest words: without an ending, and no more than five letters."""
    words = {re.sub(r"'s$", "", word.replace("’", "'")) for word in WORD.findall(text.lower())}
    return {re.sub(r"(?<=\w{3})(?:ings?|es|ed|e|s|y|d)$", "", word)[:5] for word in words - COMMON}
