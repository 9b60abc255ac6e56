"""Backups: a consistent point of the folder made for a backup program, and taken in again.

A *point* is a directory of this node's volume that has the folder as it was at one index of the
log. A backup program reads it, and it is removed. To restore, such a directory is put back on the
volume of a node, which takes its files in as ordinary changes.
"""

from pickbox.backup.jobs import Backups, Job
from pickbox.backup.point import Origin, PointMaker
from pickbox.backup.restoring import Restorer

__all__ = ["Backups", "Job", "Origin", "PointMaker", "Restorer"]
