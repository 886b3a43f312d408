"""Comparing methods: what to run, what came out, and the tables and figures made from it."""
