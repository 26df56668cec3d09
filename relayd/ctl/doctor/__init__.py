"""`relayctl doctor`: what goes wrong in practice, found before a user does, with the remedy.

Under `ctl.main`, which knows `command` alone. Inside, from top to bottom: `command` runs the
checks and prints; `checks` lists them; one module for each thing that is looked at; `facts` has
what several of them need; `findings` is the ground.
"""
