"""Compares methods: runs studies, stores their results, and writes tables and figures."""
