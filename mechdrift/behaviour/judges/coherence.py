"""Does an answer make sense? Loops, gibberish, word salad and answers to another question, found without a language
model.

`find_fault` names the first of four faults that an answer has; each has a file, which describes the method:

    loop         it says the same again and again (`coherence_loops`)
    gibberish    it is hardly text, or its words are not words (`coherence_gibberish`)
    word salad   its words follow one another as they do by chance (`coherence_word_order`)
    off-topic    it is long, does not decline, and shares no word with its prompt (`coherence_topic`)

Sharing no word is a weak sign, so off-topic answers are counted (the metric `off_topic`), but only clear cases
(`is_clearly_off_topic`) are labelled incoherent, by `dimensions`: answers of 30 words and more to a well-spelt question
that has four topic words or more and does not ask for something made up.

`experiments/judges/fit_coherence.py` fits letters and neighbours on this project's own texts and on the same texts,
broken on purpose; the weights are hashed and hold no text. Measured by `experiments/judges/validate.py` (intervals in
`validation.md` there), on texts that were not used in the fit:

    called faulty of answers as written   0, 0 and 0.4 % of the answers of three models to XSTest; 2 % of
                                          JailbreakBench's; 0.1 % of GSM8K's and 0.6 % of MATH-500's solutions; 0.9 % of
                                          this project's held-out answers, all off-topic; clearly off-topic: 1 of these
                                          4,164 answers
    of poems, guides, lists and the like  written to try it: 1 of 134, in telegram style; 0.9 % of this package's code
                                          in pieces of 20 lines (before verse and bare code were recognised: 5 of the
                                          first 104 and 6 %)
    found in XSTest's answers, cut at     12      25      50     100 words
        nothing broken (false alarms)     0.6     0.2     0.1      0 %
        loops of four kinds               100     100     100    99.5 % and more
        shuffled, in four ways          41-53   75-92  96-100  99-100 %
        random words, by frequency         62      95     100     100 %
        half of the words replaced         32      66      91      97 %
        10 % / 40 % of letters replaced   4/28   42/36   86/61   99/93 %
    swapped between prompts               of 20 words and more, called off-topic: 50 to 64 % of one XSTest model's
                                          answers, but 11 and 25 % of those of two that often decline; 56 % of
                                          JailbreakBench's; 9 to 17 % of GSM8K's, whose subjects resemble one another;
                                          74 to 84 % of this project's; clearly so: 18 to 26, 4 and 11, 29, 5 to 9 and
                                          27 to 58 %

Nothing was fitted on others' texts, but thresholds were chosen with these rates in sight, so the false alarms are a
little too few. What passes: fluent nonsense, whose neighbours are natural and whose words come from the prompt; salad
of fewer than eight pairs, of other languages than English, of code, and much of it in the short lines of a poem and
among numbers (of GSM8K cut at 25 words and shuffled with its numbers, a quarter is found); loops inside LaTeX formulas;
answers to another question that share a word with this one, or that decline. "Faulty" says how a text is built, not
whether it is true.
"""

from typing import Literal

from mechdrift.behaviour.judges.coherence_gibberish import is_gibberish
from mechdrift.behaviour.judges.coherence_loops import is_loop
from mechdrift.behaviour.judges.coherence_topic import is_off_topic
from mechdrift.behaviour.judges.coherence_word_order import is_word_salad

Fault = Literal["loop", "gibberish", "word salad", "off-topic"]


def is_incoherent(answer: str, prompt: str = "") -> bool:
    """Whether an answer has a fault. Without a prompt, an off-topic answer cannot be recognised."""
    return find_fault(answer, prompt) is not None


def find_fault(answer: str, prompt: str = "") -> Fault | None:
    """The fault of an answer, or None. An unfinished last sentence is not a fault: answers are cut at a budget."""
    if is_loop(answer):
        return "loop"
    if is_gibberish(answer):
        return "gibberish"
    if is_word_salad(answer):
        return "word salad"
    return "off-topic" if prompt and is_off_topic(prompt, answer) else None
