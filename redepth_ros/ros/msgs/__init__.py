"""Conversions between ROS messages and the types of core: x_from_msg and x_to_msg."""
