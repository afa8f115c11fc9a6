from setuptools import setup

setup(
    name="dpt_ros2",
    version="0.1.0",
    packages=["dpt_ros2"],
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/dpt_ros2"]),
        ("share/dpt_ros2", ["package.xml"]),
    ],
    entry_points={"console_scripts": ["depth = dpt_ros2.node:main"]},
)
