"""Decode objects with the fields of ROS messages, whichever library made them; imports no ROS."""
