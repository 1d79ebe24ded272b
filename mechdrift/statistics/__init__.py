"""Pure statistics: functions of numbers that know nothing of models, files or alignment.

intervals    intervals over families that stay honest near 0 and 100 %, and the share that may be unseen
resampling   paired tests, bootstrap over families, max-T, Holm, signal detection
sequential   tests and intervals that stay valid when data are looked at after every wave of families
power        how large a fall a design finds, by simulation
pooling      several estimates of one effect in a random-effects summary
grids        which cells of a patch grid to believe: family-wise p values and a simultaneous band
angles       the angle between two directions that are known with noise, with its interval
geometry     means, ranks and projections of activations
"""
