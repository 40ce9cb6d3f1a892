"""What Ray Tune is given for a search, and what it leaves of one: suggestions, early stopping, progress, saved state.

May import engine, tracking and files; must not import the stage or anything above. Tune stores some of these by name:
where one moves, `VERSION` of the stage is raised.
"""
