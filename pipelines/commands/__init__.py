"""What a user types: run, kernel, zoo, show, watermark, status, ui; and what these commands print.

May import: every other folder of pipelines/.
Other folders may not import it.
"""
