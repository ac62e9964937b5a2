"""Streams: subscriptions, caches by stamp, clients, and the scheduling of goals."""
