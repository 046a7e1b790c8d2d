"""Self-paced training on pseudo labels: measure how far each is to be relied on, keep the part that teaches best.

`search` decides, `reliability` measures, `run` carries out and resumes. docs/curriculum.md has the rules with their
sources. Works for every family that predicts one box per sentence; importing it does not import MindSpore.
"""
