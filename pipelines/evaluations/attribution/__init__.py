"""The question: what do explanations show of noise that the model does not notice, and what can they be made to show?

May import: evaluations/, engine, data, report's parts.
May not import: another evaluation.
"""
