"""Measuring the tool itself: speed against a plain forward pass and against TransformerLens.

machine      capture, generation and patching against the least they cost
grids        patch grids against a pass for each cell
stages       the stages of an audit in forward passes, beside the least that they need
"""
