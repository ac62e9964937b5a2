"""Recordings: bags, videos and image files, read without ROS."""
