"""The mathematics: torch, numpy and the standard library, nothing of ROS or of any model."""
