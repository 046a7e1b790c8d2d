"""Self-paced training on pseudo labels: measure the reliability of each and keep the part that trains the best model.

`search` selects, `reliability` measures, `run` executes and resumes. docs/curriculum.md has the rules with their
sources. Works for every family that predicts one box per sentence; importing it does not import MindSpore.
"""
