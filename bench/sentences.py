"""Sentences to measure text encoders with: made here from word lists, the same ones every time.

Each sentence is a pattern filled with words of one topic. Patterns of calibration and of test
sentences differ. Lengths run from two words to several sentences in a row.
"""

from __future__ import annotations

import random

__all__ = ["calibration_sentences", "test_sentences"]

# topic: people, actions (past), things, qualities, places
_TOPICS: dict[str, tuple[str, str, str, str, str]] = {
    "kitchen": (
        "the cook,a hungry guest,our neighbour,the baker,two apprentices",
        "tasted,burnt,sliced,praised,served,froze",
        "the onion soup,a loaf of rye bread,the roasted peppers,an apple pie,the leftover rice",
        "salty,fragrant,bitter,crisp,lukewarm",
        "in the small kitchen,at the market,beside the oven,on the terrace",
    ),
    "sport": (
        "the goalkeeper,a young sprinter,the coach,both teams,the referee",
        "missed,celebrated,trained for,protested against,won",
        "the final match,a penalty,the relay race,the second half,an away game",
        "exhausted,fearless,clumsy,determined,injured",
        "in the stadium,on the muddy pitch,at the Olympics,behind the goal",
    ),
    "medicine": (
        "the surgeon,a patient with asthma,the night nurse,two paramedics,the pharmacist",
        "examined,prescribed,refused,monitored,recommended",
        "a low dose of insulin,the chest X-ray,an antibiotic,the blood pressure,a flu vaccine",
        "chronic,contagious,painless,acute,rare",
        "in the emergency room,at the clinic,during the operation,on ward seven",
    ),
    "computing": (
        "the compiler,a junior developer,the database server,our build system,an attacker",
        "crashed on,rewrote,cached,encrypted,overlooked",
        "the race condition,a 64-bit pointer,the JSON parser,an empty array,the password hashes",
        "deprecated,thread-safe,slow,undocumented,recursive",
        "in production,on the test cluster,inside the inner loop,on GitHub",
    ),
    "nature": (
        "a grey heron,the old oak,three wolves,the beekeeper,a swarm of locusts",
        "sheltered,followed,devoured,avoided,pollinated",
        "the frozen river,a field of clover,the fallen leaves,an ant hill,the shallow pond",
        "nocturnal,endangered,evergreen,venomous,migratory",
        "in the marsh,above the tree line,near the coast,under the snow",
    ),
    "money": (
        "the central bank,a retired teacher,many investors,the auditor,the start-up",
        "raised,sold,underestimated,borrowed against,inherited",
        "the interest rate,a block of shares,the mortgage,an unpaid invoice,the pension fund",
        "volatile,tax-free,overpriced,bankrupt,profitable",
        "on the stock exchange,in the annual report,at the branch office,in Zurich",
    ),
    "travel": (
        "a backpacker,the bus driver,my sister,the tour guide,a family of five",
        "cancelled,photographed,got lost on,recommended,slept through",
        "the night train to Lisbon,a ferry crossing,the border control,an old castle,the detour",
        "crowded,scenic,delayed,affordable,remote",
        "at platform nine,on the island,in the mountains,at the airport",
    ),
    "music": (
        "the violinist,a street musician,the choir,the drummer,an opera singer",
        "rehearsed,improvised,recorded,forgot,transposed",
        "the slow movement,a folk song,the chorus,an encore,the piano sonata in B flat",
        "melodic,dissonant,famous,quiet,syncopated",
        "in the concert hall,on the radio,at the festival,in the cellar studio",
    ),
    "law": (
        "the judge,a key witness,the defendant,the jury,her lawyer",
        "rejected,signed,appealed against,questioned,ignored",
        "the lease agreement,a speeding fine,the verdict,an eyewitness account,the copyright claim",
        "guilty,binding,void,confidential,unanimous",
        "in court,before the deadline,at the notary,in the second hearing",
    ),
    "space": (
        "the astronaut,a faint comet,the rover,mission control,two astronomers",
        "observed,orbited,lost contact with,discovered,landed near",
        "the rings of Saturn,a distant galaxy,the solar panel,an unknown crater,the space station",
        "weightless,radioactive,invisible,supermassive,icy",
        "on Mars,in low Earth orbit,at the observatory,behind the Moon",
    ),
    "home": (
        "the plumber,my grandmother,the landlord,our cat,a noisy tenant",
        "repaired,painted,broke,hid behind,complained about",
        "the leaking tap,a wooden staircase,the washing machine,an old armchair,the garden fence",
        "cosy,draughty,dusty,spacious,second-hand",
        "in the attic,on the third floor,next to the garage,in the hallway",
    ),
    "school": (
        "the maths teacher,a shy pupil,the headmaster,the exchange students,her classmate",
        "explained,copied,failed,presented,memorized",
        "the theorem of Pythagoras,a book report,the spelling test,an experiment,the French verbs",
        "difficult,boring,fair,optional,gifted",
        "in the library,before the holidays,at the blackboard,during the excursion",
    ),
}

