"""diga_lib: the thin library behind the book on fair facial attribute classification by generative augmentation."""

__version__ = "0.1.0"
