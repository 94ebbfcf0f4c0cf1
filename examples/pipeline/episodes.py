"""Shows, and what is said in them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Show:
    name: str
    slug: str
    subjects: tuple
    sentences: tuple


SHOWS = (
    Show(
        "The Slow Kitchen", "kitchen",
        ("sourdough without a recipe", "soup for a cold week", "what salt does", "leftovers", "the sharp knife"),
        (
            "A sourdough starter wants flour, water and a warm place, and it forgives a forgotten day.",
            "Onions take twenty minutes to brown, whatever the recipe claims.",
            "We taste the broth before any salt goes in, and again after an hour.",
            "Roast the bones first; the colour of the soup comes from there.",
            "A dull knife slips, a sharp one does what you meant.",
            "Yesterday's rice fries better than today's because it is dry.",
            "Bread is done when it sounds hollow from below.",
        ),
    ),
    Show(
        "Night Sky Radio", "sky",
        ("the rings of Saturn", "how far is a star", "a comet returns", "telescopes in the garden", "dark matter"),
        (
            "Through a small telescope the rings of Saturn look like a drawing of themselves.",
            "The light of that galaxy left before there were people to see it.",
            "A comet is mostly ice, and its tail always points away from the sun.",
            "To find north, follow the edge of the Plough to the pole star.",
            "Something that nobody has seen holds the galaxies together.",
            "Let your eyes rest in the dark for half an hour before you look up.",
            "The moons of Jupiter change their places from one night to the next.",
        ),
    ),
    Show(
        "Money Without Fear", "money",
        ("the first budget", "interest explained", "renting or buying", "a rainy day fund", "taxes in an evening"),
        (
            "Write down what you spend for a month before you plan anything.",
            "Compound interest works for you in a savings account and against you on a credit card.",
            "Three months of rent set aside let you sleep.",
            "A mortgage is a bet on staying where you are.",
            "Pay off the dearest debt first, whatever its size.",
            "An index fund costs little because nobody has to be clever.",
            "Keep the receipts in one envelope and the tax return takes one evening.",
        ),
    ),
    Show(
        "Two Wheels", "cycling",
        ("fixing a puncture", "a saddle that fits", "winter tyres", "across the pass", "brakes"),
        (
            "Find the hole by holding the inner tube under water and watching for bubbles.",
            "A saddle is too high when your hips rock from side to side.",
            "We climbed the pass before the sun reached the road.",
            "A chain that squeaks has already cost you a gear wheel.",
            "In the wet, brake early and with both hands.",
            "Wide tyres at low pressure are faster on bad roads than anybody believes.",
            "Carry a spare tube, two levers and a pump, and you will be home for supper.",
        ),
    ),
    Show(
        "Letters from the Coast", "coast",
        ("the lighthouse keeper", "a storm warning", "herring", "the ferry at five", "fog"),
        (
            "The lighthouse was lit by oil until the winter the road was built.",
            "Fishermen here read the wind from the way the gulls sit.",
            "The harbour froze twice in my grandmother's life.",
            "When the fog comes in, the ferry sounds its horn and waits.",
            "Herring fed this town for four centuries, and then it was gone.",
            "The storm took the pier and left the boat that was tied to it.",
            "At low tide you can walk to the island and must not be slow on the way back.",
        ),
    ),
    Show(
        "Good Ground", "garden",
        ("tomatoes on a balcony", "compost", "pruning roses", "slugs", "what to sow in March"),
        (
            "Tomatoes want sun from noon on and water at the root, never on the leaves.",
            "Compost smells of earth when it has enough air and of something else when it has not.",
            "Cut a rose above a bud that looks outwards.",
            "Slugs come at night, and so must the gardener.",
            "Peas may be sown while there is still frost; beans may not.",
            "Mulch keeps the soil wet through a week without rain.",
            "Every plant on a balcony is thirstier than the same plant in a bed.",
        ),
    ),
    Show(
        "The Patient Doctor", "health",
        ("sleep", "back pain", "vaccines", "what a fever is for", "walking"),
        (
            "Most back pain goes by itself, faster if you keep moving.",
            "A fever is the body's own treatment and not the illness.",
            "People who go to bed at the same hour fall asleep sooner.",
            "A vaccine shows the immune system a picture of the burglar.",
            "Half an hour of walking a day does more than most pills.",
            "Ask your doctor what happens if you do nothing; it is a fair question.",
            "High blood pressure does not hurt, which is what makes it dangerous.",
        ),
    ),
    Show(
        "Wrong Notes", "music",
        ("learning the cello late", "why we clap", "the quiet drummer", "tuning a piano", "songs without words"),
        (
            "I began to play the cello at fifty and practised in the garage.",
            "A piano is tuned a little wrong on purpose, so that every key can be played.",
            "The best drummer is the one you notice when he stops.",
            "Scales are dull until you hear them inside a melody.",
            "Choirs breathe together before they sing together.",
            "The violin maker knocks on the wood and listens before she cuts it.",
            "An orchestra tunes to the oboe because the oboe cannot be helped.",
        ),
    ),
    Show(
        "Machines That Think", "computing",
        ("what a neural network learns", "backups", "why databases lock", "passwords", "the first bug"),
        (
            "A neural network does not know rules; it has seen very many examples.",
            "A backup that nobody has restored is a hope and not a backup.",
            "Two programs that write the same file at the same time need somebody to say who waits.",
            "A long password of four words is easier to keep in mind than a short one of signs.",
            "The program was correct and the clock was wrong.",
            "An index is a second copy of the truth that has to be kept up to date.",
            "Computers do what you say, which is rarely what you mean.",
        ),
    ),
    Show(
        "Old Stones", "history",
        ("the Roman road", "a city besieged", "who built the cathedral", "the plague year", "maps that lied"),
        (
            "The Roman road runs straight because nobody who lived there was asked.",
            "The siege lasted two winters and ended with a treaty over salt.",
            "Four generations of masons worked on the cathedral, and none saw both its beginning and its end.",
            "In the plague year the gates were shut and the bells were silent.",
            "On the oldest map the mountains stand where the painter had room.",
            "Letters of merchants tell more of the Middle Ages than those of kings.",
            "The bridge was paid for by the first toll we have a receipt of.",
        ),
    ),
)

OPENINGS = (
    "Welcome back, and thank you for your letters.",
    "Today's guest came by train and brought something to show.",
    "This is a repeat that many of you asked for.",
    "We recorded this one outdoors, so forgive the wind.",
)
CLOSINGS = (
    "Next week we go on from here.",
    "Write to us if you know better.",
    "That was all for today.",
)


def transcription(show, number):
    """What is said in an episode: no two are alike."""
    count = len(show.sentences)
    said = [show.sentences[(number * step + number // count) % count] for step in (1, 2, 4)]
    opening = OPENINGS[number // 3 % len(OPENINGS)]
    subject = show.subjects[number % len(show.subjects)]
    return (
        f"{opening} This is episode {number} of {show.name}, about {subject}. "
        + " ".join(dict.fromkeys(said))
        + f" {CLOSINGS[number % len(CLOSINGS)]}"
    )