_TEST = """
{A} {verb} {thing} {place}.

Why was {thing} so {quality}?

{quality}

{A} {verb} {thing}, but {b} did not, because it was too {quality}.

How do I find out whether {thing} is {quality} or not?

{number} people saw how {a} {verb} {thing} {place} on a {quality} {day}.

Nobody {place} believed that {a} had ever {verb} {thing}; {b}, on the other hand, said it was the
most {quality} story of {year}.

{thing} {place}

Please tell {a} that {thing} is {quality}.

{A} {verb} {thing}. Then {b} {verb2} {thing2} {place}. In the end everything seemed {quality}, and
by {day} only {c} still talked about {thing}, {thing2} and the {number} others.

In {year}, {a} {verb} {thing} for the first time.

Is it true that {a} {verb} {thing} {place}?

Not {quality} at all!

{A}, {b} and {c} {place}

According to {a}, {thing} had been {quality} since {day}. {B} disagreed and {verb2} {thing2}
instead, although {number} letters in the archive, written {place} between {year} and today, say
the opposite: whoever {verb} {thing} would sooner or later find that {c} was right, that {thing2}
could not be {quality}, and that it hardly mattered who had been there first.
"""
_CALIBRATION = """
Yesterday {a} {verb} {thing}.

I have never seen {thing} as {quality} as this one {place}.

{thing}

Did {a} or {b} say that {thing} was {quality}?

When {a} arrived {place}, {b} had already {verb} {thing}.

Five reasons why {thing} is {quality}

If {thing} were less {quality}, {a} would have {verb2} {thing2} long before {year}.

{A} {verb2} {thing2}; {number} times, they say.

There is a {quality} rumour {place} that {c} {verb} {thing}, and that {b}, who was not asked,
{verb2} {thing2} on {day}.

It all began in {year}, when {a} {verb} {thing} {place}. Some called it {quality}. Others, {b}
among them, waited until {day}, counted to {number} and {verb2} {thing2}. What followed is told
differently by everyone who was there, but {c} swears that without {thing} none of it would have
happened, and that {thing2} still stands {place} as a {quality} reminder of how quickly an ordinary
{day} can change, even for people who only came to look at {thing2}.
"""
"""Patterns, with empty lines between them."""
_DAYS = "Monday,Tuesday,Wednesday,Thursday,Friday,Saturday,Sunday"


def test_sentences(count: int = 312) -> list[str]:
    """Sentences to measure on; none of them is a calibration sentence."""
    return _make(_TEST, count, seed=20261)


def calibration_sentences(count: int = 64) -> list[str]:
    """Sentences to calibrate with."""
    return _make(_CALIBRATION, count, seed=7)


def _make(text: str, count: int, *, seed: int) -> list[str]:
    rng = random.Random(seed)
    patterns = [" ".join(pattern.split()) for pattern in text.strip().split("\n\n")]
    topics = list(_TOPICS.values())
    result: dict[str, None] = {}
    for turn in range(50 * count):
        if len(result) == count:
            break
        words = [text.split(",") for text in topics[turn % len(topics)]]
        people = rng.sample(words[0], 3)
        verbs, things = rng.sample(words[1], 2), rng.sample(words[2], 2)
        fields = {
            **dict(zip("abc", people, strict=True)),
            **{n.upper(): p[0].upper() + p[1:] for n, p in zip("abc", people, strict=True)},
            "verb": verbs[0],
            "verb2": verbs[1],
            "thing": things[0],
            "thing2": things[1],
            "quality": rng.choice(words[3]),
            "place": rng.choice(words[4]),
            "day": rng.choice(_DAYS.split(",")),
            "year": str(rng.randint(1780, 2026)),
            "number": rng.choice(["two", "seven", "31", "a hundred", "1,204", "0.5"]),
        }
        result.setdefault(rng.choice(patterns).format(**fields))
    if len(result) < count:
        raise ValueError(f"the word lists give {len(result)} different sentences, not {count}")
    return list(result)
