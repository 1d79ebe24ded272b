"""Measuring the tool itself: speed against a plain forward pass and against TransformerLens.

machine      capture and generation against plain Hugging Face, patching against one forward pass per cell
grids        patch grids against TransformerLens, and how their cost grows
stages       the stages of an audit in forward passes, beside the least that they need
"""
