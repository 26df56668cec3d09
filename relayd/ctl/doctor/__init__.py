"""`relayctl doctor`: finds common faults of an installation, and prints the remedy of each.

Under `ctl.main`, which imports `command` alone. Inside, from top to bottom: `command` runs the
checks and prints the findings; `checks` lists them; one module for each subject; `facts` has the
data that several of them need; `findings` is the ground.
"""
