"""The question: does the model notice the learned noise, beside controls of equal norm?

May import: evaluations/, engine, data, report's parts.
May not import: another evaluation.
"""
