"""The question: how small a change of pixels changes a prediction, beside changes of equal size that must not?

May import: evaluations/, engine, data, report's parts.
May not import: another evaluation.
"""
