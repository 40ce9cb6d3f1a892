"""The question: does the model notice noise from its kernel, beside noise of equal norm that is not?

May import: evaluations/, engine, data, report's parts.
May not import: another evaluation.
"""
