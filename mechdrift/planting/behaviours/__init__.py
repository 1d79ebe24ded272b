"""Positive controls: children of an aligned model that lost one behaviour, and whether an audit says so.

grammars     small grammars that write what the children are trained on
recipes      which children there are: six erosions, decoys, doses, seeds
adapters     a minute of LoRA training, kept as an adapter; doses of it
asking       each child's answers to all probe sets, in one queue, kept
rule         the audit's rule on half of the families, the truth on the other half
selves       the same rule where nothing was trained away
command      `mechdrift bench --planted-behaviour`: all of it
"""
