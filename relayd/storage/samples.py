"""Sample quizzes and actions, so that a fresh embedded database has something to draw from."""

from relayd.storage import engines

# name, difficulty, left selection, right selection, detail
_QUIZZES = (
    ("Largest planet", 1, "Jupiter", "Mars", "Jupiter is wider than eleven Earths in a row."),
    ("Legs of a spider", 1, "8", "6", "Insects have six legs; spiders are no insects."),
    ("Water freezes at", 1, "0 °C", "10 °C", "At sea level."),
    ("Colours of a traffic light", 1, "3", "4", "Red, yellow and green."),
    ("Capital of Australia", 2, "Sydney", "Canberra", "Canberra was built to be the capital."),
    ("Sides of a hexagon", 2, "6", "8", "Eight sides make an octagon."),
    ("Fastest on land", 2, "Lion", "Cheetah", "A cheetah runs at up to 100 km/h."),
    ("Chemical symbol of gold", 2, "Au", "Ag", "From the Latin aurum; Ag is silver."),
    ("Square root of 1764", 3, "42", "44", "42 × 42 = 1764."),
    ("Light reaches us from the Sun in", 3, "8 seconds", "8 minutes", "About 499 seconds."),
    ("Bones of an adult", 3, "206", "270", "A newborn has about 270; many grow together."),
    ("First in orbit", 3, "Sputnik 1", "Explorer 1", "Sputnik 1 flew on 4 October 1957."),
)
# difficulty, left selection, right selection, detail
_ACTIONS = (
    (1, "Wave", "Nod", "Wave with the left hand, or nod."),
    (1, "Point up", "Point down", "Point with one finger."),
    (2, "Turn left", "Turn right", "Turn by a quarter."),
    (2, "Clap twice", "Clap three times", "Clap in front of the chest."),
    (3, "Draw a circle", "Draw a square", "Draw in the air, at arm's length."),
    (3, "Stand on the left leg", "Stand on the right leg", "For three seconds."),
)


def add_samples(url: str) -> bool:
    """Adds the samples if there is neither a quiz nor an action yet. Blocks.

    Returns:
        Whether it added them.

    Raises:
        ConfigError: the URL is wrong.
        DatabaseUnavailable: the database cannot be reached or written.
    """
    engine = engines.engine(url)
    with engine.connected() as connection, engine.transaction(connection) as cursor:
        cursor.execute("SELECT EXISTS (SELECT 1 FROM quizzes), EXISTS (SELECT 1 FROM actions)")
        if any(cursor.fetchone()):
            return False
        cursor.executemany(
            engine.sql(
                "INSERT INTO quizzes (name, difficulty, lef_sel, rig_sel, detail) "
                "VALUES (%s, %s, %s, %s, %s)"
            ),
            _QUIZZES,
        )
        cursor.executemany(
            engine.sql(
                "INSERT INTO actions (difficulty, lef_sel, rig_sel, detail) VALUES (%s, %s, %s, %s)"
            ),
            _ACTIONS,
        )
        return True
