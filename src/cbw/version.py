"""The version of cbw. Not read from the metadata of its installation, which a zipapp and PyInstaller leave out."""

from __future__ import annotations

__version__ = "0.1.0"
"""The version of this package, as ``pyproject.toml`` has it too."""
