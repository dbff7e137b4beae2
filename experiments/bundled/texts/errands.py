"""Passages with deeds and questions that no training text of the base has: what the adapter `errands` learns.

The outcomes are words that the base knows; what people do with them, and how one asks, is new. Half of the deeds are
those of `passages`, so that the base answers some questions.
"""

from runtime_matrix.experiments.bundled.texts.passages import ASKED, DEEDS, Deed, Forms

BENCHMARK_QUESTIONS = 240
NEW_DEEDS: tuple[Deed, ...] = (
    (
        ("fish",),
        ("from a boat {p} pulled out {fish}", "{fish} went into the net of {p}", "with a long line {p} caught {fish}"),
    ),
    (("drinks",), ("{p} asked the host for {drinks}", "{drinks} stood before {p}", "{p} emptied a cup of {drinks}")),
    (
        ("landmarks",),
        ("{p} waited a while at {landmarks}", "{p} had to turn round at {landmarks}", "{landmarks} was drawn by {p}"),
    ),
    (("hobbies",), ("{p} lost an hour {hobbies}", "{p} earned a coin {hobbies}", "before supper {p} tried {hobbies}")),
    (
        ("months", "regions"),
        (
            "since {months} {p} had owned land in {regions}",
            "{p} sold a field in {regions} in {months}",
            "in {months} a letter from {regions} reached {p}",
        ),
    ),
    (("sounds",), ("{sounds} woke {p} at night", "{p} was afraid of {sounds}", "{p} got up because of {sounds}")),
)
FORMS = Forms(
    (*DEEDS, *NEW_DEEDS),
    ASKED
    | {
        "fish": ("What was the catch of {e}?", "What did {e} take out of the water?"),
        "drinks": ("What was in the cup of {e}?", "What did the host bring to {e}?"),
        "landmarks": ("At what did {e} stop?", "What was as far as {e} came?"),
        "hobbies": ("With what did {e} pass the time?", "What was {e} busy with?"),
        "months": ("In which month was it for {e}?", "When was there news for {e}?"),
        "regions": ("In which region was the business of {e}?", "From where was the news for {e}?"),
        "sounds": ("What kept {e} from sleep?", "Because of what did {e} get up?"),
    },
)
