"""Fast depth from Depth Anything V2 for ROS 2, and its refinement at test time."""

__version__ = "0.1.0"
