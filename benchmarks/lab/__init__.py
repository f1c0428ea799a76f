"""Experiments behind design decisions; the tables that users read are one folder up."""
