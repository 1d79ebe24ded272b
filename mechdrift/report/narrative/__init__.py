"""The sentences of a page and a card, from the tables of a run. No number is computed here.

evidence         the numbers of one score row in words: levels, difference, interval, p
changes          what changed: one finding per dimension
summary          the first two sentences: the whole verdict, and what happened to reasoning
certainty        how sure that is
places           where the change sits inside the model
directions       what the figures of the directions show
reader_warnings  what a reader must know before trusting the numbers

Four rules hold in all of them. Where too many answers are missing, nothing is said of a dimension except that it cannot
be told. A change is named only where its Holm-adjusted p-value is below 0.05 *and* its interval leaves out zero. "No
change" always comes with the size of the change that could have been found. A place inside the model is named only
where the readout is reliable, the two models' readouts differ beyond noise, and the cell survives the family-wise test.
"""
