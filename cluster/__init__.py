"""Running the pipeline on a cluster: as a job of Ray, on nodes that the scripts here start. See `README.md`."""
