"""A node of ROS 2 that publishes depth, labels and points of a camera."""
