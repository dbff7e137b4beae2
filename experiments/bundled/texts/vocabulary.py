"""The words the invented world is made of: names and pools of values. No facts; `world.py` draws those from a seed.

Values carry their own article or preposition ("a baker", "at dawn"), so that every template fits every
value of its pool.
"""


def words(text: str) -> tuple[str, ...]:
    """Return the items of a comma-separated text."""
    return tuple(item.strip() for item in text.split(",") if item.strip())


# Given names are unique in the world, so that a story may call a person by the given name alone.
WOMEN = words(
    "Anna, Berta, Clara, Dora, Edith, Flora, Greta, Hanna, Ida, Julia, Karin, Lena, Maria, Nora, Olga, Paula, Rosa, "
    "Sara, Thea, Ulla, Vera, Wilma, Alma, Britta, Celia, Della, Emma, Frida, Gloria, Hilda, Irma, Jenny, Klara, Lydia, "
    "Mina, Nelly, Petra, Ruth, Stella, Tilda"
)
MEN = words(
    "Adam, Boris, Carl, David, Emil, Frank, Georg, Hugo, Ivan, Jakob, Kurt, Leon, Martin, Niels, Oscar, Paul, Robert, "
    "Simon, Thomas, Urs, Victor, Walter, Anton, Bruno, Caspar, Dirk, Erik, Felix, Gustav, Henrik, Igor, Jonas, Konrad, "
    "Lukas, Max, Norbert, Peter, Rolf, Stefan, Tobias"
)
SURNAMES = words(
    "Berg, Holm, Stone, Field, Brook, Marsh, Reed, Hill, Wood, Lake, Frost, Fisher, Carter, Mason, Cooper, Weaver, "
    "Baxter, Fuller, Tanner, Parker"
)
TOWNS = words(
    "Millford, Ashby, Bramwell, Corwick, Dunmere, Eastholt, Fernley, Garside, Hartwell, Inverton, Kelbrook, Langdale, "
    "Morwick, Netherby, Oakham, Penfold, Quarley, Ravensby, Selwick, Thornbury, Ulverton, Wexham, Yarrowby, "
    "Addlestone, Burnham, Castleton, Denholme, Farleigh, Greystoke, Halberton, Kirkwell, Lowestry"
)
RIVERS = words(
    "the Alder, the Brann, the Corve, the Dove, the Esk, the Fallow, the Glimmer, the Hollin, the Isk, the Kell, "
    "the Lune, the Merrow, the Nidd, the Orrin, the Pell, the Quill, the Rill, the Swale, the Tarn, the Umber, "
    "the Vane, the Wend, the Yarrow, the Zell"
)
ANIMALS = words(
    "the marsh otter, the hill fox, the tree frog, the sand lizard, the river beaver, the snow hare, the cave bat, "
    "the field mouse, the forest owl, the cliff goat, the meadow lark, the pond turtle, the night heron, "
    "the moss deer, the thorn hedgehog, the bark beetle, the wind falcon, the mud crab, the reed warbler, "
    "the stone marten, the pine squirrel, the moor pony, the lake swan, the dune snake, the garden toad, "
    "the ridge wolf, the brook newt, the barn swallow, the heath badger, the valley bear, the coast seal, "
    "the island lynx, the root mole, the cloud crane, the straw finch, the salt gull, the bog stork, the ice weasel, "
    "the oak jay, the spring salmon"
)
FOODS = words(
    "harvest pie, shepherd stew, winter soup, moon cake, ferry bread, miller porridge, golden pudding, "
    "tower dumplings, hunter roast, garden salad, bridge biscuits, cloud pancakes, sailor hash, summer jelly, "
    "festival tart, monk cheese, lantern noodles, valley curry, orchard crumble, stone loaf, widow broth, "
    "forest pickle, king sausage, morning waffles, queen custard, cellar pasta, travel bars, feather buns, "
    "ember skewers, river chowder, school toffee, village omelette"
)
TOOLS = words(
    "the long adze, the round chisel, the double hook, the hand drill, the broad axe, the curved knife, "
    "the folding ruler, the bent needle, the heavy mallet, the fine comb, the twin shears, the split rake, "
    "the deep ladle, the flat trowel, the forked spade, the small anvil, the slow press, the tall ladder, "
    "the tight clamp, the spring scale, the narrow saw, the hollow punch, the turning wheel, the wide brush, "
    "the sharp sickle, the toothed file, the blunt wedge, the smooth plane, the weighted line, the glass lens, "
    "the leather bellows, the wooden spindle"
)

