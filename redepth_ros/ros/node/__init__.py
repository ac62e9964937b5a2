"""What every ROS 2 node needs: lifecycle, parameters, diagnostics, log, quality of service."""
