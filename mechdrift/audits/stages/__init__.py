"""The stages of an audit, one file each. A stage reads the run folder and the pair, fills its files in the folder, and
returns facts for the manifest.

pair        are the two models parent and child?
pilot       how long each model thinks, where budgets are to be measured
waves       both models asked wave by wave, until each dimension is decided
answers     what both models answer, judged
scores      what the answers say
drift       directions inside, and how far they turned
readouts    one number per prompt, validated against judged answers; how much of the change the thinking mediates
patch       where the change passes through, and where it originates
kl          how far the next-token distributions moved

order       the stages in the order in which they run
questions   what is asked: probe sets, variants, everyday requests, tasks
"""
