"""The question: how does the model bear natural corruptions of its images, and how much of them lies in its kernel?

May import: evaluations/, engine, data, report's parts.
May not import: another evaluation.
"""
