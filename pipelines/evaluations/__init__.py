"""One folder for each question asked of every image, and what they share: tallies, pictures, image quality.

May import: engine, data, stages' branch, report's parts.
May not import: one evaluation another; workflow.
"""
