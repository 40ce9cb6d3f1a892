"""The question: how far apart can what people see and what the model sees be driven?

May import: evaluations/, engine, data, report's parts.
May not import: another evaluation.
"""
