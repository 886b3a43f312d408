"""Runs trained networks on whole images."""
