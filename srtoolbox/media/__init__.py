"""Reads and writes the media of users: pictures, animations, video and maps.

Pixels are numpy arrays (C, H, W) of uint8, uint16, or float32 in [0, 1], in RGB order, upright.
"""
