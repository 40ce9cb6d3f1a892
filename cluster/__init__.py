"""How a pipeline reaches a cluster: starting Ray on machines of one's own. `README.md` has the commands."""
