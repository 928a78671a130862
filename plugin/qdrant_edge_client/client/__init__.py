"""The client's methods by concern: collections, points, searches, groups. Begin with `edge_client`."""
