"""Workers that are Ray actors: `cluster` connects, `room` counts places, `pool` gives tasks to actors, `worker` is one.

Nothing outside this folder imports Ray.
"""

from gneiss.backends.ray_actors.backend import RayActors
from gneiss.backends.ray_actors.room import check_nodes, room_on

__all__ = ["RayActors", "check_nodes", "room_on"]
