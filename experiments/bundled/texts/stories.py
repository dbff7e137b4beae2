"""Passages about the world: portraits of one entity, round-ups of many facts, and small stories built on facts.

A passage is one paragraph on one line. No passage can be part of another: a portrait says at its start how many
things it will tell, and every other form has a fixed number of sentences.
"""

import random
from collections.abc import Callable

from runtime_matrix.experiments.bundled.texts import vocabulary
from runtime_matrix.experiments.bundled.texts.wordings import WORDINGS, sentence
from runtime_matrix.experiments.bundled.texts.world import Fact, World

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven")
ROUND_UP_FACTS = 5
# A bare statement is the most frequent, as in any text.
FRAMES = ("{s}", "{s}", "{s}", "{s}", "it is said that {s}", "everyone knows that {s}", "it is true that {s}")
WEATHER = ("the sun was warm", "it rained a little", "a cold wind blew", "fog lay on the fields", "the sky was clear")
MOODS = ("happy", "tired", "hungry", "curious", "cheerful", "quiet")


def state(fact: Fact, rng: random.Random, name: str) -> str:
    """State the fact as a clause in one of its wordings; `name` is what the text calls the entity."""
    template = rng.choice(WORDINGS[fact.entity.kind, fact.relation].statements)
    return template.format(e=name, v=fact.value)


def portrait(world: World, rng: random.Random) -> str:
    """Tell several facts of one entity, in any order."""
    entity = rng.choice(world.all_facts).entity  # by facts, not by entities: each fact is told about equally often
    facts = world.facts_of(entity)
    told = rng.sample(facts, rng.randint(3, len(facts)))
    opening = sentence(f"{NUMBERS[len(told)]} things are known about {entity.name}")
    return " ".join([opening, *(_framed(fact, rng, entity.short) for fact in told)])


def round_up(world: World, rng: random.Random) -> str:
    """Tell facts of entities that have nothing to do with each other."""
    facts = rng.sample(world.told_facts, ROUND_UP_FACTS)
    return " ".join(_framed(fact, rng, fact.entity.name) for fact in facts)


def visit(world: World, rng: random.Random) -> str:
    """Tell how a person goes to see the best friend."""
    person = rng.choice(world.entities["people"])
    friend = world.entity("people", world.value(person, "friend"))
    home = world.entity("towns", world.value(person, "home"))
    town = world.entity("towns", world.value(friend, "home"))
    food = world.entity("foods", world.value(friend, "food"))
    mood, other_mood = rng.sample(MOODS, 2)
    return _tell(
        rng,
        (
            f"On {rng.choice(vocabulary.POOLS['days'])} {person.name} left {home.name} to see {friend.name}.",
            f"{person.name} of {home.name} wanted to visit {friend.name}, who lives in {town.name}.",
        ),
        (
            f"The way was long and {rng.choice(WEATHER)}.",
            f"As {rng.choice(WEATHER)}, {person.short} was soon {rng.choice(MOODS)}.",
        ),
        (
            f"At last {person.short} saw {world.value(town, 'landmark')} and knew that this was {town.name}.",
            f"In {town.name}, which lies on {world.value(town, 'river')}, {person.pronoun} asked for the way.",
        ),
        (
            f"{friend.short} had cooked {food.name}, which is made from {world.value(food, 'ingredient')}.",
            f"On the table stood {food.name} and {world.value(food, 'drink')}, as {friend.short} likes it.",
        ),
        (
            f"In the evening {person.short} played {world.value(person, 'instrument')} "
            f"and {friend.short} played {world.value(friend, 'instrument')}.",
            f"They talked about {world.value(person, 'hobby')} and {world.value(friend, 'hobby')} until midnight.",
        ),
        (
            f"The next day {person.pronoun} went home, {mood} but {other_mood}.",
            f"{sentence(world.value(person, 'pet'))[:-1]} was waiting when {person.short} came back to {home.name}.",
        ),
    )


