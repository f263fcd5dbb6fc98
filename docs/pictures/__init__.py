"""The pictures of docs/physics, drawn from the package itself: ``python -m docs.pictures`` draws all of them anew."""

from docs.pictures import devices, effects, encodings, periphery, programming, wires
from docs.pictures.base import pictures, save

__all__ = ["devices", "effects", "encodings", "periphery", "pictures", "programming", "save", "wires"]
