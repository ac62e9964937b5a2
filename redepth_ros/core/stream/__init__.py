"""Streams of frames: keyframes, hand-over between threads, statistics."""
