"""The question: can a picture show people one image and the model another?

May import: evaluations/, engine, data, report's parts.
May not import: another evaluation.
"""