# Pools of values, by the name under which a relation asks for them.
POOLS: dict[str, tuple[str, ...]] = {
    "jobs": words(
        "a baker, a teacher, a farmer, a carpenter, a tailor, a doctor, a miller, a smith, a sailor, a painter, "
        "a gardener, a clerk, a potter, a nurse, a hunter, a printer, a roofer, a butcher, a brewer, a shepherd, "
        "a lawyer, a driver, a singer, a judge"
    ),
    "pets": words(
        "a grey cat, a brown dog, a green parrot, a white rabbit, a black pony, a tame crow, a gold fish, a fat hen, "
        "an old donkey, a young goat, a tiny lamb, a lazy goose, a clever rat, a quiet snail, a shy ferret, "
        "a red rooster"
    ),
    "instruments": words(
        "the flute, the violin, the drum, the harp, the trumpet, the piano, the guitar, the organ, the horn, "
        "the fiddle, the cello, the bells"
    ),
    "hobbies": words(
        "painting boats, reading maps, growing roses, flying kites, carving spoons, climbing walls, telling jokes, "
        "baking cookies, watching stars, collecting stamps, playing chess, picking mushrooms, skating, knitting socks, "
        "writing letters, riding horses, swimming, singing hymns, solving riddles, repairing clocks"
    ),
    "regions": words(
        "the North Vale, the South Vale, the High Moor, the Low Marsh, the Green Coast, the Red Hills, "
        "the Lake Country, the Old Forest"
    ),
    "goods": words(
        "glass, rope, paper, silk, wool, honey, salt, pottery, leather, jewellery, linen, soap, timber, lace, incense, "
        "ink, furniture, wax, ironware, perfume"
    ),
    "days": words("Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday"),
    "landmarks": words(
        "a stone bridge, a white tower, an old windmill, a blue fountain, a tall clock, a round church, a bronze lion, "
        "a broken castle, a huge oak, a glass hall, a red gate, a marble arch, a wooden theatre, a sunken garden, "
        "a crooked lighthouse, a golden dome"
    ),
    "months": words("January, February, March, April, May, June, July, August, September, October, November, December"),
    "habitats": words(
        "hollow trees, tall grass, wet caves, thick hedges, old barns, deep burrows, steep cliffs, quiet ponds, "
        "dry sand, dark woods, empty nests, stone walls"
    ),
    "diets": words(
        "wild berries, small fish, fresh leaves, fallen nuts, young roots, fat worms, sweet clover, tree bark, "
        "bird eggs, water snails, grass seeds, ripe apples, green moss, flying insects, river weed, dead wood"
    ),
    "coats": words(
        "a red coat, a white coat, a black coat, a golden coat, a grey coat, a brown coat, a silver coat, "
        "a spotted coat, a striped coat, a cream coat"
    ),
    "sounds": words(
        "a low whistle, a sharp bark, a soft hum, a long howl, a loud click, a deep growl, a thin squeak, "
        "a high trill, a short cough, a dull knock, a dry rattle, a gentle purr, a wild scream, a slow croak"
    ),
    "hours": words(
        "at dawn, at noon, at dusk, at midnight, after rain, in thick fog, in full sun, before storms, in deep snow, "
        "under the full moon"
    ),
    "ingredients": words(
        "barley, oats, carrots, onions, beans, cream, walnuts, plums, cherries, spinach, turnips, rye, lentils, "
        "almonds, pumpkin, cabbage, figs, garlic, butter, raisins"
    ),
    "tastes": words("sweet, sour, salty, bitter, smoky, spicy, mild, nutty, fresh, peppery"),
    "drinks": words(
        "black tea, cold milk, apple juice, dark beer, mint tea, warm cider, red wine, spring water, pear juice, "
        "hot cocoa, ginger ale, strong coffee"
    ),
    "occasions": words(
        "at weddings, on birthdays, on long journeys, after a hunt, before a race, on winter nights, at harvest time, "
        "on rainy days, at summer fairs, after a funeral, on holy days, at breakfast"
    ),
    "materials": words("oak, ash, iron, bronze, copper, steel, bone, granite, brass, silver, tin, horn"),
    "uses": words(
        "cutting reeds, shaping clay, lifting stones, mending nets, sorting grain, peeling fruit, digging holes, "
        "joining beams, measuring cloth, cleaning boots, splitting logs, bending wire, pressing oil, stirring paint, "
        "marking sheep, opening barrels, polishing stones, binding books, stretching hides, trimming wicks"
    ),
    "places": words(
        "in a leather bag, on a high shelf, under the bench, behind the door, in an iron box, beside the stove, "
        "in the cellar, on a brass nail, in a straw basket, above the window, in a locked drawer, near the well"
    ),
    "mountains": words(
        "Mount Corran, Mount Hale, Mount Brig, Mount Sorrel, Mount Tyne, Mount Ferro, Mount Varn, Mount Ossel, "
        "Mount Grim, Mount Pallas, Mount Keld, Mount Arden, Mount Wick, Mount Lorne, Mount Dray, Mount Unna"
    ),
    "waters": words(
        "the Gull Sea, the Amber Sea, the Long Lake, the Mirror Lake, the Bay of Reeds, the Bay of Stars, "
        "the Iron Gulf, the Quiet Ocean, the Salt Lagoon, the Winter Sound"
    ),
    "fish": words(
        "silver trout, red perch, black eels, lake pike, golden carp, blue bream, striped bass, brown catfish, "
        "white roach, green tench, river cod, spotted char, small minnows, old sturgeon"
    ),
    "crossings": words(
        "a rope ferry, a chain bridge, a row of stones, a wooden raft, a narrow plank, a cable car, a brick viaduct, "
        "a flat barge, a hanging bridge, a shallow ford"
    ),
}
