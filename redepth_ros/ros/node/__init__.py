"""Parts of every ROS 2 node: lifecycle, parameters, diagnostics, log, quality of service."""
