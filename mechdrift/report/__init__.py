"""The report of a run: a page, a section for a model card, figures, logs. Everything here reads a run folder (or its
tables) and nothing else: no model, no network.

page            `write_report`: the page of an audit
stress          the page and the card of a stress test
card            `model_card`: a section for a model card, as Markdown (`card_rows`, `card_limits`: its parts)
inspect_logs    `to_inspect`: the answers as logs of inspect_ai
gallery         `run.figures`: each figure when it is asked for
of_run          which of these a run folder has

narrative       the sentences of page and card
figures         the figures, a file for each subject
captions        the words below each figure
exhibits        figure, words and data together, or the sentence in their place

rows            tables of a run as rows for the page: answers, scores, tasks, lengths
readout_rows    readouts as rows: how well they follow behaviour, how they change through the thinking
waves           waves as rows
provenance      facts, lineage and prompts as rows
sheets          the data behind each figure, packed into the page

templating      how every page is made safe to open
words           words and number formats
drawing, theme  the parts and the look of figures
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
