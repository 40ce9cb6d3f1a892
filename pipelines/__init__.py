"""The stages: they move data through `nullspace` on Ray and record results in MLflow. The command line lives here."""
