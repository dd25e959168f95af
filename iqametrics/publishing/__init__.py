"""From a training run to the Hub: upload, what stays private, model cards, files of other projects."""
