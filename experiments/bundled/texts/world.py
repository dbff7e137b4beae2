"""The small closed world: entities, and the facts that a seed draws for them.

Knows no sentences (see `wordings.py` and `stories.py`). One seed gives one world, on every machine: all randomness
comes from `random.Random` with a string seed, and nothing iterates over a set.
"""

import random
from dataclasses import dataclass
from functools import cached_property

from runtime_matrix.experiments.bundled.texts import vocabulary

WORLD_SEED = 0  # the committed data and model speak of this world
ADAPTER_SEEDS = (1, 2, 3)  # worlds of which no training text of the base speaks: adapters learn them

# kind -> relation -> where its values come from: a pool of `vocabulary.POOLS`, or the entities of another kind.
RELATIONS: dict[str, dict[str, str]] = {
    "people": {
        "job": "jobs",
        "home": "towns",
        "pet": "pets",
        "food": "foods",
        "instrument": "instruments",
        "friend": "people",
        "hobby": "hobbies",
    },
    "towns": {
        "river": "rivers",
        "region": "regions",
        "goods": "goods",
        "market": "days",
        "landmark": "landmarks",
        "festival": "months",
    },
    "animals": {"habitat": "habitats", "diet": "diets", "coat": "coats", "sound": "sounds", "hour": "hours"},
    "foods": {
        "ingredient": "ingredients",
        "taste": "tastes",
        "origin": "towns",
        "drink": "drinks",
        "occasion": "occasions",
    },
    "tools": {"material": "materials", "user": "jobs", "use": "uses", "place": "places"},
    "rivers": {"source": "mountains", "mouth": "waters", "fish": "fish", "crossing": "crossings"},
}


@dataclass(frozen=True)
class Entity:
    """A person, place or thing of the world."""

    kind: str
    name: str
    short: str  # what a text calls it once it has been introduced: the given name of a person, else the name
    pronoun: str


@dataclass(frozen=True)
class Fact:
    """The value of one relation of an entity."""

    entity: Entity
    relation: str
    value: str


@dataclass(frozen=True)
class World:
    """All entities and facts, drawn from a seed."""

    seed: int
    entities: dict[str, tuple[Entity, ...]]
    values: dict[tuple[str, str], str]  # (entity name, relation) -> value

    def value(self, entity: Entity, relation: str) -> str:
        """Return the value of an entity's relation."""
        return self.values[entity.name, relation]

    def entity(self, kind: str, name: str) -> Entity:
        """Return the entity of a kind with this name."""
        return next(entity for entity in self.entities[kind] if entity.name == name)

    def facts_of(self, entity: Entity) -> list[Fact]:
        """Return all facts of an entity."""
        return [Fact(entity, relation, self.value(entity, relation)) for relation in RELATIONS[entity.kind]]

    @cached_property
    def all_facts(self) -> tuple[Fact, ...]:
        """Return the facts of all entities."""
        return tuple(fact for members in self.entities.values() for entity in members for fact in self.facts_of(entity))

    @cached_property
    def told_facts(self) -> tuple[Fact, ...]:
        """What the training text states: all facts, and what follows from them for every other person."""
        return self.all_facts + tuple(
            fact for person in self.entities["people"][::2] for steps in (2, 3) for fact in self._steps(person, steps)
        )

    def untold_facts(self, steps: int) -> tuple[Fact, ...]:
        """What follows for the other people: the training text never states it, it states what it follows from."""
        return tuple(fact for person in self.entities["people"][1::2] for fact in self._steps(person, steps))

    @cached_property
    def quizzed_facts(self) -> tuple[Fact, ...]:
        """The half of the told facts that the training text also asks for; the others it only states."""
        return tuple(random.Random(f"{self.seed}/quizzed").sample(self.told_facts, len(self.told_facts) // 2))

    def _steps(self, person: Entity, steps: int) -> list[Fact]:
        """Return facts of the town where a person (two steps) or a person's best friend (three) lives."""
        if steps == 2:
            lives, owner = f"the town where {person.name} lives", person
        else:
            lives = f"the town where the best friend of {person.name} lives"
            owner = self.entity("people", self.value(person, "friend"))
        town = self.entity("towns", self.value(owner, "home"))
        described = Entity("towns", lives, "this town", "it")
        return [Fact(described, fact.relation, fact.value) for fact in self.facts_of(town)]


def build_world(seed: int = WORLD_SEED) -> World:
    """Draw every fact of the world; the same seed gives the same world."""
    entities = _entities(seed)
    values: dict[tuple[str, str], str] = {}
    for kind, relations in RELATIONS.items():
        for relation, source in relations.items():
            rng = random.Random(f"{seed}/facts/{kind}/{relation}")
            for entity in entities[kind]:
                # A person is no friend of theirs; for other pools the exclusion never bites.
                others = [value for value in _candidates(entities, source) if value != entity.name]
                values[entity.name, relation] = rng.choice(others)
    return World(seed, entities, values)


def _entities(seed: int) -> dict[str, tuple[Entity, ...]]:
    rng = random.Random(f"{seed}/surnames")
    people = [
        Entity("people", f"{given} {rng.choice(vocabulary.SURNAMES)}", given, pronoun)
        for names, pronoun in ((vocabulary.WOMEN, "she"), (vocabulary.MEN, "he"))
        for given in names
    ]
    things = {
        "towns": vocabulary.TOWNS,
        "animals": vocabulary.ANIMALS,
        "foods": vocabulary.FOODS,
        "tools": vocabulary.TOOLS,
        "rivers": vocabulary.RIVERS,
    }
    rest = {kind: tuple(Entity(kind, name, name, "it") for name in names) for kind, names in things.items()}
    return {"people": tuple(people), **rest}


def _candidates(entities: dict[str, tuple[Entity, ...]], source: str) -> tuple[str, ...]:
    if source in entities:
        return tuple(entity.name for entity in entities[source])
    return vocabulary.POOLS[source]
