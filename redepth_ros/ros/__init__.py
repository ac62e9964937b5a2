"""ROS 2 messages, node building blocks and data streams; contains no algorithms."""
