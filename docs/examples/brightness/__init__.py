"""The question: how do predictions change when an image becomes brighter or darker by a step?

May import: evaluations/, engine, data, report's parts.
May not import: another evaluation.
"""
