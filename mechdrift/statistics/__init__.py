"""Numbers in, numbers out: no model, no table, no word of alignment.

intervals    intervals over families that stay honest near 0 and 100 %, and the share that may be unseen
resampling   paired tests, bootstrap over families, max-T, Holm, signal detection
grids        which cells of a patch grid to believe: family-wise p values and a simultaneous band
angles       the angle between two directions that are known with noise, with its interval
geometry     means, ranks and projections of activations
"""
