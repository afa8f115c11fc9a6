"""Camera messages of ROS: pictures in, maps and point clouds out, one by one or a bag at a time."""
