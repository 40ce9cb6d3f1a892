"""The question: are hidden messages read after distortions, and does the model notice them?

May import: evaluations/, engine, data, report's parts.
May not import: another evaluation.
"""
