"""minicontainer: a container runtime that can be seen through. A container start is a plan; see runtime/plan.py."""

__version__ = "0.1.0"
