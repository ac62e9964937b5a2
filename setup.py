from pathlib import Path

from setuptools import find_packages, setup

NAME = "redepth_ros"
PACKAGE_DATA = ("models/tiny/**/*.*", "data/images/*.png", "**/templates/*.html")

setup(
    name=NAME,
    version="0.1.0",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={
        NAME: [
            "py.typed",
            *(str(path.relative_to(NAME)) for pattern in PACKAGE_DATA for path in Path(NAME).glob(pattern)),
        ],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", ["launch/redepth.launch.py", "launch/mapping.launch.py"]),
        (f"share/{NAME}/config", ["config/redepth.yaml", "config/redepth.rviz", "config/fastdds.xml"]),
    ],
    python_requires=">=3.10",
    # For `pip install .`, which makes `redepth process`, `refine` and `evaluate` work without ROS. In a
    # colcon workspace, package.xml and requirements.txt name what is installed.
    install_requires=[
        "setuptools",
        "diffusers>=0.41,<1",
        "huggingface_hub",
        "jinja2>=3,<4",
        "matplotlib>=3.7,<4",
        "numpy>=1.24",
        "opencv-python-headless>=4.5,<5",
        "pillow",
        "pyyaml",
        "rich>=13,<16",
        "rosbags>=0.11,<0.12",
        "safetensors>=0.5",
        "scipy>=1.8",
        "torch>=2.6",
        "transformers>=5,<6",
    ],
    extras_require={
        "exr": ["OpenEXR>=3.3,<4"],  # `redepth process --exr`
        "onnxruntime": ["onnx", "onnxruntime", "onnxscript"],  # runtime of the fast depth
        "openvino": ["openvino>=2026"],  # runtime of the fast depth
        "nyu": ["h5py>=3.10,<4"],  # reads NYU Depth V2's file in `redepth evaluate`
        "ray": ["ray>=2.9,<3"],  # option --ray of `redepth process`, `refine` and `evaluate`
        "rerun": ["rerun-sdk"],  # format rrd of `redepth process`
        "ros": ["scikit-image"],  # photographs of the camera_player and the demo
        "test": ["hypothesis", "psutil", "pytest"],  # colcon runs pytest if it is named here
    },
    zip_safe=False,
    maintainer="redepth_ros maintainers",
    maintainer_email="maintainers@redepth-ros.example",
    description="Fast depth from Depth Anything V2 for every camera frame, and depth of keyframes refined by "
    "test-time optimisation, as ROS 2 topics.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "camera_player = redepth_ros.entry_points:camera_player",
            "redepth = redepth_ros.entry_points:redepth",
            "redepth_composed = redepth_ros.entry_points:redepth_composed",
            "redepth_node = redepth_ros.entry_points:redepth_node",
            "refine_server = redepth_ros.entry_points:refine_server",
        ],
    },
)
