"""Work on shards: actors that hold a model, the size of their batches, reading and writing beside the work.

May import: data, engine's models, progress and failures.
May not import: machines; where workers run is given to them.
"""
