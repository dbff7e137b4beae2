"""How each relation is said and asked for: `{e}` is the entity, `{v}` the value.

Statements and training questions go into the training text. Test questions go into the benchmark alone, yet use only
words that the training text also uses: a model of this size cannot guess the meaning of a word it never saw.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Wording:
    """The statements and questions of one relation, as templates."""

    statements: tuple[str, ...]  # start in lower case and have no full stop, so that they also fit behind "that"
    train_questions: tuple[str, ...]
    test_questions: tuple[str, ...]


def _wording(statements: str, train: str, test: str) -> Wording:
    return Wording(*(tuple(part.strip() for part in text.split("|")) for text in (statements, train, test)))


WORDINGS: dict[tuple[str, str], Wording] = {
    ("people", "job"): _wording(
        "{e} works as {v} | {e} is {v} by trade | the job of {e} is that of {v} | for a living {e} works as {v} | "
        "{e} has been {v} for years",
        "What is the trade of {e}? | What does {e} do for a living? | What is the job of {e}?",
        "As what does {e} work? | Which job does {e} have?",
    ),
    ("people", "home"): _wording(
        "{e} lives in {v} | the home of {e} is in {v} | {e} has a house in {v} | {v} is the town where {e} lives | "
        "{e} comes home to {v} every evening",
        "Where does {e} live? | Where is the home of {e}? | In which town does {e} have a house?",
        "Which town is the home of {e}? | In which town does {e} live?",
    ),
    ("people", "pet"): _wording(
        "{e} has {v} as a pet | {e} keeps {v} at home | the animal of {e} is {v} | {v} belongs to {e} | "
        "{e} takes good care of {v}",
        "Which pet does {e} have? | What does {e} keep at home? | What is the animal of {e}?",
        "What is the pet of {e}? | Which animal belongs to {e}?",
    ),
    ("people", "food"): _wording(
        "the favourite food of {e} is {v} | {e} likes {v} more than any other food | {e} eats {v} every week | "
        "no meal pleases {e} more than {v} | for supper {e} always asks for {v}",
        "What is the favourite food of {e}? | What does {e} like to eat? | Which food does {e} always ask for?",
        "Which food does {e} like more than any other? | Which meal pleases {e} more than any other?",
    ),
    ("people", "instrument"): _wording(
        "{e} plays {v} | {e} has learned to play {v} | the instrument of {e} is {v} | in the evening {e} plays {v} | "
        "when there is music {e} plays {v}",
        "What does {e} play? | What is the instrument of {e}? | What has {e} learned to play?",
        "Which instrument does {e} play? | What does {e} play when there is music?",
    ),
    ("people", "friend"): _wording(
        "the best friend of {e} is {v} | {e} tells every secret to {v} | {v} is the best friend of {e} | "
        "{e} trusts {v} more than any other person | {e} calls {v} a true friend",
        "Who is the best friend of {e}? | Whom does {e} trust? | To whom does {e} tell every secret?",
        "Whom does {e} trust more than any other person? | Which person is the best friend of {e}?",
    ),
    ("people", "hobby"): _wording(
        "{e} enjoys {v} | {e} spends free days {v} | the hobby of {e} is {v} | on a free day {e} enjoys {v} | "
        "nothing makes {e} happier than {v}",
        "What is the hobby of {e}? | What does {e} enjoy? | How does {e} spend free days?",
        "What makes {e} happier than any other hobby? | What does {e} enjoy on a free day?",
    ),
    ("towns", "river"): _wording(
        "{e} lies on {v} | {v} flows through {e} | the river of {e} is {v} | the people of {e} fish in {v} | "
        "the houses of {e} stand along {v}",
        "On which river does {e} lie? | What is the river of {e}? | Along which river do the houses of {e} stand?",
        "Which river flows through {e}? | In which river do the people of {e} fish?",
    ),
    ("towns", "region"): _wording(
        "{e} is a town in {v} | {e} belongs to {v} | {e} is found in {v} | the region of {e} is {v} | "
        "to see {e} travellers must go to {v}",
        "What is the region of {e}? | Where is {e} found? | To which region must travellers go to see {e}?",
        "To which region does {e} belong? | In which region is the town of {e}?",
    ),
    ("towns", "goods"): _wording(
        "{e} is known for its {v} | {e} is famous for {v} | the people of {e} sell {v} | "
        "{v} from {e} is sold everywhere | traders come to {e} to buy {v}",
        "For what is {e} known? | What do the people of {e} sell? | What do traders buy in {e}?",
        "For what is {e} famous? | What do traders come to {e} to buy?",
    ),
    ("towns", "market"): _wording(
        "the market of {e} is held on {v} | the day when {e} holds its market is {v} | "
        "on {v} there is a market in {e} | {v} is market day in {e} | the stalls of {e} open on {v}",
        "When is the market of {e} held? | Which day is market day in {e}? | When do the stalls of {e} open?",
        "On which day is there a market in {e}? | On which day does {e} hold its market?",
    ),
    ("towns", "landmark"): _wording(
        "in {e} the first thing to see is {v} | {e} is proud of {v} | in the middle of {e} stands {v} | "
        "the landmark of {e} is {v} | {v} stands in the middle of {e}",
        "What is the landmark of {e}? | What is the first thing to see in {e}? | What is {e} proud of?",
        "What stands in the middle of {e}? | Of what is {e} proud?",
    ),
    ("towns", "festival"): _wording(
        "the festival of {e} is in {v} | {e} holds a festival in {v} | in {v} the streets of {e} are full of dancing | "
        "{v} is the month of the festival in {e} | every {v} there is dancing in {e}",
        "When does {e} hold a festival? | In which month is there dancing in {e}? | "
        "When are the streets of {e} full of dancing?",
        "In which month is the festival of {e}? | Which month is the month of the festival in {e}?",
    ),
    ("animals", "habitat"): _wording(
        "{e} lives in {v} | {e} makes its nest in {v} | the home of {e} is in {v} | one must look for {e} in {v} | "
        "{e} is mostly seen in {v}",
        "Where does {e} live? | Where is {e} mostly seen? | Where does {e} make its nest?",
        "Where is the home of {e}? | Where must one look for {e}?",
    ),
    ("animals", "diet"): _wording(
        "{e} eats {v} | {e} feeds on {v} | the food of {e} is {v} | {e} is always hungry for {v} | "
        "for supper {e} looks for {v}",
        "What does {e} eat? | What does {e} feed on? | What does {e} look for at supper?",
        "What is the food of {e}? | For what is {e} always hungry?",
    ),
    ("animals", "coat"): _wording(
        "{e} has {v} | {e} wears {v} | {e} is known by {v} | nature gave {e} {v} | one can tell {e} by {v}",
        "What does {e} wear? | By what is {e} known? | Which coat does {e} have?",
        "Which coat did nature give {e}? | By what can one tell {e}?",
    ),
    ("animals", "sound"): _wording(
        "{e} makes {v} | the call of {e} is {v} | the sound of {e} is {v} | at night {e} can be heard making {v} | "
        "the voice of {e} is like {v}",
        "What is the call of {e}? | Which sound is that of {e}? | What is the voice of {e} like?",
        "Which sound does {e} make? | What can {e} be heard making at night?",
    ),
    ("animals", "hour"): _wording(
        "{e} comes out {v} | {e} is awake {v} | {v} {e} begins to move | {e} is busy {v} | one must watch for {e} {v}",
        "When does {e} come out? | When is {e} awake? | When is {e} busy?",
        "When does {e} begin to move? | When must one watch for {e}?",
    ),
    ("foods", "ingredient"): _wording(
        "{e} is made from {v} | cooks make {e} with {v} | the main part of {e} is {v} | "
        "without {v} there is no {e} | for {e} one needs plenty of {v}",
        "From what is {e} made? | What does one need for {e}? | What is the main part of {e}?",
        "With what do cooks make {e}? | Without what is there no {e}?",
    ),
    ("foods", "taste"): _wording(
        "the taste of {e} is {v} | {e} tastes {v} | on the tongue {e} is {v} | cooks want {e} to be {v} | "
        "good {e} is always {v}",
        "What is the taste of {e}? | How is {e} on the tongue? | How do cooks want {e} to be?",
        "How does {e} taste? | How is good {e} always?",
    ),
    ("foods", "origin"): _wording(
        "{e} comes from {v} | {e} was first cooked in {v} | the people of {v} invented {e} | "
        "{v} is the town that gave us {e} | the best {e} is found in {v}",
        "Where does {e} come from? | Where was {e} first cooked? | Where is the best {e} found?",
        "Which town gave us {e}? | In which town was {e} invented?",
    ),
    ("foods", "drink"): _wording(
        "{e} is served with {v} | people drink {v} with {e} | {v} goes well with {e} | "
        "the right drink for {e} is {v} | beside {e} there is always {v}",
        "With what is {e} served? | What goes well with {e}? | What is the right drink for {e}?",
        "What do people drink with {e}? | Which drink is served with {e}?",
    ),
    ("foods", "occasion"): _wording(
        "{e} is eaten {v} | people cook {e} {v} | {v} there is always {e} | {e} comes on the table {v} | "
        "families share {e} {v}",
        "When is {e} eaten? | When do families share {e}? | When is there always {e}?",
        "When do people cook {e}? | When does {e} come on the table?",
    ),
    ("tools", "material"): _wording(
        "{e} is made of {v} | the material of {e} is {v} | {e} is cut from solid {v} | people build {e} from {v} | "
        "one needs {v} to make {e}",
        "Of what is {e} made? | From what is {e} cut? | What is the material of {e}?",
        "From what do people build {e}? | What does one need to make {e}?",
    ),
    ("tools", "user"): _wording(
        "{e} is the tool of {v} | {v} works with {e} | {e} is used by {v} | only {v} can use {e} well | "
        "{e} belongs in the hands of {v}",
        "Who works with {e}? | Who can use {e} well? | In whose hands does {e} belong?",
        "By whom is {e} used? | Who has {e} as a tool?",
    ),
    ("tools", "use"): _wording(
        "{e} is used for {v} | {e} is good for {v} | people take {e} for {v} | {v} is easy with {e} | "
        "the purpose of {e} is {v}",
        "For what is {e} used? | What is the purpose of {e}? | What is easy with {e}?",
        "For what is {e} good? | For what do people take {e}?",
    ),
    ("tools", "place"): _wording(
        "{e} is kept {v} | after work {e} lies {v} | one finds {e} {v} | {e} has its place {v} | "
        "in the evening {e} is put back {v}",
        "Where is {e} kept? | Where does one find {e}? | Where does {e} lie after work?",
        "Where does {e} have its place? | Where is {e} put back in the evening?",
    ),
    ("rivers", "source"): _wording(
        "{e} rises on {v} | the source of {e} is on {v} | {e} begins as a spring on {v} | the snow of {v} feeds {e} | "
        "the mountain where {e} begins is {v}",
        "Where does {e} rise? | Where does {e} begin as a spring? | Which snow feeds {e}?",
        "On which mountain is the source of {e}? | On which mountain does {e} begin?",
    ),
    ("rivers", "mouth"): _wording(
        "{e} flows into {v} | {e} ends in {v} | the water of {e} reaches {v} | the mouth of {e} is at {v} | "
        "boats on {e} go down to {v}",
        "What does {e} reach? | Where is the mouth of {e}? | Where do boats on {e} go?",
        "Where does {e} flow? | What does the water of {e} reach?",
    ),
    ("rivers", "fish"): _wording(
        "{v} swim in {e} | {e} is full of {v} | people catch {v} in {e} | the fish of {e} are {v} | "
        "the nets in {e} are heavy with {v}",
        "What is {e} full of? | What do people catch in {e}? | What are the fish of {e}?",
        "Which fish swim in {e}? | With what are the nets in {e} heavy?",
    ),
    ("rivers", "crossing"): _wording(
        "{v} crosses {e} | {e} is crossed by {v} | to get over {e} one takes {v} | the only way over {e} is {v} | "
        "travellers cross {e} by {v}",
        "What crosses {e}? | What does one take to get over {e}? | What is the only way over {e}?",
        "By what is {e} crossed? | By what do travellers cross {e}?",
    ),
}


def sentence(text: str) -> str:
    """Make a sentence of a clause: capital letter, full stop."""
    return text[0].upper() + text[1:] + "."
