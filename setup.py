"""Package metadata; nothing is executed or compiled at installation."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="srtoolbox",
    version="0.1.0",
    description="A registry-based toolbox to train and fairly compare super-resolution methods",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    python_requires=">=3.10",
    packages=find_packages(include=["srtoolbox", "srtoolbox.*"]),
    package_data={"srtoolbox.comparison": ["templates/*"]},
    install_requires=[
        "torch>=2.6",
        "torchvision>=0.21",
        "safetensors>=0.4",
        "numpy>=1.26",
        "opencv-python>=4.8",
        "lpips>=0.1.4",
        "pyyaml>=6.0",
        "tensorboard>=2.14",
        "addict>=2.4",
        "rich>=13.0",
        "scikit-image>=0.22",
        "scipy>=1.11",
        "matplotlib>=3.8",
    ],
    extras_require={"test": ["pytest>=7.4", "ruff>=0.6", "jsonschema>=4.18"]},
    entry_points={"console_scripts": ["srtoolbox=srtoolbox.cli:main"]},
    classifiers=[
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Processing",
    ],
)
