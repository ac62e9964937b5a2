from pathlib import Path

from setuptools import find_packages, setup

NAME = "redepth_ros"
TINY = Path(NAME, "models", "tiny")

setup(
    name=NAME,
    version="0.1.0",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={
        NAME: ["py.typed", *(str(path.relative_to(NAME)) for path in TINY.rglob("*.*"))],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", ["launch/redepth.launch.py", "launch/mapping.launch.py"]),
        (f"share/{NAME}/config", ["config/redepth.yaml", "config/redepth.rviz", "config/fastdds.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=False,
    maintainer="redepth_ros maintainers",
    maintainer_email="maintainers@redepth-ros.example",
    description="Fast depth from Depth Anything V2 for every camera frame, and depth of keyframes refined by "
    "test-time optimisation, as ROS 2 topics.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "camera_player = redepth_ros.nodes.camera_player:main",
            "redepth = redepth_ros.cli.main:main",
            "refine_server = redepth_ros.nodes.refine_server:main",
            "redepth_together = redepth_ros.nodes.composed:main",
            "redepth_node = redepth_ros.nodes.redepth_node:main",
        ],
    },
)
