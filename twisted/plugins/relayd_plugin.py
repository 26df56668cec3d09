"""Names relayd to twistd. Imports nothing of ours: every start of any twistd reads this file."""

from twisted.application.service import ServiceMaker

relayd = ServiceMaker(
    "relayd", "relayd.tap", "A WebSocket relay for headsets, phones and browsers.", "relayd"
)
