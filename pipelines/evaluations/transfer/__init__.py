"""Do other models notice the noise that this one does not?

May import evaluations, report, engine, data; must not import another evaluation or anything above.
"""
