"""One kind of path a file: its rules, its protocol and its factory.

the table        paths.py         their paths, groups and words
/ws/camera       camera.py        poses to all members of a group
/ws/difficulty   difficulty.py    a phone's request to the headset under its UUID
/ws/chat         chat.py          rooms with a history
/ws/push         push.py          receive only
/ws/echo         echo.py          back to the sender
anything else    unknown.py       404
"""
