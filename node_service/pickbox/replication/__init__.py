"""The replication part."""
