"""HTTP: the three listeners of a node, what they answer, and the dashboard."""
