"""ROS 2 messages, parameters and lifecycles as this package uses them; no mathematics."""
