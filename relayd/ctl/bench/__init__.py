"""`relayctl bench`: the camera load on one running relayd; `entry` is the command."""
