"""Training of the embedded networks on rendered scenes; not part of the installed package."""
