"""The executables: wiring between ROS 2, the models and the core."""
