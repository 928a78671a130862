"""What a collection says of itself: its metadata, and how documents lie in payloads. Begin with `models`."""