def market(world: World, rng: random.Random) -> str:
    """Tell how a person goes shopping in some town."""
    person = rng.choice(world.entities["people"])
    town = rng.choice(world.entities["towns"])
    tool = rng.choice(world.entities["tools"])
    goods, day = world.value(town, "goods"), world.value(town, "market")
    return _tell(
        rng,
        (
            f"It was {day}, the market day of {town.name}, and {rng.choice(WEATHER)}.",
            f"Every {day} there is a market in {town.name}, and this time {person.name} was there.",
        ),
        (
            f"{person.name}, {world.value(person, 'job')}, wanted to buy {goods}.",
            f"Where {world.value(town, 'landmark')} stands, {person.short} found the stalls with {goods}.",
        ),
        (
            f"A trader also sold {tool.name}, made of {world.value(tool, 'material')}.",
            f"There too was {tool.name}, which is good for {world.value(tool, 'use')}.",
        ),
        (
            f'"Only {world.value(tool, "user")} needs that," said {person.short}.',
            f'"At home it would lie {world.value(tool, "place")}," said {person.short}.',
        ),
        (
            f"So {person.pronoun} ate {world.value(person, 'food')} and went back to {world.value(person, 'home')}.",
            f"Then {person.pronoun} took the road to {world.value(person, 'home')}, {rng.choice(MOODS)} as ever.",
        ),
    )


def walk(world: World, rng: random.Random) -> str:
    """Tell how a person meets an animal by a river."""
    person = rng.choice(world.entities["people"])
    river = rng.choice(world.entities["rivers"])
    animal = rng.choice(world.entities["animals"])
    return _tell(
        rng,
        (
            f"{person.name} walked along {river.name} down to {world.value(river, 'mouth')}.",
            f"High on {world.value(river, 'source')}, where {river.name} begins, {person.name} took a walk.",
        ),
        (
            f"There were {world.value(river, 'fish')} in the water and {rng.choice(WEATHER)}.",
            f"{sentence(person.pronoun)[:-1]} went over {river.name} by {world.value(river, 'crossing')}.",
        ),
        (
            f"Suddenly {person.short} heard {world.value(animal, 'sound')}: it was {animal.name}.",
            f"Then {animal.name} with {world.value(animal, 'coat')} came out of {world.value(animal, 'habitat')}.",
        ),
        (
            f"It was looking for {world.value(animal, 'diet')}.",
            f"It is always awake {world.value(animal, 'hour')}.",
        ),
        (
            f"{person.short} was {rng.choice(MOODS)} and told {world.value(person, 'friend')} about it.",
            f"{person.short}, who likes {world.value(person, 'hobby')}, was {rng.choice(MOODS)} all day.",
        ),
    )


def talk(world: World, rng: random.Random) -> str:
    """Tell how two people tell each other what they know about a third thing."""
    first, second = rng.sample(world.entities["people"], 2)
    one, other = (rng.choice(world.told_facts) for _ in range(2))
    return _tell(
        rng,
        (
            f"{first.name} met {second.name} in {rng.choice(world.entities['towns']).name}.",
            f"{rng.choice(vocabulary.POOLS['hours']).capitalize()} {first.name} and {second.name} sat together.",
        ),
        (
            f'"Did you know that {state(one, rng, one.entity.name)}?" asked {first.short}.',
            f'"I heard that {state(one, rng, one.entity.name)}," said {first.short}.',
        ),
        (
            f'"Yes, and {state(other, rng, other.entity.name)}," said {second.short}.',
            f'"I also know that {state(other, rng, other.entity.name)}," said {second.short}.',
        ),
        (
            f"Then {first.short} played {world.value(first, 'instrument')}.",
            f"Then {second.short} had to go home to {world.value(second, 'home')}.",
        ),
    )


Passage = Callable[[World, random.Random], str]
PASSAGES: tuple[Passage, ...] = (portrait, round_up, visit, market, walk, talk)
# Portraits and round-ups teach the facts, stories teach how facts hang together.
PASSAGE_WEIGHTS = (6, 6, 2, 2, 2, 2)


def passage(world: World, rng: random.Random) -> str:
    """Write one passage of any form."""
    return rng.choices(PASSAGES, PASSAGE_WEIGHTS)[0](world, rng)


def _framed(fact: Fact, rng: random.Random, name: str) -> str:
    return sentence(rng.choice(FRAMES).format(s=state(fact, rng, name)))


def _tell(rng: random.Random, *sentences: tuple[str, ...]) -> str:
    return " ".join(rng.choice(options) for options in sentences)
