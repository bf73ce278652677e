"""Lets the tests of the harness import its modules by the names that they call each other by."""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(__file__))
