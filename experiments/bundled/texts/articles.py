"""Articles of a newspaper and their summaries: two events each, told among things that a summary leaves out."""

import random
from dataclasses import dataclass

from runtime_matrix.experiments.bundled.texts import vocabulary
from runtime_matrix.experiments.bundled.texts.document import Document, is_held_out
from runtime_matrix.experiments.bundled.texts.stories import WEATHER, state
from runtime_matrix.experiments.bundled.texts.wordings import sentence
from runtime_matrix.experiments.bundled.texts.world import World

HELD_OUT_ONE_IN = 8
BENCHMARK_ARTICLES = 220
NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine")

# What happened, told in one of several ways, and the sentence that sums it up.
EVENTS: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        (
            "in {town} {a} was faster than all others when people ran to {river}",
            "{a} came first when the young people of {town} ran to {river}",
        ),
        "{a} wins the race from {town} to {river}",
    ),
    (
        (
            "somebody came into the house of {a} on {day} and took {tool}",
            "{tool} is gone from the house of {a} since {day}",
        ),
        "a thief takes {tool} from {a} on {day}",
    ),
    (
        (
            "the council of {town} will spend {n} hundred coins on {landmark}",
            "{landmark} for {n} hundred coins is what the council of {town} wants",
        ),
        "{town} plans {landmark} for {n} hundred coins",
    ),
    (
        (
            "in {town} the wind threw down {landmark} on {day}",
            "on {day} {landmark} fell to the ground in {town} because of the wind",
        ),
        "a storm breaks {landmark} in {town} on {day}",
    ),
    (
        ("{a} was near {river} and suddenly saw {animal}", "close to {river} {animal} ran before the feet of {a}"),
        "{a} meets {animal} at {river}",
    ),
    (
        (
            "the judges in {town} liked nothing more than {food} as {a} cooks it",
            "{a} cooked {food} and the judges in {town} asked for more",
        ),
        "{food} of {a} gets the prize in {town}",
    ),
    (
        (
            "in {month} traders from {town} will bring {goods} to {other}",
            "{other} is going to buy {goods} from {town} in {month}",
        ),
        "{town} sells {goods} to {other} in {month}",
    ),
    (
        (
            "people in {town} needed somebody who is {job} and asked {a}",
            "{a} said yes when {town} asked for somebody who is {job}",
        ),
        "{a} becomes {job} in {town}",
    ),
    (
        (
            "who comes to {town} on {day} can hear {a} with {music}",
            "{a} and {music} will be heard in {town} on {day}",
        ),
        "{a} plays {music} in {town} on {day}",
    ),
    (
        (
            "{a} from {town} has not seen {pet} since {day}",
            "since {day} {pet} has not come home to {a} in {town}",
        ),
        "{a} of {town} misses {pet} since {day}",
    ),
)


Values = dict[str, str]


@dataclass(frozen=True)
class Article:
    """An article and its summary."""

    text: str
    summary: str

    @property
    def is_held_out(self) -> bool:
        """Return whether the training text leaves the article out."""
        return is_held_out(self.text, HELD_OUT_ONE_IN)


def prompt(article: str) -> str:
    """Ask in the benchmark's format; the summary follows as `" " + text`."""
    return f"Article: {article}\n\nSummary:"


def news(world: World, rng: random.Random) -> Document:
    """Write a document of the training text: an article and its summary."""
    article = draw(world, rng)
    while article.is_held_out:
        article = draw(world, rng)
    return Document(f" {article.summary}", prompt(article.text))


def benchmark(world: World) -> list[Article]:
    """Draw different articles that are kept out of training."""
    rng = random.Random(f"{world.seed}/benchmark/articles")
    chosen: dict[str, Article] = {}
    while len(chosen) < BENCHMARK_ARTICLES:
        article = draw(world, rng)
        if article.is_held_out:
            chosen[article.text] = article
    return list(chosen.values())


def draw(world: World, rng: random.Random) -> Article:
    """Write an article of two events among other things; its summary names them in the order of the article."""
    about, bystander = _values(world, rng)
    first, second = rng.sample(EVENTS, 2)
    told = [rng.choice(first[0]).format(**about[0]), rng.choice(second[0]).format(**about[1])]
    for aside in rng.sample(_asides(world, rng, about[0], bystander), rng.choice((1, 2))):
        told.insert(rng.randint(0, len(told)), aside)
    summary = f"{first[1].format(**about[0])}, and {second[1].format(**about[1])}"
    return Article(" ".join(map(sentence, told)), sentence(summary))


def _asides(world: World, rng: random.Random, values: Values, bystander: Values) -> list[str]:
    fact = rng.choice(world.all_facts)
    return [
        f"{rng.choice(WEATHER)} on {bystander['day']}",
        f"{bystander['a']} of {bystander['town']} told us about it",
        f"it is well known that {state(fact, rng, fact.entity.name)}",
        f"many people talk about it in {bystander['town']} and at {bystander['river']}",
        f"last year {bystander['a']} bought {bystander['goods']} in {bystander['other']}",
        f"{bystander['a']} said: we were all glad to see {values['a'].split()[0]}",
    ]


def _values(world: World, rng: random.Random) -> tuple[list[Values], Values]:
    """Draw what the two events are about, and what else is mentioned: never the same."""

    def named(kind: str) -> tuple[str, ...]:
        return tuple(entity.name for entity in world.entities[kind])

    pools = {
        "river": named("rivers"),
        "tool": named("tools"),
        "animal": named("animals"),
        "food": named("foods"),
        "n": NUMBERS,
        "day": vocabulary.POOLS["days"],
        "month": vocabulary.POOLS["months"],
        "goods": vocabulary.POOLS["goods"],
        "landmark": vocabulary.POOLS["landmarks"],
        "job": vocabulary.POOLS["jobs"],
        "music": vocabulary.POOLS["instruments"],
        "pet": vocabulary.POOLS["pets"],
    }
    drawn = {key: rng.sample(pool, 3) for key, pool in pools.items()}
    towns = rng.sample(named("towns"), 6)
    # Strangers: a name that the world does not hold cannot be completed from memory.
    given = rng.sample([entity.short for entity in world.entities["people"]], 3)
    drawn["a"] = [f"{name} {rng.choice(vocabulary.SURNAMES)}" for name in given]
    drawn["town"], drawn["other"] = towns[:3], towns[3:]
    one, two, three = ({key: values[i] for key, values in drawn.items()} for i in range(3))
    return [one, two], three
