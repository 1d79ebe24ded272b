"""Answers that another tool asked for: read from its file, matched to what was asked, judged and compared here.

record        one answer from another tool, with its thinking separated
inspect_logs  logs of inspect_ai (`.eval`, `.json`)
lm_eval       sample files of lm-evaluation-harness (`.jsonl`)
matching      which probe, benchmark item or task an answer is to
scoring       `score_answers`: both sides' answers, compared in pairs
command       what `mechdrift score --answers` does
"""
