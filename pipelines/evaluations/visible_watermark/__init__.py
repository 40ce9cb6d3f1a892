"""The question: does the model notice a mark that people see, also after JPEG?

May import: evaluations/, engine, data, report's parts.
May not import: another evaluation.
"""
