"""Adapters to networks of other libraries, and the embedded networks `tiny`."""
