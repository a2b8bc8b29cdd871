"""Photographs on disk: the layouts people have, and how each picture is read."""
