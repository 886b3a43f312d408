"""Translates option files of BasicSR; see ``translate``."""
