"""Reads and writes the media of users: images, animations, videos and maps, as numpy arrays."""
