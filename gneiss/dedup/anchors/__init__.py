"""Engine 2: repeats from anchors; near the speed of hashing, exact, linear on any input."""
