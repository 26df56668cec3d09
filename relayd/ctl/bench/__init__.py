"""`relayctl bench`: the camera load on one running relayd; `command` is the way in."""
