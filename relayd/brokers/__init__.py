"""What connects the members of a group, wherever they are: an interface and its versions."""
