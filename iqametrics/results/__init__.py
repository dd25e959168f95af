"""Open results: what a metric scored on which images, so that others can check it and put theirs beside it.

A result is one JSON file. `schema.json` is its form; `record` makes one, `check` finds what is wrong with one, with or
without the images at hand, and `table` puts many in order. No opinion score of an image stands in it, since datasets do
not allow that: a digest does, and who has the dataset computes the figures again.
"""

TRAINED = {
    "no": "no step of training and no choice of a model used these images",
    "choice": "models were compared, or weights chosen, on these images",
    "yes": "some of these images were trained on",
}
"""Whether, and how, a checkpoint knows the images that it is measured on."""
